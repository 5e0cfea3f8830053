"""Keys of [train] that `preset = "..."` sets for a known library: its checkpoints, its progress and its signals.

Measured with transformers 5.24, trl 1.16, accelerate 1.15 and Lightning 2.6; torchtitan and ultralytics were read, not
run. A key that [train] has itself is kept. docs/programs.md shows a whole [train] for each.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

PresetName: TypeAlias = Literal["huggingface", "lightning", "accelerate", "torchtitan", "ultralytics", "torch-save"]

_NUMBER = r"[-+]?[\d.]+(?:[eE][-+]?\d+)?|nan"
_BAR = r"(?P<step>\d+)/{steps} \["
"""tqdm's bar over all steps. A bar over something else has another total."""


def _in_a_dictionary(printed: str, name: str) -> str:
    """Return the expression of a number in a printed dictionary: transformers 5 prints it as text."""
    return rf"'{printed}': '?(?P<{name}>{_NUMBER})"


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "huggingface": {
            "checkpoint": "{out}/checkpoint-{step}",
            "complete": "trainer_state.json",
            "resume": ["--resume_from_checkpoint={checkpoint}"],
            "progress": [_BAR],
            "metrics": [_in_a_dictionary(name, name) for name in ("loss", "grad_norm", "learning_rate")],
            "validation": [_in_a_dictionary("eval_loss", "loss")],
        },
        "lightning": {
            "checkpoint": "{out}/epoch=*-step={step}.ckpt",
            "resume": ["--ckpt_path={checkpoint}"],
            "progress_file": "{out}/lightning_logs/version_*/metrics.csv",
            "first_step": 0,
        },
        "accelerate": {
            "checkpoint": "{out}/step_{step}",
            "resume": ["--resume_from_checkpoint={checkpoint}"],
            "progress": [_BAR],
        },
        "torchtitan": {
            "checkpoint": "{out}/checkpoint/step-{step}",
            "complete": ".metadata",
            "progress": [rf"step:\s*(?P<step>\d+)\s+loss:\s*(?P<loss>{_NUMBER})"],
        },
        "ultralytics": {
            "checkpoint": "{out}/train/weights/last.pt",
            "resume_command": ["yolo", "train", "resume", "model={checkpoint}"],
            "progress_file": "{out}/train/results.csv",
            "progress_key": "epoch",
        },
        "torch-save": {"checkpoint": "{out}/ckpt.pt"},
    }
)


def with_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of [train] with those that its preset has for keys that it lacks."""
    return {**PRESETS.get(str(values.get("preset")), {}), **values}
