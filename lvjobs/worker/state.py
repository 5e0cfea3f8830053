"""Trees of state as two plain files: the tensors (safetensors) and the structure that holds them (JSON). No pickle.

A tree is made of dicts (keys: strings, numbers, booleans, None), lists, tuples, tensors, numpy arrays and scalars,
numbers, strings, booleans and None. It comes back equal, with types kept: an int key stays an int, a tuple a tuple, an
array an array. Tensors come back on the CPU, plain and without gradient. A tensor that a tree holds twice comes back as
two.

In the JSON, None, booleans, strings, finite numbers and lists stand for themselves; all else is an object of one key.
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:  # a tree without arrays or tensors is saved and loaded without numpy and torch
    import numpy as np
    import torch

_TREE = ".tree.json"
_TENSORS = ".tree.safetensors"
_ALL = "_state"
"""The stem of the two files. No tree can have this name, because names of trees begin with a letter."""

_TENSOR_KINDS = ("tensor", "complex128")


def _is_tensor(value: Any) -> "TypeGuard[torch.Tensor]":
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_numpy(value: Any, kind: str) -> bool:
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, getattr(numpy, kind))


@dataclass
class _Packer:
    """A collector of what JSON cannot hold, by key: tensors, and arrays as their bytes."""

    tensors: "dict[str, torch.Tensor]" = field(default_factory=dict)
    arrays: "dict[str, np.ndarray[Any, Any]]" = field(default_factory=dict)
    storages: set[int] = field(default_factory=set)

    def _new_key(self) -> str:
        return str(len(self.tensors) + len(self.arrays))

    def _keep(self, tensor: "torch.Tensor") -> str:
        # safetensors refuses tensors that share memory (tied weights, views), so those are copied.
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self.storages or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
            storage = tensor.untyped_storage()
        self.storages.add(storage.data_ptr())
        key = self._new_key()
        self.tensors[key] = tensor
        return key

    def _tensor(self, value: "torch.Tensor", where: str) -> dict[str, Any]:
        import torch

        if value.layout is not torch.strided or value.is_meta or value.is_quantized:
            raise TypeError(f"{where}: a sparse, quantized or meta tensor cannot be checkpointed; make it a dense one")
        value = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        if value.dtype is torch.complex128:  # the one common type that safetensors does not know
            return {"complex128": self._keep(torch.view_as_real(value))}
        return {"tensor": self._keep(value)}

    def _array(self, value: "np.ndarray[Any, Any]", where: str) -> dict[str, Any]:
        import numpy as np

        _check_dtype(value.dtype, where)
        key = self._new_key()
        self.arrays[key] = np.frombuffer(value.tobytes(), np.uint8)
        return {"array": [key, value.dtype.str, list(value.shape)]}

    def pack(self, value: Any, where: str) -> Any:
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


def _pack_key(packer: _Packer, key: Any, where: str) -> Any:
    if key is None or type(key) in (bool, int, float, str):
        return packer.pack(key, where)
    raise TypeError(f"{where}: a key of type {type(key).__name__} cannot be checkpointed; use a string or a number")


def unpack(structure: Any, tensors: Mapping[str, Any]) -> Any:
    """Return the tree that `pack` split. An array's bytes in `tensors` are an array, or a tensor if torch read them."""
    if isinstance(structure, list):
        return [unpack(item, tensors) for item in structure]
    if not isinstance(structure, dict):
        return structure
    ((kind, value),) = structure.items()
    match kind:
        case "dict":
            return {unpack(key, tensors): unpack(item, tensors) for key, item in value}
        case "tuple":
            return tuple(unpack(item, tensors) for item in value)
        case "tensor":
            return tensors[value]
        case "complex128":
            import torch

            return torch.view_as_complex(tensors[value])
        case "float":
            return float(value)
        case "array" | "scalar":
            return _unpack_numpy(kind, value, tensors)
    raise ValueError(f"not a packed tree: {kind!r}")


def _unpack_numpy(kind: str, value: Any, tensors: Mapping[str, Any]) -> Any:
    import numpy as np

    if kind == "scalar":
        return np.frombuffer(bytes.fromhex(value[1]), dtype=value[0])[0]
    key, dtype, shape = value
    data = tensors[key]
    raw = data.numpy() if _is_tensor(data) else data
    return np.frombuffer(raw.tobytes(), dtype=dtype).reshape(shape).copy()


def _holds_tensor(structure: Any) -> bool:
    """Return whether a packed tree refers to a torch tensor."""
    if isinstance(structure, list):
        return any(map(_holds_tensor, structure))
    if not isinstance(structure, dict):
        return False
    ((kind, value),) = structure.items()
    return kind in _TENSOR_KINDS or (kind in ("dict", "tuple") and _holds_tensor(value))


def save_trees(directory: Path, trees: Mapping[str, Any]) -> None:
    """Write all of `trees`, by their names, as two files of `directory`: each file costs a sync and an inode.

    Raises:
        TypeError: a tree holds a value that `pack` does not take.
    """
    packer = _Packer()
    structures = {name: packer.pack(tree, name) for name, tree in trees.items()}
    (directory / f"{_ALL}{_TREE}").write_text(json.dumps(structures, allow_nan=False), encoding="ascii")
    path = directory / f"{_ALL}{_TENSORS}"
    if packer.tensors:
        import safetensors.torch
        import torch

        copies = {key: torch.from_numpy(array.copy()) for key, array in packer.arrays.items()}
        safetensors.torch.save_file({**packer.tensors, **copies}, path)
    elif packer.arrays:
        import safetensors.numpy

        safetensors.numpy.save_file(packer.arrays, path)


def load_trees(directory: Path) -> dict[str, Any]:
    """Return the trees that `save_trees` wrote into `directory`, by name; older lvjobs gave each two files."""
    trees: dict[str, Any] = {}
    for path in sorted(directory.glob(f"*{_TREE}")):
        name = path.name.removesuffix(_TREE)
        structure = json.loads(path.read_text(encoding="ascii"))
        structures = structure if name == _ALL else {name: structure}
        tensors = _load_tensors(directory / f"{name}{_TENSORS}", of_torch=any(map(_holds_tensor, structures.values())))
        trees |= {each: unpack(tree, tensors) for each, tree in structures.items()}
    return trees


def _load_tensors(path: Path, *, of_torch: bool) -> Mapping[str, Any]:
    if not path.exists():  # numbers and text only: the checkpoint's manifest lists the files that must exist
        return {}
    data = path.read_bytes()  # not mapped: if another host deletes a mapped file, the reader gets SIGBUS
    if of_torch:
        import safetensors.torch

        return safetensors.torch.load(data)
    import safetensors.numpy

    return safetensors.numpy.load(data)
