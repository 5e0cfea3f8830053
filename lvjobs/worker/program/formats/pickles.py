"""The check of pickles, and of the files that torch writes with `_use_new_zipfile_serialization=False`.

Nothing is unpickled: the check reads the opcodes and skips their arguments. A pickle ends with the opcode STOP, and no
cut pickle has it in its place. In torch's older format five pickles are followed by the tensors' bytes. The fourth
pickle names the type and the number of elements of each storage, so the file's size is known.
"""

import pickletools
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from lvjobs.worker.program.formats.reading import RAW, compare_sizes, in_bytes, is_zero, number_at, read_at

_PROTOCOLS = range(2, 6)
PICKLES = tuple(bytes([0x80, protocol]) for protocol in _PROTOCOLS)
"""The first bytes of a pickle. Those of older protocols cannot be told from other content."""

_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
TORCH = (*(start + _MAGIC for start in PICKLES[:2]), *(start + b"\x95\r" + bytes(7) + _MAGIC for start in PICKLES[2:]))
"""The first pickle of torch's older format, the number 0x1950A86A20F9469CFC6C, in each protocol."""

_STOP = b"."
_MOST_OPCODES = 500_000
"""The most opcodes that are read, which takes about a third of a second."""

_SHORT = 4096
"""The length in bytes of the longest argument that is read; longer ones are skipped, and no name is longer."""

_PREFIXES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
"""The number of bytes that hold an argument's length."""

_ELEMENT_SIZES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "ComplexDouble": 16, "ComplexFloat": 8, "QInt8": 1, "QUInt8": 1, "QInt32": 4, "QUInt4x2": 1, "QUInt2x4": 1,
    "Untyped": 1,
}  # fmt: skip
"""The size in bytes of an element of each of torch's storages, by its class's name without "Storage"."""

_COUNT_SIZE = 8
"""The number of bytes in front of each storage that hold its number of elements."""

_FOREIGN = b"joblib"
"""A name in the pickles of joblib, which puts the bytes of arrays between opcodes."""

_INTEGERS = {"BININT1", "BININT2", "BININT", "LONG1"}
_TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "GLOBAL"}
_PUTS = {"BINPUT", "LONG_BINPUT"}
_GETS = {"BINGET", "LONG_BINGET"}


class TornPickleError(ValueError):
    """A pickle that has no end, or that is none."""


class UnreadablePickleError(Exception):
    """A pickle that the check cannot read to its end: it is too long, or holds bytes that are no opcodes."""


class _Storage(NamedTuple):
    """The number of elements of a storage, and the size of one in bytes."""

    elements: int
    element_size: int


def _table() -> dict[bytes, tuple[str, int, int]]:
    """Return each opcode's name, the length of its argument (see `pickletools`), and its number of text lines."""
    table = {}
    for opcode in pickletools.opcodes:
        length = opcode.arg.n if opcode.arg else 0
        lines = 0 if length != pickletools.UP_TO_NEWLINE else 1
        if opcode.arg and opcode.arg.name == "stringnl_noescape_pair":
            lines = 2
        table[opcode.code.encode("latin-1")] = opcode.name, length, lines
    return table


_OPCODES = _table()


def _opcodes(stream: BinaryIO, at: int, size: int) -> Iterator[tuple[str, bytes, int]]:
    """Yield the name of each opcode of a pickle, its argument where that is short, and the offset behind it.

    Args:
        stream: The file. Nothing else may read it meanwhile.
        at: The offset at which the pickle begins.
        size: The file's size in bytes.

    Raises:
        TornPickleError: The file ends before the pickle does, or a byte is no opcode.
        UnreadablePickleError: The pickle is too long, or joblib wrote it.
    """
    stream.seek(at)
    for _ in range(_MOST_OPCODES):
        code = stream.read(1)
        if code not in _OPCODES:
            raise TornPickleError
        name, length, lines = _OPCODES[code]
        at += 1
        argument = b""
        if lines:
            argument = b"".join(stream.readline(_SHORT) for _ in range(lines))
            at += len(argument)
            if argument.count(b"\n") != lines:
                raise TornPickleError
        elif length:
            if prefix := _PREFIXES.get(length, 0):
                length = number_at(stream.read(prefix), 0, prefix)
            at += prefix + length
            if at > size:
                raise TornPickleError
            if length <= _SHORT:
                argument = stream.read(length)
            else:
                stream.seek(at)
        if _FOREIGN in argument:
            raise UnreadablePickleError
        yield name, argument, at
        if code == _STOP:
            return
    raise UnreadablePickleError


def end_of_pickle(stream: BinaryIO, at: int, size: int) -> int:
    """Return the offset behind the pickle that begins at `at`.

    Raises:
        TornPickleError: The file ends before the pickle does, or a byte is no opcode.
        UnreadablePickleError: The pickle is too long, or joblib wrote it.
    """
    end = at
    for _, _, behind in _opcodes(stream, at, size):
        end = behind
    return end


def pickle_flaw(stream: BinaryIO, size: int) -> str:
    """Return "" where one or more whole pickles fill the file, else the flaw."""
    at = 0
    try:
        while at < size:
            at = end_of_pickle(stream, at, size)
    except TornPickleError:
        if at and is_zero(read_at(stream, at, RAW)):
            return f"pickle: {in_bytes(size - at)} too many at the end"
        return "pickle: it ends too early, or is damaged"
    except UnreadablePickleError:
        return "" if read_at(stream, size - 1, 1) == _STOP else "pickle: its last byte does not end it"
    return ""


def torch_flaw(stream: BinaryIO, size: int) -> str:
    """Return "" where a file in torch's older format is whole, else the flaw."""
    try:
        at = 0
        for _ in range(3):
            at = end_of_pickle(stream, at, size)
        storages, at = _storages_of(stream, at, size)
        at = end_of_pickle(stream, at, size)
    except TornPickleError:
        return "torch: it ends too early, or is damaged"
    except UnreadablePickleError:
        return ""
    if storages is None:
        return ""
    end = at + sum(_COUNT_SIZE + storage.elements * storage.element_size for storage in storages.values())
    if flaw := compare_sizes("torch", end, size):
        return flaw
    for number, key in enumerate(sorted(storages)):
        elements, element_size = storages[key]
        if number_at(read_at(stream, at, _COUNT_SIZE), 0, _COUNT_SIZE) != elements:
            return f"torch: the size of storage {number + 1} of {len(storages)} is missing"
        at += _COUNT_SIZE + elements * element_size
    return ""


def _storages_of(stream: BinaryIO, at: int, size: int) -> tuple[dict[bytes, _Storage] | None, int]:
    """Return the storages that a pickle names, by their keys, and the offset behind the pickle.

    The storages are None where one has an unknown type. A storage is named by a tuple of "storage", its class, its key,
    its device, its number of elements, and None. So it suffices to follow what is put on the stack since the last mark.

    Raises:
        TornPickleError: The file ends before the pickle does, or a byte is no opcode.
        UnreadablePickleError: The pickle is too long, or joblib wrote it.
    """
    storages: dict[bytes, _Storage] = {}
    known = True
    memo: dict[int, bytes] = {}
    values: list[bytes] = []
    for name, argument, end in _opcodes(stream, at, size):
        at = end
        if name == "MARK":
            values = []
        elif name in _TEXTS or name in _INTEGERS or name == "NONE":
            values.append(argument)
        elif name == "STACK_GLOBAL":
            values[-2:] = [b"\n".join((*values[-2:], b""))]
        elif name in _PUTS or name == "MEMOIZE":
            place = len(memo) if name == "MEMOIZE" else number_at(argument, 0, len(argument))
            memo[place] = values[-1] if values else b""
        elif name in _GETS:
            values.append(memo.get(number_at(argument, 0, len(argument)), b""))
        elif name == "BINPERSID":
            storage = _storage_of(values)
            known = known and storage is not None
            if storage:
                storages[values[2]] = storage
    return storages if known else None, at


def _storage_of(values: list[bytes]) -> _Storage | None:
    """Return the storage that the values of a tuple name; None where they name none that is known."""
    if len(values) != len(("storage", "class", "key", "device", "elements", "view")) or values[0] != b"storage":
        return None
    kind = values[1].decode("latin-1").strip().rpartition("\n")[2].removesuffix("Storage")
    return _Storage(number_at(values[4], 0, len(values[4])), _ELEMENT_SIZES[kind]) if kind in _ELEMENT_SIZES else None
