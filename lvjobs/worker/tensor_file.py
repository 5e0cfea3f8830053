"""Files in the safetensors format that prove their own content. Any reader of safetensors opens them.

Such a file begins with the length of its header (8 bytes, little-endian), then the header (JSON), then the bytes of all
parts without gaps. The header has each part's type, shape and place, and texts under `__metadata__`. The first of these
texts is a SHA-256: of the header, with zeros in the hash's own place, and of all parts that are buffers. Parts that are
files have a hash of their own each, which another text must hold. So the hash stands for every byte.

lvjobs writes and reads the format itself. So each byte is hashed once, files pass through without being held in memory,
and a task without tensors loads neither torch nor numpy.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lvjobs.files import create_new

if TYPE_CHECKING:
    import torch

_BLOCK = 1 << 20

_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
"""The format's names of torch's types."""

_NAMES = {name: short for short, name in _TYPES.items()}

_BLANK = b"0" * 64
_LENGTH = 8
_AT = _LENGTH + len('{"__metadata__":{"sha256":"')
"""The place of the hash."""


def blocks_of(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, a block at a time."""
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 in hex."""
    digest = hashlib.sha256()
    for block in blocks_of(path):
        digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Part:
    """One entry of a file: a tensor, or bytes. `data` is a buffer, or the path of a file with these bytes.

    `size` is the number of bytes; `alignment` that of an element.
    """

    name: str
    data: Any
    size: int
    dtype: str = "U8"
    shape: tuple[int, ...] | None = None
    alignment: int = 1

    @classmethod
    def of_tensor(cls, name: str, tensor: "torch.Tensor") -> "Part":
        """Return a part that shares the memory of a dense tensor on the CPU. Raises TypeError for an unknown type."""
        import torch

        kind = str(tensor.dtype).removeprefix("torch.")
        if kind not in _NAMES:
            raise TypeError(f"{name}: a tensor of type {kind} cannot be checkpointed; convert it to another type")
        data = tensor.reshape(-1).view(torch.uint8).numpy()
        return cls(name, data, data.nbytes, _NAMES[kind], tuple(tensor.shape), tensor.element_size())

    def tensor(self) -> "torch.Tensor":
        """Return the part as a tensor that shares its memory."""
        import torch

        dtype = getattr(torch, _TYPES[self.dtype])
        flat = torch.frombuffer(self.data, dtype=dtype) if self.size else torch.empty(0, dtype=dtype)
        return flat.reshape(self.shape or ())


def write_tensor_file(path: Path, parts: Iterable[Part], metadata: Mapping[str, str]) -> str:
    """Write a new file and make its content durable; return its hash. Raises OSError if `path` exists."""
    ordered = sorted(parts, key=lambda part: -part.alignment)  # other readers map the file, and want aligned tensors
    header = _header(ordered, metadata)
    digest = hashlib.sha256(header)
    with os.fdopen(create_new(path), "wb") as stream:
        stream.write(header)
        for part in ordered:
            if isinstance(part.data, Path):
                stream.writelines(blocks_of(part.data))
            else:
                digest.update(part.data)
                stream.write(part.data)
        if stream.tell() != len(header) + sum(part.size for part in ordered):
            raise OSError("a file changed while it was copied")
        stream.seek(_AT)
        stream.write(digest.hexdigest().encode("ascii"))
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()


def _header(parts: Iterable[Part], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"sha256": _BLANK.decode("ascii"), **metadata}}
    end = 0
    for part in parts:
        begin, end = end, end + part.size
        entries[part.name] = {
            "dtype": part.dtype,
            "shape": [part.size] if part.shape is None else part.shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % _LENGTH)
    return len(text).to_bytes(_LENGTH, "little") + text


class TensorFile:
    """An open file, read a part at a time. It is not mapped: if another host deletes it, a mapping raises SIGBUS."""

    def __init__(self, stream: BinaryIO) -> None:
        """Read the header. Raises ValueError or AttributeError where there is none; its hash is not checked."""
        self._stream = stream
        start = stream.read(_LENGTH)
        length = int.from_bytes(start, "little")
        if length > os.fstat(stream.fileno()).st_size:
            raise ValueError("the header is longer than the file")
        self._header = start + stream.read(length)
        self._entries: dict[str, Any] = json.loads(self._header[_LENGTH:])
        self.metadata: Mapping[str, str] = self._entries.pop("__metadata__", {})

    def verify(self, files: Mapping[str, str]) -> str:
        """Check every byte and return the hash.

        Args:
            files: The SHA-256 of each part that was a file, from the metadata.

        Raises:
            ValueError: a byte was changed, lost or added.
        """
        end = _AT + len(_BLANK)
        digest = hashlib.sha256(self._header[:_AT] + _BLANK + self._header[end:])
        for name in self._entries:  # in the order in which they were written
            own = hashlib.sha256() if name in files else digest
            for block in self.blocks(name):
                own.update(block)
            if name in files and own.hexdigest() != files[name]:
                raise ValueError(f"{name} is not what was written (its SHA-256 differs)")
        if self._header[_AT:end] != digest.hexdigest().encode("ascii") or self._stream.read(1):
            raise ValueError("it is not what was written (its SHA-256 differs)")
        return digest.hexdigest()

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a part. Raises ValueError if the file ends before the part does."""
        begin, end = self._entries[name]["data_offsets"]
        self._stream.seek(len(self._header) + begin)
        for at in range(begin, end, _BLOCK):
            block = self._stream.read(min(_BLOCK, end - at))
            if not block:
                raise ValueError(f"the file ends before {name} does")
            yield block

    def part(self, name: str) -> Part:
        """Return a part in memory of its own."""
        data, entry = bytearray().join(self.blocks(name)), self._entries[name]
        return Part(name, data, len(data), entry["dtype"], tuple(entry["shape"]))
