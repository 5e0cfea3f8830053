"""The checks of files that hold arrays: safetensors, npy, HDF5. Each announces its size in its first bytes.

Sources: the format page of safetensors; NumPy Enhancement Proposal 1; the HDF5 File Format
Specification 3.0, section II.A.
"""

import ast
import json
import math
import re
from typing import Any, BinaryIO

from lvjobs.worker.program.formats.pickles import TornPickleError, UnreadablePickleError, end_of_pickle
from lvjobs.worker.program.formats.reading import compare_sizes, in_bytes, number_at, read_at

NPY = b"\x93NUMPY"
HDF5 = b"\x89HDF\r\n\x1a\n"

_LENGTH = 8
_LONGEST_HEADER = 100_000_000
"""The longest header in bytes that safetensors allows."""

_CHARACTER = 4
"""The size in bytes of a character of numpy's type U."""

_NPY_VERSION_2 = 2
_NPY_TYPE = re.compile(r"[<>|=]?([a-zA-Z])(\d*)(?:\[.+])?\Z")

_OLD_SUPERBLOCK = 1
"""The last version of HDF5's superblock without its writer's flags."""

_NEWEST_SUPERBLOCK = 3
_SUPERBLOCK_SIZE = 128
"""A number of bytes that holds the fields that are read, in each version."""

_FIRST_USER_BLOCK = 512
"""The first place of the superblock behind a user's own block; the next places are at twice the offset each."""

_OPEN_FOR_WRITING = 1


def safetensors_flaw(stream: BinaryIO, size: int) -> str:
    """Return "" where a safetensors file has the size that its header announces, else the flaw."""
    length = number_at(read_at(stream, 0, _LENGTH), 0, _LENGTH)
    if size <= _LENGTH or not length:
        return "safetensors: its header is missing"
    if length > _LONGEST_HEADER:
        return "safetensors: its header is damaged"
    if _LENGTH + length > size:
        return f"safetensors: its header has {in_bytes(length)}, the file has {size:,}"
    try:
        entries: dict[str, Any] = json.loads(read_at(stream, _LENGTH, length))
        end = max((entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0)
        announced = _LENGTH + length + int(end)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return "safetensors: its header is damaged"
    return compare_sizes("safetensors", announced, size)


def npy_flaw(stream: BinaryIO, size: int) -> str:
    """Return "" where one or more of numpy's arrays fill the file, else the flaw."""
    if not read_at(stream, 0, len(NPY)).startswith(NPY):
        return "npy: its header is missing"
    at = 0
    while at < size:
        if not read_at(stream, at, len(NPY)).startswith(NPY):
            return f"npy: {in_bytes(size - at)} too many at the end"
        try:
            at = _end_of_array(stream, at, size)
        except TornPickleError:
            return "npy: its pickled objects end too early"
        except UnreadablePickleError:
            return ""
        except (ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError):
            return "npy: its header is damaged"
    return compare_sizes("npy", at, size)


def _end_of_array(stream: BinaryIO, at: int, size: int) -> int:
    """Return the offset behind the array that begins at `at`. It may lie behind the file's end.

    Raises:
        TornPickleError, UnreadablePickleError: The array holds pickled objects; see `end_of_pickle`.
        ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError: The header is damaged.
    """
    at += len(NPY)
    start = read_at(stream, at, 2 + _LENGTH)
    width = 4 if start[0] >= _NPY_VERSION_2 else 2
    length = number_at(start, 2, width)
    at += 2 + width
    if length > size - at:
        return at + length
    header = ast.literal_eval(read_at(stream, at, length).decode("utf-8"))
    at += length
    item = _item_size(header["descr"])
    if item is None:
        return end_of_pickle(stream, at, size)
    shape = [int(extent) for extent in header["shape"]]
    if any(extent < 0 for extent in shape):
        raise ValueError(shape)
    return at + item * math.prod(shape)


def _item_size(descr: Any) -> int | None:
    """Return the size in bytes of an element of numpy's type `descr`; None where elements are pickled objects.

    Raises:
        ValueError, TypeError, LookupError: There is no such type.
    """
    if isinstance(descr, str):
        found = _NPY_TYPE.match(descr)
        if not found:
            raise ValueError(descr)
        if found[1] == "O":
            return None
        return int(found[2]) * (_CHARACTER if found[1] == "U" else 1)
    if isinstance(descr, tuple):
        item = _item_size(descr[0])
        return None if item is None else item * math.prod(descr[1])
    items = [_item_size(field[1] if len(field) == len(("name", "type")) else field[1:]) for field in descr]
    return None if None in items else sum(item for item in items if item is not None)


def hdf5_flaw(stream: BinaryIO, size: int) -> str:
    """Return "" where an HDF5 file has the size that its superblock announces, else the flaw."""
    at = 0
    while not (block := read_at(stream, at, _SUPERBLOCK_SIZE)).startswith(HDF5):
        at = at * 2 or _FIRST_USER_BLOCK
        if at >= size:
            return "HDF5: its first bytes are missing"
    version = number_at(block, len(HDF5), 1)
    if version > _NEWEST_SUPERBLOCK:
        return ""
    if version > _OLD_SUPERBLOCK:
        width, base, flags = number_at(block, 9, 1), 12, number_at(block, 11, 1)
    else:
        width, base, flags = number_at(block, 13, 1), 24 + 4 * version, 0
    if len(block) < base + 3 * width:
        return "HDF5: its first bytes are cut"
    return compare_sizes("HDF5", number_at(block, base + 2 * width, width), size) or (
        "HDF5: its writer has not closed it" if flags & _OPEN_FOR_WRITING else ""
    )
