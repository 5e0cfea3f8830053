"""The software and hardware of an attempt, as far as its results depend on them bit by bit."""

import contextlib
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import lvjobs

_PACKAGES = ("python", "torch", "numpy", "safetensors", "transformers", "peft", "accelerate", "bitsandbytes")
_NVIDIA = Path("/proc/driver/nvidia/gpus")
_CPU = Path("/proc/cpuinfo")


def versions(packages: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of lvjobs, of Python and of the most important of these packages.

    Under `device` is the model of this node's GPUs or CPU.
    """
    found = {"lvjobs": lvjobs.__version__, **{name: packages[name] for name in _PACKAGES if name in packages}}
    return found | {"device": device_name(os.environ.get("CUDA_VISIBLE_DEVICES"))}


def python_path() -> str:
    """Return PYTHONPATH without the directory of the submitted code: the entries of the shell, or of loaded modules."""
    code = str(Path(lvjobs.__file__).parents[1])
    return os.pathsep.join(
        each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each not in ("", code)
    )


def device_name(visible: str | None, nvidia: Path = _NVIDIA, cpu: Path = _CPU) -> str:
    """Return the model of this node's GPUs, else of its CPU. `visible` is CUDA_VISIBLE_DEVICES.

    This reads files: torch would be loaded before threads are pinned, and would start CUDA before each process of a
    group has a GPU of its own.
    """
    models = sorted(set(_values("Model", sorted(nvidia.glob("*/information")))))
    if models and visible != "":
        return ", ".join(models)
    return next(_values("model name", [cpu]), platform.machine())


def _values(key: str, paths: Sequence[Path]) -> Iterator[str]:
    for path in paths:
        with contextlib.suppress(OSError):
            yield from re.findall(rf"^{key}\s*:\s*(.+?)\s*$", path.read_text(encoding="utf-8"), re.MULTILINE)
