"""Checks whether a file that another program wrote, as a checkpoint or a part of one, is whole.

The check of a format compares what the file announces with what is there, and reads little of a large file: a file of
10 GB takes milliseconds, unless it holds very many small parts. Nothing is unpickled. Each check is a function of an
open file and its size: `zips` has those of torch's files and `.npz`, `pickles` those of pickles and of torch's older
format, `arrays` those of safetensors, npy and HDF5, `texts` those of JSON, and `archives` those of tar and gzip.
`reading` has what they share. Another format is a function, and an entry in a table of this module.

A file that was cut is found in each format, except for:

* JSON lines, several pickles or arrays in one file, and torch's `.distcp`, cut exactly between two parts. The file
  `.metadata`, which torch writes last, tells that a directory with `.distcp` files is whole;
* a JSON value that is one number, and the last line of JSON lines where that is one;
* a tar file whose last members, of up to 10,240 bytes, are zeros: zeros end a tar file;
* a gzip file of more than 4 MiB, a pickle of more than 500,000 opcodes or from joblib that happens to end with a full
  stop, and JSON of more than 4 MiB that happens to end with a bracket.

Other damage that is not found:

* bytes that were changed, or never written, within tensors, arrays and other content. Of these formats only zip and
  gzip have checksums of the content, and only a small gzip file is read as a whole;
* a whole file of the wrong step, or one that does not fit the files beside it.

For other formats, and for names without a known suffix whose content is not known either, only time can tell: such a
file counts as whole.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from lvjobs.worker.program.formats.archives import GZIP, USTAR, USTAR_AT, gzip_flaw, tar_flaw
from lvjobs.worker.program.formats.arrays import HDF5, NPY, hdf5_flaw, npy_flaw, safetensors_flaw
from lvjobs.worker.program.formats.pickles import PICKLES, TORCH, pickle_flaw, torch_flaw
from lvjobs.worker.program.formats.reading import RAW, in_bytes, is_zero, read_at
from lvjobs.worker.program.formats.texts import json_flaw, lines_flaw
from lvjobs.worker.program.formats.zips import END, ENTRY, zip_flaw

Check = Callable[[BinaryIO, int], str]


def _start_flaw(stream: BinaryIO, size: int) -> str:
    """Return the flaw of a file that may have any content and is too short to show one of torch's formats."""
    start = read_at(stream, 0, RAW)
    torn = any(magic.startswith(start) for magic in (ENTRY, *TORCH))
    return f"torch: it has only {in_bytes(size)}" if torn else ""


def _saved_flaw(stream: BinaryIO, size: int) -> str:
    """Return the flaw of a file whose name is usual for pickles and for torch, and whose first bytes no format has."""
    start = read_at(stream, 0, RAW)
    if start.startswith(PICKLES):
        return pickle_flaw(stream, size)
    return "zeros are in place of its first bytes" if is_zero(start) else _start_flaw(stream, size)


def _saved_or_tar_flaw(stream: BinaryIO, size: int) -> str:
    """Return the flaw of a file named `.tar`, which is also a usual name for torch's files."""
    if size < RAW and not read_at(stream, 0, RAW).startswith(PICKLES):
        return f"tar: it has only {in_bytes(size)}"
    return _saved_flaw(stream, size)


_BY_CONTENT: tuple[tuple[int, bytes, Check], ...] = (
    (0, ENTRY, zip_flaw),
    (0, END, zip_flaw),
    *((0, magic, torch_flaw) for magic in TORCH),
    (0, NPY, npy_flaw),
    (0, HDF5, hdf5_flaw),
    (0, GZIP, gzip_flaw),
    (USTAR_AT, USTAR, tar_flaw),
)
"""The offset and the bytes by which a format is recognised, and its check."""

_BY_NAME: dict[str, Check] = {
    ".pt": _saved_flaw,
    ".pth": _saved_flaw,
    ".ckpt": _saved_flaw,
    ".pkl": _saved_flaw,
    ".pickle": _saved_flaw,
    ".metadata": _saved_flaw,
    ".tar": _saved_or_tar_flaw,
    ".bin": _start_flaw,
    ".distcp": _start_flaw,
    ".npz": zip_flaw,
    ".zip": zip_flaw,
    ".keras": zip_flaw,
    ".npy": npy_flaw,
    ".safetensors": safetensors_flaw,
    ".h5": hdf5_flaw,
    ".hdf5": hdf5_flaw,
    ".json": json_flaw,
    ".jsonl": lines_flaw,
    ".ndjson": lines_flaw,
    ".gz": gzip_flaw,
    ".tgz": gzip_flaw,
}
"""The check of a file whose content is not recognised, by its suffix in lower case."""

_MAY_BE_EMPTY = {".distcp", ".jsonl", ".ndjson"}
"""The names of files that may hold no byte. Torch writes such `.distcp` files for threads without tensors."""


_UNCHECKED: tuple[Check, ...] = (_start_flaw,)
"""Checks that say nothing about a file's end."""


def shows_its_end(path: Path) -> bool:
    """Return whether `flaw_of` finds that this file was cut. Raises OSError if the file cannot be read."""
    with path.open("rb") as stream:
        start = stream.read(RAW)
    if any(start.startswith(magic, offset) for offset, magic, _ in _BY_CONTENT):
        return True
    check = _BY_NAME.get((path.suffix or path.name).lower(), _start_flaw)
    return check not in _UNCHECKED and (check is not _saved_flaw or start.startswith(PICKLES))


def flaw_of(path: Path) -> str:
    """Return "" where a file is whole as far as its format tells, else a few words about what is wrong.

    Args:
        path: A file, which may still be written. Its content decides which format it has, and then its name.

    Raises:
        OSError: The file cannot be read, or is no regular file.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:  # a pipe's end would wait
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no regular file")
        start = read_at(stream, 0, RAW)
        suffix = (path.suffix or path.name).lower()  # the name ".metadata" has no suffix
        if not start:
            return "it is empty" if suffix in _BY_NAME and suffix not in _MAY_BE_EMPTY else ""
        for offset, magic, check in _BY_CONTENT:
            if start.startswith(magic, offset):
                return check(stream, status.st_size)
        check_by_name = _BY_NAME.get(suffix)
        return check_by_name(stream, status.st_size) if check_by_name else ""
