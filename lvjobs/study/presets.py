"""Named settings of [train] and stages that belong together. The user's own settings replace them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lvjobs.study.stages import Prune, Stage

_TRAINED = ["base", "stage1", "stage2", "final"]
_QWEN = {"model": "Qwen/Qwen2.5-0.5B-Instruct"}
_GRID = {"context_length": [128, 512, 768]}

PUBLISHED = (
    Stage(name="zero_shot", zero_shot=["raw", "instruct"]),
    Stage(name="base", set={"lora_rank": 4, "learning_rate": 1e-5, "context_length": 512}, steps=5000),
    Stage(
        name="stage1",
        grid={"lora_rank": [2, 4, 8], "learning_rate": [1e-4, 5e-5, 1e-5]},
        set={"context_length": 512},
        steps=500,
    ),
    Stage(name="stage2", origin="stage1", grid=_GRID, steps=500),
    Stage(name="final", origin="stage2", steps=10_000),
    Stage(name="evaluate", evaluate=_TRAINED),
)
"""The untrained model, the default run, rank x learning rate, context length, the long run, and the scores of all."""

_OFTEN = {"checkpoint_every": 50}
PUBLISHED_FITS = (
    *PUBLISHED[:2],
    Stage(
        name="stage1",
        grid=PUBLISHED[2].grid,
        set={"context_length": 512, **_OFTEN},
        steps=450,
        prune=Prune(rule="halving"),
    ),
    Stage(name="stage2", origin="stage1", grid=_GRID, set=_OFTEN, steps=450),
    Stage(name="final", origin="stage2", set={"checkpoint_every": 250}, steps=3500),
    Stage(name="evaluate", evaluate=_TRAINED),
)
"""The published study within its own limit of 1e17 official FLOPs, with validation, evaluation and one replay of each
run. The published one needs 1.85e17. Six of stage 1's nine runs stop at step 100, and the final run has 3,500 steps of
10,000; stages 1 and 2 have 450 of 500, so that 2/9 of them is a checkpoint.
"""

STUDY_TINY = (
    Stage(name="zero_shot", zero_shot=["raw"]),
    Stage(name="base", set={"lora_rank": 4, "learning_rate": 4e-3, "context_length": 512}, steps=200),
    Stage(
        name="stage1",
        grid={"lora_rank": [2, 4, 8], "learning_rate": [8e-3, 4e-3, 1e-3]},
        set={"context_length": 512},
        steps=90,
        prune=Prune(rule="halving"),
    ),
    Stage(name="stage2", origin="stage1", grid=_GRID, steps=90),
    Stage(name="final", origin="stage2", steps=400),
    Stage(name="evaluate", evaluate=_TRAINED),
)
"""The published study for `tiny` on a laptop: the steps of base and final / 25, and `tiny`'s own rates, with warm-up.
At the highest one, runs without it are unstable; with it, single seeds may be all the same if they train for longer. Of
stage 1's nine runs the best three continue from step 20. `tiny` can't read instructions.
"""

TINY_TRAINING: Mapping[str, Any] = MappingProxyType(
    {
        "steps": 500,
        "checkpoint_every": 50,
        "context_length": 1000,
        "lora_rank": 64,
        "lora_targets": "all-linear",
        "lora_dropout": 0.0,
        "learning_rate": 4e-3,
        "warmup_steps": 20,
        "weight_decay": 0.01,
        "scale_power": 0.5,
    }
)
"""Settings that train `tiny` well (results in docs/tiny.md). Its learning rates are far above a real model's. A window
is a whole series, written as square roots.
"""

STUDIES: Mapping[str, tuple[Mapping[str, Any], tuple[Stage, ...]]] = MappingProxyType(
    {
        "published": (_QWEN, PUBLISHED),
        "published-fits": (_QWEN, PUBLISHED_FITS),
        "five-steps": ({**_QWEN, "horizon_steps": 5}, PUBLISHED_FITS),
        "study-tiny": (
            {
                "steps": 200,
                "checkpoint_every": 10,
                "lora_targets": TINY_TRAINING["lora_targets"],
                "lora_dropout": TINY_TRAINING["lora_dropout"],
                "learning_rate": TINY_TRAINING["learning_rate"],
                "warmup_steps": 10,
                "validation_limit": 16,
            },
            STUDY_TINY,
        ),
    }
)
"""The content that `lvjobs init --preset NAME` writes: [train], and the stages. `five-steps` forecasts as many steps as
other published studies of these data (docs/evaluate.md).
"""
