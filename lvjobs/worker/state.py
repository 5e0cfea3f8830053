"""Trees of state, split into a structure for JSON and the parts that JSON cannot hold. No pickle.

A tree is made of dicts (keys: strings, numbers, booleans, None), lists, tuples, tensors, numpy arrays and scalars,
numbers, strings, booleans and None. It comes back equal, with types kept: an int key stays an int, a tuple a tuple, an
array an array. Tensors come back on the CPU, plain and without gradient. A tensor that a tree holds twice comes back as
two.

In the structure, None, booleans, strings, finite numbers and lists stand for themselves; all else is an object of one
key. A part is named by its place in the tree, such as `optimizer.state.0.exp_avg`.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from lvjobs.worker.tensor_file import Part

if TYPE_CHECKING:  # a tree without arrays or tensors is saved and loaded without numpy and torch
    import numpy as np
    import torch


def _is_tensor(value: Any) -> "TypeGuard[torch.Tensor]":
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_numpy(value: Any, kind: str) -> bool:
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, getattr(numpy, kind))


@dataclass
class Packer:
    """A collector of what JSON cannot hold: tensors, and arrays as their bytes."""

    parts: dict[str, Part] = field(default_factory=dict)

    def _new_name(self, where: str) -> str:
        while where in self.parts:  # the keys 1 and "1" have one place
            where += "'"
        return where

    def _tensor(self, value: "torch.Tensor", where: str) -> dict[str, Any]:
        import torch

        if value.layout is not torch.strided or value.is_meta or value.is_quantized:
            raise TypeError(f"{where}: a sparse, quantized or meta tensor cannot be checkpointed; make it a dense one")
        value = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        kind, name = "tensor", self._new_name(where)
        if value.dtype is torch.complex128:  # the one common type that safetensors does not know
            kind, value = "complex128", torch.view_as_real(value)
        self.parts[name] = Part.of_tensor(name, value)
        return {kind: name}

    def _array(self, value: "np.ndarray[Any, Any]", where: str) -> dict[str, Any]:
        _check_dtype(value.dtype, where)
        name, data = self._new_name(where), value.tobytes()
        self.parts[name] = Part(name, data, len(data))
        return {"array": [name, value.dtype.str, list(value.shape)]}

    def pack(self, value: Any, where: str) -> Any:
        """Return the structure of a tree at the place `where`. Raises TypeError for a value that cannot be stored."""
        # numpy's float64 is a float and its str_ a str. So test for numpy first, and then for exact types only:
        # otherwise a NamedTuple or an Enum would come back as another type.
        if _is_numpy(value, "generic"):
            _check_dtype(value.dtype, where)
            return {"scalar": [value.dtype.str, value.tobytes().hex()]}
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if _is_tensor(value):
            return self._tensor(value, where)
        if _is_numpy(value, "ndarray"):
            return self._array(value, where)
        if isinstance(value, Mapping):
            return {"dict": [[_pack_key(self, k, where), self.pack(v, f"{where}.{k}")] for k, v in value.items()]}
        if type(value) is list:
            return [self.pack(item, f"{where}[{index}]") for index, item in enumerate(value)]
        if type(value) is tuple:
            return {"tuple": [self.pack(item, f"{where}[{index}]") for index, item in enumerate(value)]}
        raise TypeError(
            f"{where}: a {type(value).__name__} cannot be checkpointed. Pass dicts, lists, tuples, tensors, arrays, "
            "numbers, strings, booleans and None; of a model or an optimizer its state_dict()"
        )


def _check_dtype(dtype: "np.dtype[Any]", where: str) -> None:
    if dtype.hasobject or dtype.names is not None:
        raise TypeError(f"{where}: a numpy value of type {dtype} cannot be checkpointed; pass numbers")


def _pack_key(packer: Packer, key: Any, where: str) -> Any:
    if key is None or type(key) in (bool, int, float, str):
        return packer.pack(key, where)
    raise TypeError(f"{where}: a key of type {type(key).__name__} cannot be checkpointed; use a string or a number")


def unpack(structure: Any, read: Callable[[str], Part]) -> Any:
    """Return the tree that `pack` split. `read` returns a part by its name, in memory of its own."""
    if isinstance(structure, list):
        return [unpack(item, read) for item in structure]
    if not isinstance(structure, dict):
        return structure
    ((kind, value),) = structure.items()
    match kind:
        case "dict":
            return {unpack(key, read): unpack(item, read) for key, item in value}
        case "tuple":
            return tuple(unpack(item, read) for item in value)
        case "tensor":
            return read(value).tensor()
        case "complex128":
            import torch

            return torch.view_as_complex(read(value).tensor())
        case "float":
            return float(value)
        case "array" | "scalar":
            return _unpack_numpy(kind, value, read)
    raise ValueError(f"not a packed tree: {kind!r}")


def _unpack_numpy(kind: str, value: Any, read: Callable[[str], Part]) -> Any:
    import numpy as np

    if kind == "scalar":
        return np.frombuffer(bytes.fromhex(value[1]), dtype=value[0])[0]
    name, dtype, shape = value
    return np.frombuffer(read(name).data, dtype=dtype).reshape(shape)
