"""The processes of one node that train a run together, as each of them sees it: its rank, and sums over all.

accelerate joins them, by NCCL where there are GPUs and by gloo where there are none, over the loopback alone.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lvjobs.errors import LvjobsError

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = timedelta(minutes=10)
"""How long one waits for another that neither answers nor dies: the first process may be writing a checkpoint."""


class PeerLost(LvjobsError):
    """Another process of the team no longer answers."""


class Alone:
    """A team of one."""

    rank = 0
    size = 1

    def add_up(self, tensor: "Tensor") -> None:
        """Nothing is to be added."""

    def agree(self, flag: bool) -> bool:
        """The flag itself."""
        return flag


class ProcessGroup:
    """A team of several."""

    def __init__(self, rank: int, size: int, device: Any) -> None:
        self.rank, self.size, self._device = rank, size, device

    def add_up(self, tensor: "Tensor") -> None:
        """Replace the tensor, in every process, by its sum over all of them; all call it at the same point.

        Raises:
            PeerLost: one of them is gone, or stuck.
        """
        import torch

        moved = tensor.to(self._device)
        try:
            torch.distributed.all_reduce(moved)
        except RuntimeError as error:
            raise PeerLost(str(error)) from error
        if moved is not tensor:
            tensor.copy_(moved)

    def agree(self, flag: bool) -> bool:
        """Whether any of them says so."""
        import torch

        votes = torch.tensor([float(flag)])
        self.add_up(votes)
        return bool(votes.item())


def own_device(rank: int, visible: str | None) -> str:
    """What CUDA_VISIBLE_DEVICES has to be for a process that trains on one GPU of those that the job was given."""
    return str(rank) if visible is None else visible and visible.split(",")[rank]


def check_devices(size: int) -> None:
    """See to it that each process gets a GPU of its own, or none has one. Nothing of CUDA is started by this.

    Raises:
        LvjobsError: there are fewer.
    """
    import torch

    there = torch.cuda.device_count()
    if 0 < there < size:
        raise LvjobsError(
            f"{size} processes are to train together, one a GPU, and this job sees {there}; set gpus = {size} under "
            "[resources]"
        )


def join(rank: int, size: int, meeting: Path) -> ProcessGroup:
    """Become one of the team: returns once all have come. `meeting` is a file on this node, which nobody else uses.

    Raises:
        PeerLost: one did not come.
    """
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_RANK=str(rank),
        LOCAL_WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        GLOO_SOCKET_IFNAME="lo",
        NCCL_SOCKET_IFNAME="lo",
        CUDA_VISIBLE_DEVICES=own_device(rank, os.environ.get("CUDA_VISIBLE_DEVICES")),
    )
    import torch
    from accelerate.state import PartialState
    from torch.distributed import FileStore  # type: ignore[attr-defined] # it is, though not by name

    try:
        store = FileStore(str(meeting), size)  # not init_method, a URL, in which a ? or # of the path has a meaning
        store.set_timeout(PATIENCE)
        state = PartialState(
            cpu=not torch.cuda.is_available(),
            store=store,
            rank=rank,
            world_size=size,
            timeout=PATIENCE,
        )
    except RuntimeError as error:
        raise PeerLost(f"the {size} processes did not find one another: {error}") from error
    return ProcessGroup(rank, size, state.device)
