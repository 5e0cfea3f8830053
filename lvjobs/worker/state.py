"""Trees of state as two plain files: the tensors (safetensors) and the structure that holds them (JSON). No pickle.

A tree is made of dicts (keys: strings, numbers, booleans, None), lists, tuples, tensors, numpy arrays and scalars,
numbers, strings, booleans and None. It comes back equal, with types kept: an int key stays an int, a tuple a tuple, an
array an array. Tensors come back on the CPU, plain and without gradient; two names for one tensor come back as two.

In the JSON, None, booleans, strings, finite numbers and lists stand for themselves; all else is an object of one key.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

_TREE = ".tree.json"
_TENSORS = ".tree.safetensors"
_ALL = "_state"
"""What the two files are called. No tree can be: names of trees begin with a letter."""


@dataclass
class _Packer:
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    storages: set[int] = field(default_factory=set)

    def _keep(self, tensor: torch.Tensor) -> str:
        # safetensors refuses tensors that share memory (tied weights, views); those are copied apart.
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self.storages or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
            storage = tensor.untyped_storage()
        self.storages.add(storage.data_ptr())
        key = str(len(self.tensors))
        self.tensors[key] = tensor
        return key

    def _tensor(self, value: torch.Tensor, where: str) -> dict[str, Any]:
        if value.layout is not torch.strided or value.is_meta or value.is_quantized:
            raise TypeError(f"{where}: a sparse, quantized or meta tensor cannot be checkpointed; make it a dense one")
        value = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        if value.dtype is torch.complex128:  # the one common type that safetensors has no word for
            return {"complex128": self._keep(torch.view_as_real(value))}
        return {"tensor": self._keep(value)}

    def _array(self, value: "np.ndarray[Any, Any]", where: str) -> dict[str, Any]:
        _check_dtype(value.dtype, where)
        data = torch.from_numpy(np.frombuffer(value.tobytes(), dtype=np.uint8).copy())
        return {"array": [self._keep(data), value.dtype.str, list(value.shape)]}

    def pack(self, value: Any, where: str) -> Any:
        # numpy's float64 is a float and its str_ a str: ask for numpy first, and then for exact types only, so that
        # nothing (a NamedTuple, an Enum) comes back as something else than it went.
        if isinstance(value, np.generic):
            _check_dtype(value.dtype, where)
            return {"scalar": [value.dtype.str, value.tobytes().hex()]}
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, torch.Tensor):
            return self._tensor(value, where)
        if isinstance(value, np.ndarray):
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


def pack(tree: Any, where: str = "state") -> tuple[Any, dict[str, torch.Tensor]]:
    """Split a tree into what JSON can hold and the tensors it refers to.

    Raises:
        TypeError: the tree holds something else; the message names the place (`where` is its root's name).
    """
    packer = _Packer()
    return packer.pack(tree, where), packer.tensors


def unpack(structure: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The tree that `pack` split."""
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
            return torch.view_as_complex(tensors[value])
        case "float":
            return float(value)
        case "array":
            key, dtype, shape = value
            return np.frombuffer(tensors[key].numpy().tobytes(), dtype=dtype).reshape(shape).copy()
        case "scalar":
            return np.frombuffer(bytes.fromhex(value[1]), dtype=value[0])[0]
    raise ValueError(f"not a packed tree: {kind!r}")


def save_trees(directory: Path, trees: Mapping[str, Any]) -> None:
    """Write all of `trees`, by their names, as two files of `directory`: file systems count files, and each is synced.

    Raises:
        TypeError: one holds what `pack` does not take.
    """
    packer = _Packer()
    structures = {name: packer.pack(tree, name) for name, tree in trees.items()}
    (directory / f"{_ALL}{_TREE}").write_text(json.dumps(structures, allow_nan=False), encoding="ascii")
    safetensors.torch.save_file(packer.tensors, directory / f"{_ALL}{_TENSORS}")


def load_trees(directory: Path) -> Iterator[tuple[str, Any]]:
    """Each tree that `save_trees` wrote into `directory`, with its name; older lvjobs gave each two files."""
    for path in sorted(directory.glob(f"*{_TREE}")):
        name = path.name.removesuffix(_TREE)
        # From bytes, not mapped: a mapped file that another host deletes ends in SIGBUS.
        tensors = safetensors.torch.load((directory / f"{name}{_TENSORS}").read_bytes())
        structure = json.loads(path.read_text(encoding="ascii"))
        for each, tree in (structure if name == _ALL else {name: structure}).items():
            yield each, unpack(tree, tensors)
