"""Studies that `lvjobs init` writes: the published one, and the same for `tiny` on a laptop."""

from lvjobs.study.stages import Stage

_TRAINED = ["base", "stage1", "stage2", "final"]

PUBLISHED = (
    Stage(name="zero_shot", zero_shot=["raw", "instruct"]),
    Stage(name="base", set={"lora_rank": 4, "learning_rate": 1e-5, "context_length": 512}, steps=5000),
    Stage(
        name="stage1",
        grid={"lora_rank": [2, 4, 8], "learning_rate": [1e-4, 5e-5, 1e-5]},
        set={"context_length": 512},
        steps=500,
    ),
    Stage(name="stage2", origin="stage1", grid={"context_length": [128, 512, 768]}, steps=500),
    Stage(name="final", origin="stage2", steps=10_000),
    Stage(name="evaluate", evaluate=_TRAINED),
)
"""Zero-shot, the default run, rank x learning rate, context length, the long run, and the scores of all of them."""
