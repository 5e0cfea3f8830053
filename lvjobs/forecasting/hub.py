"""The place of base models on this machine, and whether a job can use them: found, checked and pulled without torch.

Jobs never download. A model is `tiny`, a directory, or in the cache of Hugging Face's hub, which `pull` fills on a
machine with a network; HF_HOME (or HF_HUB_CACHE) sets the cache's place, in a job as here.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.flops.architecture import TINY_CONFIG, cached_config, hub_id_of
from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.tokens import Characters

TINY = "tiny"
TINY_DIRECTORY = TINY_CONFIG.parent

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_NUMBERS = {"F64", "F32", "F16", "BF16"}
"""The types of weights whose elements are single parameters; in others, an element holds several, packed."""


@dataclass(frozen=True)
class BaseModel:
    """A base model that is complete on this machine, with a usable tokenizer.

    Attributes:
        directory: The directory of its files.
        parameters: The number of parameters, with shared weights counted once; None if they are stored packed.
        chat_template: Whether it has one, as format "instruct" needs.
        split: Pairs of characters that are written apart though its tokenizer would merge them; None if there is no
            tokenizer.json to check: the job then checks it when it starts.
    """

    directory: Path
    parameters: int | None
    chat_template: bool
    split: tuple[str, ...] | None


def directory_of(model: str) -> Path | None:
    """Return the directory of a model's files: the package's for `tiny`, that directory, or a snapshot in the cache."""
    if model == TINY:
        return TINY_DIRECTORY
    if Path(model).is_dir():
        return Path(model)
    config = cached_config(model)
    return None if config is None else config.parent


def find_model(model: str, decimals: int = 2, *, instruct: bool = False) -> BaseModel:
    """Return the model, if a job of this machine could use it for series with so many decimals.

    Args:
        model: `tiny`, a directory, or a hub id.
        decimals: Decimals of a value, as written.
        instruct: Whether it is to be prompted in its chat template.

    Raises:
        UsageError: it is not here, or not complete, or its tokenizer would merge digits or separators, or it has no
            chat template and needs one. The text says what to type.
    """
    directory = whole(model)
    if pipeline_of(directory):
        raise UsageError(
            f"model {model!r} is a Chronos model: it forecasts numbers, and is neither trained nor prompted here",
            f"to compare with it, evaluate with --baseline chronos:{model}",
        )
    parameters = parameters_of(directory)
    settings = directory / "tokenizer_config.json"
    has_template = any((directory / name).is_file() for name in _TEMPLATES) or (
        settings.is_file() and bool(_read_json(settings).get("chat_template"))
    )
    if instruct and not has_template:
        raise UsageError(
            f'model {model!r}: its tokenizer has no chat template, so "instruct" cannot be used', 'use "raw"'
        )
    return BaseModel(directory, parameters, has_template, _split(model, directory, decimals))


def pipeline_of(directory: Path) -> str:
    """Return the name of the class that forecasts with a Chronos model; empty for a model of another kind."""
    if not (file := directory / "config.json").is_file():
        return ""
    config = _read_json(file)
    return str(config.get("chronos_pipeline_class") or ("ChronosPipeline" if "chronos_config" in config else ""))


def whole(model: str) -> Path:
    """Return the directory of a model. Raises UsageError if it is not here, or not complete."""
    directory = directory_of(model)
    if directory is None:
        raise _absent(model)
    if missing := lacking(directory):
        remedy = "copy it again" if Path(model).is_dir() else f"type: {remedies.MODEL_PULL(model=model)}"
        raise UsageError(f"model {model!r} is incomplete: {directory} lacks {', '.join(missing[:3])}", remedy)
    return directory


def lacking(directory: Path) -> list[str]:
    """Return what a model's directory lacks of configuration, weights as safetensors, and tokenizer.

    A Chronos model has no tokenizer.
    """
    missing = [] if (directory / "config.json").is_file() else ["config.json"]
    missing += [name for name in weight_files(directory) if not (directory / name).is_file()]
    if not has_tokenizer(directory) and not pipeline_of(directory):
        missing.append(_TOKENIZERS[0])
    return missing


def has_tokenizer(directory: Path) -> bool:
    """Return whether a model's directory has a tokenizer's file."""
    return any((directory / name).is_file() for name in _TOKENIZERS)


def weight_files(directory: Path) -> list[str]:
    """Return the names of a model's files of weights, whether or not they exist."""
    index = directory / INDEX
    if (directory / WEIGHTS).is_file() or not index.is_file():
        return [WEIGHTS]
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UsageError(f"{index} names no weights, so it is damaged", "fetch or copy it again")
    return sorted(set(map(str, places.values())))


def _absent(model: str) -> UsageError:
    from huggingface_hub import constants

    if not is_hub_id(model):
        return UsageError(f"model {model!r} is neither 'tiny', nor an existing directory", NO_HUB_ID)
    return UsageError(
        f"model {model!r} is neither 'tiny', nor a directory, nor in the cache of models ({constants.HF_HUB_CACHE}), "
        "and jobs do not download",
        f"on a machine with a network, with the same HF_HOME, type: {remedies.MODEL_PULL(model=model)}",
    )


NO_HUB_ID = "name a directory, or a model of the hub like Qwen/Qwen2.5-0.5B-Instruct"


def is_hub_id(model: str) -> bool:
    """Return whether this is a valid name for a model of the hub, so that it may be pulled."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(model)
    except HFValidationError:
        return False
    return True


def parameters_of(directory: Path) -> int | None:
    """Return the number of weights, from the files' headers alone; None if they are packed.

    Raises:
        UsageError: a file of weights is cut short, or is none.
    """
    total, is_packed = 0, False
    for name in weight_files(directory):
        path = directory / name
        try:
            with path.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                size = path.stat().st_size
                header = json.loads(stream.read(length)) if length < size else {}
            weights = [value for key, value in header.items() if key != "__metadata__"]
            end = 8 + length + max(weight["data_offsets"][1] for weight in weights)
        except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            raise UsageError(f"{path} holds no weights as safetensors: {error}", "fetch or copy it again") from None
        if end != size:
            raise UsageError(f"{path} is cut short: {size} of {end} bytes", "fetch or copy it again")
        is_packed |= any(weight["dtype"] not in _NUMBERS for weight in weights)
        total += sum(math.prod(weight["shape"]) for weight in weights)
    return None if is_packed else total


def _split(model: str, directory: Path, decimals: int) -> tuple[str, ...] | None:
    """Make the job's check of the tokenizer by its file alone, and return the pairs that are written apart.

    Raises:
        UsageError: it fails.
    """
    path = directory / _TOKENIZERS[0]
    if not path.is_file():
        return None
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - that library raises nothing narrower
        raise UsageError(f"{path} cannot be read as a tokenizer ({error})", "fetch or copy it again") from None
    try:
        return Characters(_Plain(tokenizer), model, Codec(decimals=decimals)).split
    except LvjobsError as error:
        raise UsageError(error.problem, error.remedy) from None


class _Plain:
    """A tokenizer with the methods that `Characters` needs, without transformers."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error})", "fetch or copy it again") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object", "fetch or copy it again")
    return value


_WANTED = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
_UNWANTED = ("*/*", "consolidated*")
"""The patterns of other programs' weights: in folders (onnx, original), and `consolidated*` at the top."""


def pull(model: str) -> str:
    """Fetch a model, or its missing files, and return its hub id.

    Raises:
        UsageError: there is no such model, it may not be read, there is no network, or it has no safetensors.
    """
    if model == TINY:
        raise UsageError(
            "tiny is shipped with lvjobs, and there is nothing to pull; to check it, type: "
            f"{remedies.MODEL_CHECK(model=TINY)}"
        )
    if Path(model).is_dir():
        raise UsageError(
            f"{model} is a directory: use it directly with --model; to check it, type: "
            f"{remedies.MODEL_CHECK(model=model)}"
        )
    import huggingface_hub
    from huggingface_hub import errors

    known: Any = errors
    hub_id = hub_id_of(model)
    try:
        directory = huggingface_hub.snapshot_download(
            hub_id, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED)
        )
    except known.HFValidationError as error:
        raise UsageError(f"{model!r} is no hub id ({_line(error)}); write it like Qwen/Qwen2.5-0.5B-Instruct") from None
    except known.GatedRepoError:
        raise UsageError(
            f"{hub_id} is shown only to those who accepted its terms: do so on its page, then type: hf auth login"
        ) from None
    except known.RepositoryNotFoundError:
        raise UsageError(
            f"the hub knows no model {hub_id!r}; mind the spelling, and if it is private, type: hf auth login"
        ) from None
    # HTTPError is the library's name for errors of either HTTP library; OSError also covers a full disk.
    except (known.HTTPError, OSError) as error:
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            raise UsageError(f"HF_HUB_OFFLINE is set: unset it, and type this again to fetch {hub_id}") from None
        raise UsageError(
            f"{hub_id} could not be fetched ({_line(error)}); type this again where there is a network (a login node): "
            "it continues where it stopped"
        ) from None
    if missing := lacking(Path(directory)):
        raise UsageError(
            f"{hub_id} is incomplete: {directory} lacks {', '.join(missing[:3])}; type this again where there is a "
            "network: if that does not help, the model is not stored as safetensors, and cannot be used"
        )
    return hub_id


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
