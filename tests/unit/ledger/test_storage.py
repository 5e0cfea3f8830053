"""The storage of a study, looked up and described: by the kernel's list of mounts, and by what is free."""

from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import psutil
import pytest

from lvjobs.ledger.storage import Storage, concerns, describe, mount_of, storage_of

GIB = 1 << 30
DISK = Storage("/study", "/", "ext4", read_only=False, free_bytes=50 * GIB, total_bytes=100 * GIB, free_files=10**6)


def a_mount(point, kind, options):
    return SimpleNamespace(mountpoint=point, fstype=kind, opts=options)


def told(storage, *, on_slurm):
    return [(concern.what, concern.serious) for concern in concerns(storage, on_slurm=on_slurm)]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/study", "nfs4"),
        ("/home", "nfs4"),
        ("/homestead", "ext4"),
        ("/scratch/with space/x", "lustre"),
        ("/", "ext4"),
    ],
)
def test_the_deepest_mount_holds_a_path_and_of_two_on_one_point_the_later(path, kind):
    mounts = [
        a_mount("/", "rootfs", ""),
        a_mount("/", "ext4", ""),
        a_mount("/home", "autofs", ""),
        a_mount("/home", "nfs4", "rw,vers=4.2"),
        a_mount("/scratch/with space", "lustre", ""),
    ]
    assert mount_of(PurePosixPath(path), mounts).fstype == kind
    assert mount_of(PurePosixPath(path), []) is None


def test_a_real_directory(tmp_path):
    found = storage_of(tmp_path)
    assert found.total_bytes == psutil.disk_usage(str(tmp_path)).total
    assert found.kind in {partition.fstype for partition in psutil.disk_partitions(all=True)}
    assert tmp_path.resolve().is_relative_to(found.mount)
    assert storage_of(Path("/proc")).kind == "proc"
    with pytest.raises(FileNotFoundError):
        storage_of(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "gpfs", "beegfs"])
def test_a_network_file_system_is_told_and_is_no_fault(kind):
    for on_slurm in (True, False):
        ((what, serious),) = told(replace(DISK, kind=kind), on_slurm=on_slurm)
        assert what.startswith(f"{kind} is a network file system: its locks are unreliable")
        assert not serious


def test_this_machines_memory():
    ((what, serious),) = told(replace(DISK, kind="tmpfs"), on_slurm=True)
    assert "other machines cannot see it" in what
    assert serious
    ((what, serious),) = told(replace(DISK, kind="tmpfs"), on_slurm=False)
    assert "lost when the machine restarts" in what
    assert "other machines" not in what
    assert not serious


def test_a_local_disk_matters_only_where_jobs_run_elsewhere():
    assert told(DISK, on_slurm=False) == []
    ((what, serious),) = told(DISK, on_slurm=True)
    assert "only if they mount it too" in what
    assert not serious


def test_read_only_full_and_out_of_inodes():
    ((what, serious),) = told(replace(DISK, read_only=True), on_slurm=False)
    assert "read-only" in what
    assert serious
    assert told(replace(DISK, free_bytes=300 << 20), on_slurm=False) == [
        ("only 300 MiB are free: a checkpoint that does not fit fails its attempt", False)
    ]
    ((_, serious),) = told(replace(DISK, free_bytes=0), on_slurm=False)
    assert serious
    ((what, serious),) = told(replace(DISK, free_files=0), on_slurm=False)
    assert "0 more files" in what
    assert serious
    assert told(replace(DISK, free_files=None), on_slurm=False) == []


def test_in_one_line():
    assert describe(DISK) == "ext4 at /, 50.0 of 100.0 GiB free"
    assert describe(replace(DISK, kind="", mount="")).startswith("a file system of unknown type, 50.0")
