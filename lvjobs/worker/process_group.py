"""The process group that trains a run together: its ranks, and sums over all of them.

accelerate joins the processes: by NCCL if there are GPUs, else by gloo. On one node they meet in a file, and speak over
the loopback interface only. On several nodes they meet at a port of the first one.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lvjobs.errors import LvjobsError

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = timedelta(minutes=10)
"""The longest wait for a process that neither answers nor ends: the first process may be writing a checkpoint."""


LOOPBACK = "lo"
_OF_GLOO, _OF_NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"


class PeerLost(LvjobsError):
    """Another process of the group no longer answers."""


@dataclass(frozen=True)
class Place:
    """The place of a process in its group: `rank` of `size`, and `local_rank` of the `local_size` of its node."""

    rank: int
    size: int
    local_rank: int
    local_size: int


class Address(NamedTuple):
    """The address at which the processes of several nodes meet: the first process listens there."""

    host: str
    port: int


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


def own_device(place: Place, visible: str | None) -> str | None:
    """Return the CUDA_VISIBLE_DEVICES of a process: one GPU of those of the job, or all if it is alone on its node.

    `visible` is the value that the job has; None: it is not set.
    """
    if place.local_size == 1:
        return visible
    return str(place.local_rank) if visible is None else visible and visible.split(",")[place.local_rank]


def count_devices(place: Place) -> int:
    """Return the GPUs that this process sees: one for each process of its node, or none. This does not start CUDA.

    Raises:
        LvjobsError: there are some GPUs, but fewer than processes.
    """
    import torch

    there = torch.cuda.device_count()
    if 0 < there < place.local_size:
        raise LvjobsError(
            f"{place.local_size} processes are to train together, one a GPU, and this job sees {there}; set gpus = "
            f"{place.local_size} under [resources]"
        )
    return there


def variables_of(place: Place, meeting: Path | Address, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which torch and accelerate find the group, and the interface on which it speaks.

    On several nodes gloo would take the interface of the host's own name, which on some machines is the loopback. So it
    gets the one that leads to the first node, unless the job's environment names one. NCCL chooses well by itself.
    """
    found = {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.size),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(place.local_size),
        "MASTER_ADDR": "127.0.0.1" if isinstance(meeting, Path) else meeting.host,
    }
    if isinstance(meeting, Path):
        return {**found, _OF_GLOO: LOOPBACK, _OF_NCCL: LOOPBACK}
    found["MASTER_PORT"] = str(meeting.port)
    interface = environ.get(_OF_GLOO) or interface_to(meeting)
    if interface:
        found[_OF_GLOO] = interface
    if interface == LOOPBACK:
        found[_OF_NCCL] = LOOPBACK
    return found


def interface_to(address: Address) -> str:
    """Return the network interface by which this node reaches another one; empty if that is not known."""
    import psutil

    try:
        family, kind, _, _, there = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(there)  # chooses the way there, and sends nothing
            own = probe.getsockname()[0]
    except OSError:
        return ""
    by_name = {name: {each.address for each in found} for name, found in psutil.net_if_addrs().items()}
    return next((name for name, addresses in by_name.items() if own in addresses), "")


def join(place: Place, meeting: Path | Address) -> ProcessGroup:
    """Join the group, and return once all have joined. `meeting` is a file on this node that nothing else uses.

    Raises:
        LvjobsError: there are too few GPUs on this node.
        PeerLost: a process did not join.
    """
    if count_devices(place) and (own := own_device(place, os.environ.get("CUDA_VISIBLE_DEVICES"))):
        os.environ["CUDA_VISIBLE_DEVICES"] = own  # a job on CPUs may have it too, with fewer devices than processes
    os.environ.update(variables_of(place, meeting, os.environ))
    import torch
    from accelerate.state import PartialState
    from torch.distributed import FileStore, Store, TCPStore  # type: ignore[attr-defined] # they are, though not by name

    store: Store
    try:
        if isinstance(meeting, Path):
            store = FileStore(str(meeting), place.size)  # not init_method, a URL, in which a ? or # has a meaning
            store.set_timeout(PATIENCE)
        else:
            store = TCPStore(
                meeting.host,
                meeting.port,
                place.size,
                is_master=place.rank == 0,
                timeout=PATIENCE,
                wait_for_workers=False,
            )
        state = PartialState(
            cpu=not torch.cuda.is_available(),
            store=store,
            rank=place.rank,
            world_size=place.size,
            timeout=PATIENCE,
        )
    except RuntimeError as error:
        raise PeerLost(f"the {place.size} processes did not find one another: {error}") from error
    return ProcessGroup(place.rank, place.size, state.device)
