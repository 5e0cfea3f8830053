"""TensorBoard's event files, as far as they hold numbers. Pure.

A record is its length (8 bytes), a checksum of that (4), an event (a protocol buffer), and a checksum of it (4). Of an
event, field 2 is the step and field 5 the summary, whose values (field 1) have a tag (1) and a number (2), or a tensor
(8) with one number (5). The package tensorboard is not needed, and takes seconds to load.
"""

import struct
from collections.abc import Iterator
from typing import Any

_HEAD, _TAIL = 12, 4
_STEP, _SUMMARY = 2, 5
_VALUE = 1
_TAG, _NUMBER, _TENSOR = 1, 2, 8
_FLOATS = 5
"""Numbers of fields: of an event, of a summary, of its value, and of a tensor."""

_FLOAT_BYTES = 4
_MORE = 0x80
"""The bit of a byte that says that a variable-length number has another one."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_events(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the complete records in `data`, and how many bytes they took: each its `step` and numbers by tag."""
    found, place = [], 0
    while place + _HEAD <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        end = place + _HEAD + length + _TAIL
        if end > len(data):
            break
        record = _record(data[place + _HEAD : end - _TAIL])
        if record:
            found.append(record)
        place = end
    return found, place


def _record(event: bytes) -> dict[str, Any]:
    step = 0
    numbers: dict[str, float] = {}
    for field, value in _fields(event):
        if field == _STEP and isinstance(value, int):
            step = value - (1 << 64 if value >> 63 else 0)  # a program may write -1
        elif field == _SUMMARY and isinstance(value, bytes):
            for inner, summary in _fields(value):
                if inner == _VALUE and isinstance(summary, bytes):
                    numbers |= _number(summary)
    return {"step": step, **numbers} if numbers else {}


def _number(summary: bytes) -> dict[str, float]:
    fields = dict(_fields(summary))
    tag, number, tensor = fields.get(_TAG), fields.get(_NUMBER), fields.get(_TENSOR)
    if isinstance(tensor, bytes):
        number = dict(_fields(tensor)).get(_FLOATS)
        if isinstance(number, bytes) and len(number) == _FLOAT_BYTES:  # packed
            (number,) = struct.unpack("<f", number)
    return {tag.decode(errors="replace"): number} if isinstance(tag, bytes) and isinstance(number, float) else {}


def _fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield the numbers and values of a message's fields; end at one that is not complete."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
        elif kind == _BYTES:
            length, place = _varint(message, place)
            yield key >> 3, message[place : place + length]
            place += length
        elif kind in (_FIXED32, _FIXED64):
            form, size = ("<f", 4) if kind == _FIXED32 else ("<d", 8)
            if place + size > len(message):
                return
            yield key >> 3, struct.unpack_from(form, message, place)[0]
            place += size
        else:
            return


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message):
        byte = message[place]
        value |= (byte & ~_MORE) << shift
        place, shift = place + 1, shift + 7
        if not byte & _MORE:
            break
    return value, place
