"""The weights of a base model, known by their SHA-256: an adapter fits only those on which it was trained.

The shapes of other weights may be the same. Without this check, an adapter of a former `tiny`, or of another snapshot
of a hub model, would resume or forecast on weights that it does not fit, and nothing would be noticed.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from lvjobs import remedies
from lvjobs.errors import LvjobsError
from lvjobs.forecasting.data import sha256
from lvjobs.forecasting.hub import weight_files

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_KEY = "base_weights_sha256"
"""The entry in the metadata of an adapter's file of weights. PEFT ignores it."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BaseWeights:
    """The name of a base model, as its run was declared, and the SHA-256 of its weights (see `sha256_of_weights`)."""

    model: str
    weights_sha256: str


def sha256_of_weights(directory: Path) -> str:
    """Return the SHA-256 of a model's file of weights; of several files, that of their SHA-256s in order.

    A file in the hub's cache is a link to a file that is named by its SHA-256, which is taken from the name.
    """
    paths = [(directory / name).resolve() for name in weight_files(directory)]
    found = [path.name if _SHA256.fullmatch(path.name) else sha256(path) for path in paths]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def write_base(directory: Path, base: BaseWeights) -> None:
    """Write into a saved adapter's file of weights on which base weights it was trained.

    The header is written here, because safetensors writes several entries of metadata in an order that changes, and
    equal adapters have equal bytes. (Format: 8 bytes with the header's length, a header in JSON, the weights; the
    weights' places count from the header's end. https://huggingface.co/docs/safetensors)
    """
    path = directory / ADAPTER_WEIGHTS
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = {**header.get("__metadata__", {}), _KEY: base.weights_sha256}
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)  # the weights begin at a multiple of 8
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def check_base(directory: Path, base: BaseWeights) -> None:
    """Check that an adapter was trained on these weights. An adapter that does not name its base passes.

    Raises:
        LvjobsError: it was trained on others.
    """
    from safetensors import safe_open

    with safe_open(directory / ADAPTER_WEIGHTS, framework="pt") as file:
        trained_on = (file.metadata() or {}).get(_KEY, "")  # absent: of an older release, or saved by plain PEFT
    check_same_weights("the adapter was trained", trained_on, base, otherwise="train again")


def check_same_weights(what: str, before: str, now: BaseWeights, *, otherwise: str) -> None:
    """Check that a base model's weights are those of before.

    Args:
        what: What was done on the weights of before, for the message: "the adapter was trained".
        before: Their SHA-256; empty if it is not known, which passes.
        now: The weights that are here.
        otherwise: What to do if the weights of before cannot be had, for the message: "train again".

    Raises:
        LvjobsError: they are others.
    """
    if before not in ("", now.weights_sha256):
        raise LvjobsError(
            f"{what} on base weights with the SHA-256 {before[:16]}…, and {now.model} has other weights here, "
            f"{now.weights_sha256[:16]}…: put those weights back, or {otherwise}; to check it, type: "
            f"{remedies.MODEL_CHECK(model=now.model)}"
        )
