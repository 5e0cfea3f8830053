"""The check of zip archives: torch's files, `.npz`, and `.distcp`, which is several archives in a row.

An archive ends with a directory of its entries, and a record that gives the directory's place. So a file that was cut
has no such record. The check compares the directory's place, size and count with the file, and the directory with the
headers in front of the entries. It does not compare the entries' CRC-32: torch can save wrong ones
(`torch.serialization.set_crc32_options(False)`), and a comparison would read every byte.

Source: the .ZIP file format specification 6.3 (APPNOTE.TXT).
"""

from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from lvjobs.worker.program.formats.reading import in_bytes, is_zero, number_at, read_at

ENTRY = b"PK\x03\x04"
END = b"PK\x05\x06"
_CENTRAL = b"PK\x01\x02"
_END64 = b"PK\x06\x06"
_LOCATOR64 = b"PK\x06\x07"

_LOCAL_SIZE = 30
_CENTRAL_SIZE = 46
_END_SIZE = 22
_END64_SIZE = 56
_LOCATOR64_SIZE = 20
_LONGEST_COMMENT = 0xFFFF

_IN_ZIP64 = 0xFFFFFFFF
"""The value of a 4-byte field whose number is in an 8-byte field instead."""

_MANY = 0xFFFF
"""The same for a 2-byte field."""

_EXTRA64 = 1
"""The kind of an entry's extra field that holds the 8-byte numbers."""

_PROBES = 64
"""The most entries whose own headers are read, spread over the archive: each costs one read."""

_MISSING = "zip: its directory is missing"
_DAMAGED = "zip: its directory is damaged"


class _Place(NamedTuple):
    """The offsets at which an archive and its directory begin and the directory ends, and the number of entries."""

    start: int
    directory: int
    directory_end: int
    entries: int


class _Entry(NamedTuple):
    """The offset of an entry's own header, the size in bytes of its content in the file, and its name."""

    at: int
    size: int
    name: bytes


def zip_flaw(stream: BinaryIO, size: int) -> str:
    """Return "" where whole archives fill the file, else the flaw."""
    end, probes = size, _PROBES
    while end > 0:
        record = _record_before(stream, end)
        if record < 0:
            return _without_record(stream, end)
        place = _place_of(stream, record)
        if place is None:
            return _DAMAGED
        entries = _entries_of(stream, place)
        if entries is None:
            return _DAMAGED
        if flaw := _flaw_of_entries(stream, place, entries, probes):
            return flaw
        end, probes = place.start, 1
    return ""


def _record_before(stream: BinaryIO, end: int) -> int:
    """Return the offset of the record, with its comment, that ends at `end`; -1 where there is none."""
    for length in (_END_SIZE, _END_SIZE + _LONGEST_COMMENT):
        start = max(0, end - length)
        tail = read_at(stream, start, end - start)
        found = tail.rfind(END)
        while found >= 0:
            if found + _END_SIZE + number_at(tail, found + 20, 2) == len(tail):
                return start + found
            found = tail.rfind(END, 0, found)
    return -1


def _without_record(stream: BinaryIO, end: int) -> str:
    """Return the flaw of a file, or of its first `end` bytes, that end with no record."""
    start = max(0, end - _END_SIZE - _LONGEST_COMMENT)
    tail = read_at(stream, start, end - start)
    after = len(tail) - tail.rfind(END) - _END_SIZE
    if END in tail and after > 0:
        return f"zip: {in_bytes(after)} too many at the end"
    return f"{_MISSING}, zeros are in its place" if is_zero(tail[-_END_SIZE:]) else _MISSING


def _place_of(stream: BinaryIO, record: int) -> _Place | None:
    """Return where the archive lies whose last record begins at `record`; None where that place is impossible."""
    data = read_at(stream, record, _END_SIZE)
    entries, length, offset = number_at(data, 10, 2), number_at(data, 12, 4), number_at(data, 16, 4)
    end = record
    at = record - _LOCATOR64_SIZE - _END64_SIZE
    more = read_at(stream, at, _END64_SIZE + _LOCATOR64_SIZE)
    if more.startswith(_END64) and more[_END64_SIZE:].startswith(_LOCATOR64):
        entries, length, offset = number_at(more, 32, 8), number_at(more, 40, 8), number_at(more, 48, 8)
        end = at
    elif entries == _MANY or _IN_ZIP64 in {length, offset}:
        return None
    start = end - length - offset
    return _Place(start, end - length, end, entries) if start >= 0 else None


def _entries_of(stream: BinaryIO, place: _Place) -> list[_Entry] | None:
    """Return the entries of an archive's directory; None where it is damaged."""
    if place.entries and read_at(stream, place.directory, len(_CENTRAL)) != _CENTRAL:
        return None
    directory = read_at(stream, place.directory, place.directory_end - place.directory)
    entries, at = [], 0
    while at < len(directory):
        if not directory.startswith(_CENTRAL, at) or at + _CENTRAL_SIZE > len(directory):
            return None
        name, extra, comment = (number_at(directory, at + place, 2) for place in (28, 30, 32))
        numbers = _with_zip64(
            [number_at(directory, at + place, 4) for place in (24, 20, 42)],
            directory[at + _CENTRAL_SIZE + name : at + _CENTRAL_SIZE + name + extra],
        )
        entries.append(_Entry(numbers[2], numbers[1], directory[at + _CENTRAL_SIZE : at + _CENTRAL_SIZE + name]))
        at += _CENTRAL_SIZE + name + extra + comment
    return entries if at == len(directory) and len(entries) == place.entries else None


def _with_zip64(numbers: Sequence[int], extra: bytes) -> Sequence[int]:
    """Return an entry's full size, size in the file and offset, each from the extra field where it does not fit."""
    if _IN_ZIP64 not in numbers:
        return numbers
    at = 0
    while at < len(extra) and number_at(extra, at, 2) != _EXTRA64:
        at += 4 + number_at(extra, at + 2, 2)
    at += 4
    full = []
    for number in numbers:
        full.append(number_at(extra, at, 8) if number == _IN_ZIP64 else number)
        at += 8 if number == _IN_ZIP64 else 0
    return full


def _flaw_of_entries(stream: BinaryIO, place: _Place, entries: Sequence[_Entry], probes: int) -> str:
    """Return the flaw of an archive's entries: one lies outside of it, or one of those probed has no header."""
    room = place.directory - place.start
    if any(entry.at + _LOCAL_SIZE + len(entry.name) + entry.size > room for entry in entries):
        return "zip: an entry reaches into its directory"
    last = len(entries) - 1
    for number in sorted({last * probe // max(1, probes - 1) for probe in range(probes)}) if entries else ():
        entry = entries[number]
        header = read_at(stream, place.start + entry.at, _LOCAL_SIZE + len(entry.name))
        if not header.startswith(ENTRY) or header[_LOCAL_SIZE:] != entry.name:
            zeros = " (zeros are in its place)" if is_zero(header) else ""
            return f"zip: the header of entry {number + 1} of {last + 1} is missing{zeros}"
    return ""
