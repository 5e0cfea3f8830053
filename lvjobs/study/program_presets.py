"""What [train] says by `preset = "..."` about a known library: its checkpoints, its progress and its signals.

Measured with transformers 5.24, trl 1.16, accelerate 1.15 and Lightning 2.6. A key that [train] has itself is kept.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

PresetName: TypeAlias = Literal["huggingface", "lightning", "accelerate", "torchtitan", "ultralytics", "torch-save"]

_BAR = r"(?P<step>\d+)/{steps} \["
"""tqdm's bar over all steps. A bar over something else has another total."""

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "huggingface": {
        "checkpoint": "{out}/checkpoint-{step}",
        "complete": "trainer_state.json",
        "resume": ["--resume_from_checkpoint={checkpoint}"],
        "progress": [_BAR],
        "metrics": [rf"'{name}': '?(?P<{name}>[-+.\deEnaif]+)" for name in ("loss", "learning_rate", "grad_norm")],
    },
    "accelerate": {"checkpoint": "{out}/step_{step}", "resume": ["--resume_from_checkpoint={checkpoint}"]},
})  # fmt: skip


def with_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of [train] with those that its preset has for keys that it lacks."""
    return {**PRESETS.get(str(values.get("preset")), {}), **values}
