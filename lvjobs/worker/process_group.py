"""The process group of one node that trains a run together: its ranks, and sums over all of them.

accelerate joins the processes over the loopback interface only: by NCCL if there are GPUs, else by gloo.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lvjobs.errors import LvjobsError

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = timedelta(minutes=10)
"""The longest wait for a process that neither answers nor ends: the first process may be writing a checkpoint."""


class PeerLost(LvjobsError):
    """Another process of the group no longer answers."""


class Alone:
    """A group of one process."""

    rank = 0
    size = 1

    def add_up(self, tensor: "Tensor") -> None:
        """Do nothing: there is no other process."""

    def agree(self, flag: bool) -> bool:
        """Return the flag."""
        return flag


class ProcessGroup:
    """A group of several processes."""

    def __init__(self, rank: int, size: int, device: Any) -> None:
        self.rank, self.size, self._device = rank, size, device

    def add_up(self, tensor: "Tensor") -> None:
        """Replace the tensor, in every process, by its sum over all of them; all call this at the same point.

        Raises:
            PeerLost: a process is gone, or stuck.
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
        """Return whether the flag is set in any process."""
        import torch

        votes = torch.tensor([float(flag)])
        self.add_up(votes)
        return bool(votes.item())


def own_device(rank: int, visible: str | None) -> str:
    """Return the CUDA_VISIBLE_DEVICES for a process that trains on one of the GPUs that the job was given."""
    return str(rank) if visible is None else visible and visible.split(",")[rank]


def check_devices(size: int) -> None:
    """Check that each process gets a GPU of its own, or that there is none. This does not start CUDA.

    Raises:
        LvjobsError: there are some GPUs, but fewer than `size`.
    """
    import torch

    there = torch.cuda.device_count()
    if 0 < there < size:
        raise LvjobsError(
            f"{size} processes are to train together, one a GPU, and this job sees {there}; set gpus = {size} under "
            "[resources]"
        )


def join(rank: int, size: int, meeting: Path) -> ProcessGroup:
    """Join the group, and return once all have joined. `meeting` is a file on this node that nothing else uses.

    Raises:
        PeerLost: a process did not join.
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
