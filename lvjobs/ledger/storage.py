"""The file system that holds a study, and the consequences for the study, in words."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import psutil

from lvjobs import remedies

NETWORK = frozenset(
    {
        *("nfs", "nfs3", "nfs4", "lustre", "gpfs", "mmfs", "beegfs", "fhgfs", "ceph", "fuse.ceph", "cifs", "smb3"),
        *("glusterfs", "fuse.glusterfs", "panfs", "pvfs2", "orangefs", "afs", "wekafs", "fuse.sshfs", "9p", "virtiofs"),
    }
)
NETWORK_SECONDS = 60.0
"""How long a client of a network file system may not see what another host wrote (NFS: acregmax, acdirmax)."""

IN_MEMORY = frozenset({"tmpfs", "ramfs"})
IN_A_CONTAINER = frozenset({"overlay", "fuse-overlayfs", "fuse.fuse-overlayfs", "aufs"})

_FEW_BYTES, _NO_BYTES = 1 << 30, 16 << 20
_FEW_FILES = 10_000


@dataclass(frozen=True)
class Storage:
    """The file system of a directory: its type (empty: unknown) and the space that is free there for this user.

    `free_files` is None where the file system does not count them.
    """

    path: str
    mount: str
    kind: str
    read_only: bool
    free_bytes: int
    total_bytes: int
    free_files: int | None


def storage_of(directory: Path) -> Storage:
    """Return the file system that holds `directory`. Raises OSError where there is no such directory."""
    path = directory.resolve(strict=True)
    counts = os.statvfs(path)
    mount = mount_of(path, psutil.disk_partitions(all=True))
    return Storage(
        path=str(path),
        mount=mount.mountpoint if mount else "",
        kind=mount.fstype if mount else "",
        read_only=bool(counts.f_flag & os.ST_RDONLY) or (mount is not None and "ro" in mount.opts.split(",")),
        free_bytes=counts.f_bavail * counts.f_frsize,
        total_bytes=counts.f_blocks * counts.f_frsize,
        free_files=counts.f_favail if counts.f_files else None,
    )


def unseen_seconds(directory: Path) -> float:
    """Return for how many seconds this host may not see what another wrote there. Raises OSError if it is missing."""
    return NETWORK_SECONDS if storage_of(directory).kind in NETWORK else 0.0


def mount_of(path: PurePath, mounts: Sequence[Any]) -> Any:
    """Return the mount of `psutil.disk_partitions` that holds `path` (absolute, without links); None for none. Pure.

    It is the deepest one, and of two on one point the later.
    """
    holding = [mount for mount in mounts if path.is_relative_to(mount.mountpoint)]
    return max(reversed(holding), key=lambda mount: len(PurePath(mount.mountpoint).parts), default=None)


def describe(storage: Storage) -> str:
    """Return one line: `nfs4 at /home, 12.0 of 100.0 GiB free`."""
    kind = storage.kind or "a file system of unknown type"
    where = f" at {storage.mount}" if storage.mount else ""
    return f"{kind}{where}, {storage.free_bytes / 2**30:.1f} of {storage.total_bytes / 2**30:.1f} GiB free"


@dataclass(frozen=True)
class Concern:
    """A problem of the storage that a user should know. `serious`: the study cannot continue like this."""

    what: str
    remedy: str
    serious: bool = False


def concerns(storage: Storage, *, on_slurm: bool, where: Sequence[str] = ()) -> Iterator[Concern]:
    """Yield the problems of the storage for jobs on other machines (`on_slurm`) or on this one. Pure.

    `where`: see `StudyContext.where`.
    """
    if storage.read_only:
        yield Concern(
            f"{storage.mount or storage.path} is mounted read-only here, so that nothing of the study can be written",
            "use a writable directory, or have it mounted again",
            serious=True,
        )
    if storage.kind in IN_MEMORY:
        lost = "other machines cannot see it, so a job there would find no run directory; " if on_slurm else ""
        yield Concern(
            f"{storage.kind} is this machine's memory: {lost}it is lost when the machine restarts",
            "move the study to a file system that " + ("all nodes share" if on_slurm else "lasts"),
            serious=on_slurm,
        )
    elif storage.kind in IN_A_CONTAINER:
        yield Concern(
            f"{storage.kind} is a container's own layer: it is lost with the container, and invisible outside it",
            "move the study to a directory that is mounted into the container",
            serious=on_slurm,
        )
    elif storage.kind in NETWORK:
        yield Concern(
            f"{storage.kind} is a network file system: its locks are unreliable, and changes may be visible a minute "
            f"late. lvjobs allows for that; other programs that open runs.db may not",
            f"read it with {remedies.LEDGER_EXPORT(*where)}, or read a copy: {remedies.LEDGER_BACKUP(*where)}",
        )
    elif on_slurm and storage.kind:
        yield Concern(
            f"{storage.kind} is a local file system: jobs on other nodes find the study only if they mount it too",
            "make sure that nodes mount it, or move the study to a shared file system",
        )
    yield from _shortage(storage)


def _shortage(storage: Storage) -> Iterator[Concern]:
    remedy = "free disk space, or lower keep_last under [train] in study.toml"
    if storage.free_bytes < _FEW_BYTES:
        few = f"only {storage.free_bytes / 2**20:.0f} MiB are free: a checkpoint that does not fit fails its attempt"
        yield Concern(few, remedy, serious=storage.free_bytes < _NO_BYTES)
    if storage.free_files is not None and storage.free_files < _FEW_FILES:
        few = f"only {storage.free_files} more files can be made there (inodes): each checkpoint needs one"
        yield Concern(few, remedy, serious=storage.free_files == 0)
