"""The weights of a base model, known by their SHA-256: an adapter fits only those on which it was trained.

The shapes of other weights may be the same. Without this check, an adapter of a former `tiny`, or of another snapshot
of a hub model, would resume or forecast on weights that it does not fit, and nothing would be noticed.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.errors import LvjobsError
from lvjobs.forecasting.data import sha256
from lvjobs.forecasting.hub import weight_files

BASE_FILE = "base_model.json"
"""The file in an adapter's directory that names its base model. PEFT ignores it."""
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
    """Write the adapter's base model into the adapter's directory."""
    (directory / BASE_FILE).write_text(json.dumps(asdict(base)) + "\n", encoding="utf-8")


def check_base(directory: Path, base: BaseWeights) -> None:
    """Check that an adapter was trained on these weights. An adapter that does not name its base is let pass.

    Raises:
        LvjobsError: it was trained on others, or its file cannot be read.
    """
    path = directory / BASE_FILE
    if not path.is_file():  # of an older release, or saved by plain PEFT
        return
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        trained_on = BaseWeights(str(found["model"]), str(found["weights_sha256"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LvjobsError(f"{path} names no base model ({error!r}): restore it from a copy") from None
    if trained_on.weights_sha256 != base.weights_sha256:
        raise LvjobsError(
            f"the adapter was trained on weights of {trained_on.model} with the SHA-256 "
            f"{trained_on.weights_sha256[:16]}…, and {base.model} has other weights here, "
            f"{base.weights_sha256[:16]}…: put those weights back, or train again; to look at it, type: "
            f"{remedies.MODEL_CHECK(model=base.model)}"
        )
