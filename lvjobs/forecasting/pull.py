"""The download of a base model from Hugging Face's hub into the cache: only the files that a job needs."""

from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.flops.architecture import hub_id_of
from lvjobs.forecasting.hub import TINY, lacking

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
            "tiny is shipped with lvjobs, and there is nothing to pull; to look at it, type: "
            f"{remedies.MODEL_CHECK(model=TINY)}"
        )
    if Path(model).is_dir():
        raise UsageError(
            f"{model} is a directory: --model takes it as it is; to look at it, type: "
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
            "it goes on with what is missing"
        ) from None
    if missing := lacking(Path(directory)):
        raise UsageError(
            f"{hub_id} is not whole: {directory} lacks {', '.join(missing[:3])}; type this again where there is a "
            "network: if that does not help, the model is not stored as safetensors, and cannot be used"
        )
    return hub_id


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
