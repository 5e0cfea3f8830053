"""Files that torch writes: each cut is reported, except where a shard ends with a whole part."""

import io
import os
import pickletools

import pytest
import torch
import torch.distributed.checkpoint as dcp
from cut_files import Cutter

from lvjobs.worker.program.formats import flaw_of

pytestmark = pytest.mark.heavy


def saved(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def shards(directory, state):
    writer = dcp.FileSystemWriter(directory, thread_count=2)
    with pytest.warns(UserWarning, match="single process"):
        dcp.save(state, storage_writer=writer, no_dist=True)
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The content of each file by its name."""
    shared = torch.arange(12.0).reshape(3, 4)
    model = {"w": shared, "row": shared[1], "b": torch.ones(3, dtype=torch.bfloat16), "step": 3, "name": "a.b."}
    types = [torch.zeros(5, dtype=kind) for kind in (torch.float8_e4m3fn, torch.uint16, torch.complex64, torch.bool)]
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    state = {
        "model": layer.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state()[:99].clone(),
    }
    old = {"_use_new_zipfile_serialization": False}
    return {
        "new.pt": saved(model),
        "state.pth.tar": saved(state),
        "pytorch_model.bin": saved(model, **old),
        "old.ckpt": saved(state, **old),
        "types.pth": saved([*types, layer.weight.untyped_storage()], **old),
        "protocol4.pt": saved(state, pickle_protocol=4, **old),
        "no_tensors.tar": saved({"step": 1}, **old),
        **shards(tmp_path_factory.mktemp("shards"), {"w": shared, "b": torch.ones(2), "step": 5}),
    }


NAMES = ["new.pt", "state.pth.tar", "pytorch_model.bin", "old.ckpt", "types.pth", "protocol4.pt", "no_tensors.tar"]
SHARDS = [".metadata", "__0_0.distcp", "__0_1.distcp"]


@pytest.mark.parametrize("name", [*NAMES, ".metadata", "__0_1.distcp"])
def test_a_whole_file_is_whole_and_each_cut_is_reported(tmp_path, made, name):
    cutter = Cutter(tmp_path / name, made[name])
    assert flaw_of(cutter.path) == ""
    assert cutter.unreported() == ([0] if name == "__0_1.distcp" else [])


def test_a_shard_of_several_parts_is_whole_until_a_part_is_cut(tmp_path, made):
    cutter = Cutter(tmp_path / "__0_0.distcp", made["__0_0.distcp"])
    assert flaw_of(cutter.path) == ""
    first = made["__0_0.distcp"].index(b"PK\x05\x06") + 22
    assert cutter.unreported() == [first, 0]


def test_a_part_of_a_shard_that_was_never_written_is_reported(tmp_path, made):
    path, data = tmp_path / "__0_0.distcp", made["__0_0.distcp"]
    first = data.index(b"PK\x05\x06") + 22
    path.write_bytes(data[: first - 500] + bytes(500) + data[first:])
    assert flaw_of(path) == "zip: its directory is missing, zeros are in its place"
    path.write_bytes(data[:200] + bytes(first - 200) + data[first:])
    assert flaw_of(path) == "zip: its directory is missing, zeros are in its place"


@pytest.mark.parametrize("name", [*NAMES, *SHARDS])
@pytest.mark.parametrize("length", [1, 8, 512, 70_000])
def test_zeros_at_the_end_are_reported(tmp_path, made, name, length):
    path = tmp_path / name
    path.write_bytes(made[name] + bytes(length))
    assert flaw_of(path)


@pytest.mark.parametrize("name", [*NAMES, *SHARDS])
def test_the_end_that_was_never_written_is_reported(tmp_path, made, name):
    path, data = tmp_path / name, made[name]
    for start in range(32, len(data) // 2, 7):  # the last tensor may be zeros; it is shorter, whichever that is
        path.write_bytes(data[:start])
        os.truncate(path, len(data))
        assert flaw_of(path), start


@pytest.mark.parametrize("name", [*NAMES, *SHARDS])
def test_damaged_bytes_raise_no_error(tmp_path, made, name):
    path, data = tmp_path / name, made[name]
    path.write_bytes(data)
    with path.open("r+b", buffering=0) as stream:
        for at in range(0, len(data), 13):
            for value in (bytes(8), b"\xff" * 8, b"."):
                os.pwrite(stream.fileno(), value[: len(data) - at], at)
                assert isinstance(flaw_of(path), str)
                os.pwrite(stream.fileno(), data[at : at + len(value)], at)
    assert flaw_of(path) == ""


def test_a_storage_that_was_never_written_is_reported(tmp_path, made):
    path, data = tmp_path / "old.ckpt", made["old.ckpt"]
    stream = io.BytesIO(data)
    for _ in range(5):  # pickles, then the storages
        list(pickletools.genops(stream))
    path.write_bytes(data[: stream.tell()])
    os.truncate(path, len(data))
    assert flaw_of(path).startswith("torch: the size of storage 1 of ")


def test_a_zip_whose_checksums_torch_left_out_is_whole(tmp_path):
    path = tmp_path / "fast.pt"
    computed = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        path.write_bytes(saved({"w": torch.ones(3)}))
    finally:
        torch.serialization.set_crc32_options(computed)
    assert flaw_of(path) == ""


def test_a_storage_of_unknown_type_is_no_flaw(tmp_path, made):
    path = tmp_path / "old.ckpt"
    path.write_bytes(made["old.ckpt"].replace(b"FloatStorage", b"Int12Storage"))
    assert flaw_of(path) == ""
