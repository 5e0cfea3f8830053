"""The conversion of a GGUF file, for labs that have no other, to a directory that any tool can load."""

import shutil
import struct
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from lvjobs import remedies
from lvjobs.errors import UsageError

_SAMPLE = "0.12,3.45;6.78,9.01;"
_UNREADABLE = (OSError, ValueError, KeyError, NotImplementedError, struct.error)
"""Errors that transformers raises for a file that is no GGUF, is cut off, or holds an unknown kind of model."""


def convert(file: Path, directory: Path, precision: Literal["fp32", "bf16"] = "fp32") -> None:
    """Write the model of a GGUF file to `directory`: safetensors, tokenizer, chat template. fp32 loses nothing.

    It is written aside and renamed: the directory is complete, or it does not exist.

    Raises:
        UsageError: the file does not exist or transformers cannot read it; the directory exists already; the package
            gguf is missing; or the written model differs from the one that was read.
    """
    if not file.is_file():
        raise UsageError(f"{file}: no such file; name one that ends in .gguf")
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise UsageError(f"{file} is no GGUF file; name another")
    if directory.exists():
        raise UsageError(f"{directory} exists; name another directory, or remove it first")
    if find_spec("gguf") is None:
        command = remedies.INSTALL_EXTRA(python=sys.executable, package="lvjobs[gguf]")
        raise UsageError(f"reading GGUF files takes the package gguf; type: {command}")
    aside = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        _write(file, aside, precision)
        aside.rename(directory)
    except OSError as error:
        raise UsageError(
            f"{directory} cannot be written ({error}); free disk space there, or name another directory"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(file: Path, directory: Path, precision: str) -> None:
    import torch
    import transformers

    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    source = {"gguf_file": file.name, "local_files_only": True}
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(file.parent), **source)
        read = transformers.AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=dtype, **source)
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"{file} holds no model that transformers can read ({reason}); use the model's safetensors instead"
        ) from error
    # transformers does not save a model read from GGUF, because it is quantised. So a new model gets its weights.
    config = read.config
    del config.quantization_config
    clean = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    clean.load_state_dict(read.state_dict())
    clean.eval().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    del clean
    _compare(transformers, read, tokenizer, directory)
    for path in directory.glob("*.safetensors"):  # written for their owner only, but a lab shares its models
        path.chmod((directory / "config.json").stat().st_mode)


def _compare(transformers: Any, model: Any, tokenizer: Any, directory: Path) -> None:
    """Raise UsageError unless the written model loads as the one that was read: tokens, logits, template."""
    import torch

    other = transformers.AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    ids = tokenizer.encode(_SAMPLE, add_special_tokens=False)
    if other.encode(_SAMPLE, add_special_tokens=False) != ids or other.chat_template != tokenizer.chat_template:
        raise UsageError(
            "the tokenizer does not come back from its files as it was read; nothing was written: use the model's "
            "safetensors instead"
        )
    loaded = transformers.AutoModelForCausalLM.from_pretrained(str(directory), local_files_only=True, dtype=model.dtype)
    with torch.no_grad():
        logits, expected = (each.eval()(torch.tensor([ids])).logits for each in (loaded, model))
    if not torch.equal(logits, expected):
        raise UsageError(
            "the model does not come back from its files as it was read; nothing was written: use the model's "
            "safetensors instead"
        )
