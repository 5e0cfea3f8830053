"""A checkpoint as it is stored: one file, or the directory that older releases and other programs write.

    000002-00000500.safetensors         one file (see lvjobs.worker.tensor_file); its metadata have
      manifest                          the manifest, as JSON
      state                             the structure of the trees, as JSON (see lvjobs.worker.state)

    000002-00000500/                    a directory
      manifest.json
      adapter/...                       files of the Saver called `adapter`
      _state.tree.json, .safetensors    the trees, and the RNG states; the oldest releases wrote two files for each tree

Both are verified before they are used.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lvjobs.records.run_files import CHECKPOINT_SUFFIX, MANIFEST, Manifest
from lvjobs.worker.state import Packer, unpack
from lvjobs.worker.tensor_file import Part, TensorFile, blocks_of, sha256_of, write_tensor_file

FORMAT = 2
"""The format of a checkpoint that is one file."""

_TREE, _ALL = ".tree.json", "_state"
"""The end of the structures' files in a directory, and the name of the file that has all trees."""


def files_in(directory: Path) -> list[str]:
    """Return the relative paths of all files below `directory`, sorted. Raises ValueError for a symbolic link."""
    found = list(directory.rglob("*"))
    if link := next((path for path in found if path.is_symlink()), None):
        raise ValueError(f"{link}: a checkpoint holds no symbolic links; write a file")
    return sorted(path.relative_to(directory).as_posix() for path in found if path.is_file())


def write_file(path: Path, manifest: Manifest, trees: Mapping[str, Any], saved: Path) -> str:
    """Write a checkpoint as one file, and make it durable; return its hash.

    Args:
        path: Where to write; nothing may be there.
        manifest: All but its `files` and `format`.
        trees: The trees, by their names.
        saved: The directory with the directories that Savers filled.

    Raises:
        TypeError: a tree holds a value that cannot be stored.
        ValueError: a Saver wrote a symbolic link.
        OSError: the file cannot be written.
    """
    packer = Packer()
    structures = json.dumps({name: packer.pack(tree, name) for name, tree in trees.items()}, allow_nan=False)
    files = {file: saved / file for file in files_in(saved)}
    parts = [*packer.parts.values(), *(Part(name, file, file.stat().st_size) for name, file in files.items())]
    manifest = replace(manifest, files={name: sha256_of(file) for name, file in files.items()}, format=FORMAT)
    return write_tensor_file(path, parts, {"manifest": manifest.to_json(), "state": structures})


class CheckpointFile(TensorFile):
    """An open checkpoint that is one file."""

    @property
    def manifest(self) -> Manifest:
        """Return the manifest, unverified. Raises ValueError where there is none."""
        return Manifest.from_json(self.metadata["manifest"])

    def trees(self) -> dict[str, Any]:
        """Return the trees, by their names."""
        structures = json.loads(self.metadata["state"])
        return {name: unpack(structure, self.part) for name, structure in structures.items()}


class CheckpointDirectory:
    """A checkpoint that is a directory, read as `CheckpointFile` is."""

    def __init__(self, path: Path) -> None:
        """Read the manifest. Raises ValueError or OSError where there is none."""
        self.path = path
        self.manifest = Manifest.from_json((path / MANIFEST).read_text(encoding="utf-8"))

    def verify(self, files: Mapping[str, str]) -> str:
        """Return the manifest's hash. Raises ValueError if a file is missing, unexpected or changed."""
        there = set(files_in(self.path)) - {MANIFEST}
        if odd := sorted(there ^ set(files)):
            raise ValueError(f"{odd[0]} is {'not in the manifest' if odd[0] in there else 'missing'}")
        for file, digest in files.items():
            if sha256_of(self.path / file) != digest:
                raise ValueError(f"{file} is not what was written (its SHA-256 differs)")
        return sha256_of(self.path / MANIFEST)

    def trees(self) -> dict[str, Any]:
        """Return the trees, by their names."""
        trees: dict[str, Any] = {}
        for path in sorted(self.path.glob(f"*{_TREE}")):
            name = path.name.removesuffix(_TREE)
            structure = json.loads(path.read_text(encoding="ascii"))
            structures = structure if name == _ALL else {name: structure}
            read = partial(_read_part, self.path / f"{name}.tree.safetensors")
            trees |= {each: unpack(tree, read) for each, tree in structures.items()}
        return trees

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a Saver's file."""
        return blocks_of(self.path / name)


def _read_part(path: Path, name: str) -> Part:
    with path.open("rb") as stream:
        return TensorFile(stream).part(name)


@contextmanager
def open_checkpoint(path: Path) -> Iterator[CheckpointFile | CheckpointDirectory]:
    """Open the checkpoint at `path`, a file or a directory by its name. Raises the errors of `TensorFile`, OSError."""
    if path.suffix != CHECKPOINT_SUFFIX:
        yield CheckpointDirectory(path)
        return
    with path.open("rb") as stream:
        yield CheckpointFile(stream)
