"""Files of other programs: each is made by the library that programs use, then cut and damaged at every place that matters."""

import gzip
import io
import json
import math
import os
import pickle
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
from cut_files import Cutter
from safetensors.numpy import save

from lvjobs.worker.program.formats import flaw_of
from lvjobs.worker.program.formats.reading import ALL_OF_IT

VALUES = {"step": 12, "names": ["torch.float32", "a.b", "."], "nested": {"x": (1.5, None, True), "b": b"..." * 400}}


def npz():
    stream = io.BytesIO()
    np.savez(stream, weights=np.arange(40.0), step=np.int64(3))
    return stream.getvalue()


def npy(*arrays):
    stream = io.BytesIO()
    for array in arrays:
        np.save(stream, array)
    return stream.getvalue()


def hdf5(**options):
    stream = io.BytesIO()
    with h5py.File(stream, "w", **options) as file:
        file["weights"] = np.arange(20.0)
        file["deep/bias"] = np.ones(3)
    return stream.getvalue()


def tar(kind):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        for name, length in (("model.bin", 700), ("empty", 0), ("deep/" * 24 + "name", 512)):
            member = tarfile.TarInfo(name)
            member.size = length
            archive.addfile(member, io.BytesIO(b"x" * length))
    return stream.getvalue()


def zipped(method=zipfile.ZIP_DEFLATED, comment=b""):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("data", b"some data" * 30)
        archive.writestr("inner.zip", npz())
        archive.comment = comment
    return stream.getvalue()


MADE = {
    "arrays.npz": npz,
    "nothing.npz": lambda: (np.savez(stream := io.BytesIO()), stream.getvalue())[1],
    "array.npy": lambda: npy(np.arange(30, dtype=">i2").reshape(5, 6)),
    "texts.npy": lambda: npy(np.array(["a", "longer"])),
    "fields.npy": lambda: npy(np.zeros(3, dtype=[("x", "<f4", (2, 2)), ("y", [("z", "?"), ("t", "<M8[ns]")])])),
    "objects.npy": lambda: npy(np.array([{"a": 1}, "b.c", None], dtype=object)),
    "scalar.npy": lambda: npy(np.float16(2)),
    "model.json": lambda: json.dumps(VALUES | {"nested": [float("nan"), {}]}, indent=1).encode(),
    "old.h5": hdf5,
    "new.hdf5": lambda: hdf5(libver="latest"),
    "block.h5": lambda: hdf5(userblock_size=1024),
    "model.safetensors": lambda: save({"w": np.arange(12.0), "b": np.ones((2, 3), np.float16)}, {"format": "np"}),
    "empty.safetensors": lambda: save({}),
    "state.json.gz": lambda: gzip.compress(json.dumps([VALUES["names"]] * 20).encode()),
    "archive.zip": zipped,
    "comment.zip": lambda: zipped(zipfile.ZIP_STORED, b"a comment with PK\x05\x06 in it, and some more text"),
    "plain.pkl": lambda: pickle.dumps(VALUES, 2),
    "framed.pickle": lambda: pickle.dumps(VALUES | {"long": "." * 70_000}, 4),
    "newest.ckpt": lambda: pickle.dumps([VALUES, bytearray(b".." * 30)], 5),
}


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_whole_file_is_whole_and_each_cut_is_reported(tmp_path, name):
    cutter = Cutter(tmp_path / name, MADE[name]())
    assert flaw_of(cutter.path) == ""
    assert cutter.unreported() == []


@pytest.mark.parametrize("name", sorted(MADE))
@pytest.mark.parametrize("length", [1, 8, 512, 70_000])
def test_zeros_at_the_end_are_reported(tmp_path, name, length):
    path = tmp_path / name
    path.write_bytes(MADE[name]() + bytes(length))
    assert flaw_of(path)


@pytest.mark.parametrize("name", sorted(set(MADE) - {"nothing.npz", "empty.safetensors"}))
def test_a_file_of_zeros_is_reported(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bytes(len(MADE[name]())))
    assert flaw_of(path)


@pytest.mark.parametrize("name", [*sorted(MADE), "model.tar", "log.jsonl"])
def test_damaged_bytes_raise_no_error(tmp_path, name):
    others = {"model.tar": lambda: tar(tarfile.PAX_FORMAT), "log.jsonl": lambda: b'{"step": 1}\n{"step": [2]}\n'}
    path, data = tmp_path / name, (MADE | others)[name]()
    path.write_bytes(data)
    with path.open("r+b", buffering=0) as stream:
        for at in range(0, len(data), 1 if len(data) < 4096 else 37):
            for value in (b"\0" * 8, b"\xff" * 8, b"9"):
                os.pwrite(stream.fileno(), value[: len(data) - at], at)
                assert isinstance(flaw_of(path), str)
                os.pwrite(stream.fileno(), data[at : at + len(value)], at)
    assert flaw_of(path) == ""


@pytest.mark.parametrize(
    "name",
    [
        "a.pt",
        "a.pth.tar",
        "a.ckpt",
        "a.bin",
        "a.npz",
        "a.npy",
        "a.h5",
        "a.json",
        "a.safetensors",
        "a.gz",
        ".metadata",
        "A.PT",
    ],
)
def test_an_empty_file_is_not_whole(tmp_path, name):
    (tmp_path / name).touch()
    assert flaw_of(tmp_path / name) == "it is empty"


@pytest.mark.parametrize("name", ["log.jsonl", "__0_1.distcp", "notes.txt", "RUNNING", "pt"])
def test_a_file_that_may_be_empty_is_whole(tmp_path, name):
    (tmp_path / name).touch()
    assert flaw_of(tmp_path / name) == ""


@pytest.mark.parametrize("name", ["weights.bin", "notes.txt", "state.ckpt", "words.metadata", "model"])
def test_a_file_of_unknown_content_counts_as_whole(tmp_path, name):
    (tmp_path / name).write_bytes(b"12 words of an unknown format")
    assert flaw_of(tmp_path / name) == ""


def test_numbers_that_begin_as_a_pickle_does_are_no_pickle(tmp_path):
    path = tmp_path / "tokens.bin"
    path.write_bytes(np.array([640, 7], np.uint16).tobytes())
    assert flaw_of(path) == ""


def test_content_goes_before_the_name(tmp_path):
    path = tmp_path / "snapshot"
    path.write_bytes(npz()[:-1])
    assert flaw_of(path) == "zip: its directory is missing"


def test_the_end_of_a_zip_that_was_never_written_is_reported(tmp_path):
    path, data = tmp_path / "snapshot.npz", npz()
    path.write_bytes(data[:400])
    os.truncate(path, len(data))
    assert flaw_of(path) == "zip: its directory is missing, zeros are in its place"


def test_a_hole_in_a_zip_is_found_by_the_header_of_an_entry(tmp_path):
    path, data = tmp_path / "snapshot.npz", npz()
    second = data.index(b"PK\x03\x04", 4)
    path.write_bytes(data[:second] + bytes(40) + data[second + 40 :])
    assert flaw_of(path) == "zip: the header of entry 2 of 2 is missing (zeros are in its place)"


def test_a_zip_of_many_entries_and_of_zip64_is_whole(tmp_path):
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("entry")
        archive.writestr(entry, b"")
        archive.filelist *= 0x10000  # more than fit into the record of 22 bytes
    assert flaw_of(path) == ""
    os.truncate(path, path.stat().st_size - 1)
    assert flaw_of(path) == "zip: its directory is missing"


def test_a_zip_of_10_gb_is_checked_by_a_few_reads(tmp_path):
    path, hole = tmp_path / "large.npz", 10 << 30
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("hole", "w", force_zip64=True) as entry:
            archive.fp.seek(hole, os.SEEK_CUR)  # as if zeros had been written
            entry._file_size = entry._compress_size = hole
        archive.writestr("behind", b"the hole")
    assert flaw_of(path) == ""
    with path.open("r+b") as stream:
        end = stream.seek(-300, os.SEEK_END)
        behind = stream.seek(end + stream.read().index(b"PK\x03\x04"))
        stream.write(b"damage")
    assert behind > hole
    assert flaw_of(path) == "zip: the header of entry 2 of 2 is missing"
    os.truncate(path, path.stat().st_size - 1)
    assert flaw_of(path) == "zip: its directory is missing"


def test_an_entry_of_a_zip_that_is_larger_than_the_file_is_reported(tmp_path):
    path, data = tmp_path / "snapshot.npz", bytearray(npz())
    data[data.index(b"PK\x01\x02") + 22] = 1  # 64 KiB more
    path.write_bytes(data)
    assert flaw_of(path) == "zip: an entry reaches into its directory"


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_is_whole_until_its_two_blocks_of_zeros_are_cut(tmp_path, kind):
    data = tar(kind)
    end = math.ceil(len(data.rstrip(b"\0")) / 512) * 512 + 1024
    cutter = Cutter(tmp_path / "model.tar", data)
    assert flaw_of(cutter.path) == ""
    assert [length for length in cutter.unreported() if length < end] == []
    cutter.path.write_bytes(data[:end])
    assert flaw_of(cutter.path) == ""


def test_zeros_beyond_the_last_record_of_a_tar_are_reported(tmp_path):
    path, data = tmp_path / "model.tar", tar(tarfile.GNU_FORMAT)
    for start in (512, len(data)):  # the first member has a header only; every member is there
        path.write_bytes(data[:start] + bytes(20_000))
        assert "too many at the end" in flaw_of(path)
    path.write_bytes(data[:1536] + b"damage" + data[1542:])
    assert flaw_of(path) == "tar: a header is damaged"


def test_a_member_of_a_tar_may_announce_more_bytes_than_a_file_can_have(tmp_path):
    member = tarfile.TarInfo("model.bin")
    member.size = 1 << 80
    path = tmp_path / "model.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert flaw_of(path) == "tar: its end is missing"


def test_a_cut_jsonl_is_reported_except_at_the_end_of_a_line(tmp_path):
    lines = [json.dumps({"step": step, "loss": [0.5, "}"]}) for step in range(3)]
    cutter = Cutter(tmp_path / "log.jsonl", "\n".join([*lines, ""]).encode())
    assert flaw_of(cutter.path) == ""
    ends = [len("\n".join(lines[:number])) for number in (1, 2, 3)]
    assert cutter.unreported() == sorted({0, *ends, *(end + 1 for end in ends[:-1])}, reverse=True)
    cutter.path.write_bytes(cutter.data + bytes(8))
    assert flaw_of(cutter.path) == "JSON: zeros are at its end"


def test_json_lines_named_json_are_whole(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"step": 1}\n{"step": 2}\n', encoding="utf-8")
    assert flaw_of(path) == ""
    path.write_text('{"step": 1}\n{"step": 2', encoding="utf-8")
    assert flaw_of(path) == "JSON: it ends within a value"


def test_a_long_json_is_judged_by_its_end(tmp_path):
    path = tmp_path / "trainer_state.json"
    text = json.dumps({"log": [0.123456789] * (ALL_OF_IT // 10)})
    path.write_text(text + "\n", encoding="utf-8")
    assert flaw_of(path) == ""
    path.write_text(text[:-2], encoding="utf-8")
    assert flaw_of(path) == "JSON: it ends within a value"


def test_a_long_last_line_is_judged_by_its_end(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("[" + "1," * 100_000 + "1]\n", encoding="utf-8")
    assert flaw_of(path) == ""
    os.truncate(path, 150_000)
    assert flaw_of(path) == "JSON: it ends within a value"


def test_the_end_of_a_large_gzip_that_was_never_written_is_reported(tmp_path):
    path = tmp_path / "state.gz"
    with path.open("wb") as stream:
        stream.write(gzip.compress(os.urandom(ALL_OF_IT + 1), 0))
    assert flaw_of(path) == ""
    size = path.stat().st_size
    os.truncate(path, size - 100)
    os.truncate(path, size)
    assert flaw_of(path) == "gzip: zeros are in place of its end"


def test_several_arrays_in_one_file_are_whole_until_one_is_cut(tmp_path):
    first, both = npy(np.arange(4)), npy(np.arange(4), np.ones(3))
    cutter = Cutter(tmp_path / "arrays.npy", both)
    assert flaw_of(cutter.path) == ""
    assert cutter.unreported() == [len(first)]


def test_an_array_of_negative_extent_is_damaged(tmp_path):
    path = tmp_path / "array.npy"
    path.write_bytes(npy(np.zeros(5)).replace(b"(5,), ", b"(-5,),"))
    assert flaw_of(path) == "npy: its header is damaged"


def test_an_hdf5_file_that_is_still_open_is_reported(tmp_path):
    path, copy = tmp_path / "open.h5", tmp_path / "copy.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["weights"] = np.arange(20.0)
        file.flush()
        copy.write_bytes(path.read_bytes())
        assert flaw_of(copy) == "HDF5: its writer has not closed it"
        file["bias"] = np.arange(3000.0)
        copy.write_bytes(path.read_bytes())
        assert "too many at the end" in flaw_of(copy)
    assert flaw_of(path) == ""


def test_a_safetensors_header_that_is_no_header_is_damaged(tmp_path):
    path = tmp_path / "model.safetensors"
    for header in (b"[]", b'{"w": {"data_offsets": [0, Infinity]}}', b'{"w": 1}', b"\xff\xff"):
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        assert flaw_of(path) == "safetensors: its header is damaged"


def test_a_pickle_with_too_many_opcodes_is_judged_by_its_last_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("lvjobs.worker.program.formats.pickles._MOST_OPCODES", 10)
    path = tmp_path / "state.pkl"
    path.write_bytes(pickle.dumps(VALUES))
    assert flaw_of(path) == ""
    os.truncate(path, path.stat().st_size - 1)
    assert flaw_of(path) == "pickle: its last byte does not end it"


def test_arrays_that_joblib_puts_between_opcodes_are_no_damage(tmp_path):
    path = tmp_path / "forest.pkl"
    path.write_bytes(b"\x80\x04\x8c\x13joblib.numpy_pickle" + bytes(range(0xF0, 0x100)) + b".")
    assert flaw_of(path) == ""
    os.truncate(path, path.stat().st_size - 1)
    assert flaw_of(path) == "pickle: its last byte does not end it"


def test_what_cannot_be_read_is_an_error_and_a_pipe_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    for path in (tmp_path / "missing.pt", tmp_path, tmp_path / "pipe.pt"):
        with pytest.raises(OSError):
            flaw_of(path)
