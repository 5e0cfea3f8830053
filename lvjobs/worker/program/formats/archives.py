"""The checks of tar and gzip.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; RFC 1952.
"""

import zlib
from typing import BinaryIO

from lvjobs.worker.program.formats.reading import ALL_OF_IT, in_bytes, is_zero, read_at

USTAR = b"ustar"
USTAR_AT = 257
GZIP = b"\x1f\x8b\x08"

_BLOCK = 512
_RECORD = 20 * _BLOCK
"""The size in bytes to whose multiple writers of tar fill the file up with zeros."""

_MOST_MEMBERS = 10_000
"""The most members whose headers are read."""

_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)

_LEAST_GZIP = 18
_GZIP_TRAILER = 8
_MOST_CONTENT = 64 << 20
"""The most bytes that are decompressed."""

_PIECE = 1 << 20


def tar_flaw(stream: BinaryIO, size: int) -> str:
    """Return "" where headers lead from member to member to the two blocks of zeros at the end, else the flaw."""
    at = 0
    for _ in range(_MOST_MEMBERS):
        header = read_at(stream, at, _BLOCK)
        if len(header) < _BLOCK:
            return "tar: its end is missing"
        if is_zero(header):
            return _flaw_of_tar_end(stream, at, size)
        try:
            length = _number(header[_SIZE])
            checksum = _number(header[_CHECKSUM])
        except ValueError:
            return "tar: a header is damaged"
        if checksum != sum(header) - sum(header[_CHECKSUM]) + len(header[_CHECKSUM]) * ord(" "):
            return "tar: a header is damaged"
        at += _BLOCK + -(-length // _BLOCK) * _BLOCK
    return _flaw_of_tar_end(stream, size - 2 * _BLOCK, size)


def _flaw_of_tar_end(stream: BinaryIO, at: int, size: int) -> str:
    """Return "" where a file ends at `at` with two blocks of zeros, and no more zeros than fill its last record."""
    rest = read_at(stream, at, _RECORD)
    if len(rest) < 2 * _BLOCK or not is_zero(rest):
        return "tar: its end is missing"
    extra = size - at - 2 * _BLOCK
    return f"tar: {in_bytes(extra)} too many at the end" if extra >= _RECORD else ""


def _number(field: bytes) -> int:
    """Return the number in a header's field: octal digits, or binary after a byte 128. Raises ValueError for others."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b"\0 ") or b"0", 8)


def gzip_flaw(stream: BinaryIO, size: int) -> str:
    """Return "" where a gzip file is whole, else the flaw. A large file is only checked for zeros at its end."""
    if size < _LEAST_GZIP:
        return f"gzip: it has {in_bytes(size)}"
    if size > ALL_OF_IT:
        trailer = read_at(stream, size - _GZIP_TRAILER, _GZIP_TRAILER)
        return "gzip: zeros are in place of its end" if is_zero(trailer) else ""
    data, content = read_at(stream, 0, size), 0
    try:
        while data:
            reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            while data and not reader.eof:
                content += len(reader.decompress(data, _PIECE))
                data = reader.unconsumed_tail
                if content > _MOST_CONTENT:
                    return ""
            if not reader.eof:
                return "gzip: its end is missing"
            data = reader.unused_data
    except zlib.error:
        return "gzip: its content is damaged, or bytes follow its end"
    return ""
