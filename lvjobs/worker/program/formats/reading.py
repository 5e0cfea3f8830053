"""Reads of a few bytes at a place of an open file, and the words that the checks of formats share."""

from typing import BinaryIO

ALL_OF_IT = 4 << 20
"""The size in bytes of the largest file that a check may read as a whole."""

RAW = 512
"""The number of bytes at a file's start that are compared with zeros."""

_FARTHEST = 1 << 62
"""An offset beyond any file. A damaged number may be larger than the operating system takes."""


def read_at(stream: BinaryIO, at: int, length: int) -> bytes:
    """Return up to `length` bytes from the offset `at`; fewer at the file's end, none where `at` is no offset."""
    if not 0 <= at < _FARTHEST or length <= 0:
        return b""
    stream.seek(at)
    return stream.read(length)


def number_at(data: bytes, at: int, length: int) -> int:
    """Return the unsigned little-endian number of `length` bytes at the offset `at` of `data`."""
    return int.from_bytes(data[at : at + length], "little")


def is_zero(data: bytes) -> bool:
    """Return whether `data` holds bytes, and all of them are zeros: blocks of a file that were never written."""
    return bool(data) and not data.strip(b"\0")


def in_bytes(number: int) -> str:
    """Return a number of bytes with its unit, such as "1,024 bytes"."""
    return f"{number:,} byte{'' if number == 1 else 's'}"


def compare_sizes(name: str, announced: int, size: int) -> str:
    """Return "" where the file has the size that its content announces, else the flaw.

    Args:
        name: The format's name, the first word of the flaw.
        announced: The size in bytes that the content announces.
        size: The file's size in bytes.
    """
    if announced > size:
        return f"{name}: {in_bytes(announced)} are announced, the file has {size:,}"
    if announced < size:
        return f"{name}: {in_bytes(size - announced)} too many at the end"
    return ""
