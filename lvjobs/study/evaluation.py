"""The `params` of the bundled evaluation task: declared here, without torch, so that `evaluate` can check them."""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from lvjobs.study.fields import Float, Int
from lvjobs.study.training import TrainingConfig

EVALUATE_TASK = "lvjobs.forecasting.evaluate:evaluate"

SplitName: TypeAlias = Literal["last200", "random", "asked"]
"""`asked`: named by the user, not drawn, and perhaps trained on; never compared with held-out series."""
PromptName: TypeAlias = Literal["raw", "instruct"]


class EvaluationConfig(BaseModel):
    """Forecasts of held-out series with one model, scored beside the baselines.

    `training` has the model, data and codec (its settings of the training itself have no effect); `adapter` is a
    directory in PEFT's format, empty for the base model as it is. `systems` are the indices of the series in the file,
    drawn by `split` when the evaluation was declared. `batch` series go through the model at once, and are one step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TrainingConfig
    adapter: str = ""
    prompt: PromptName = "raw"
    split: SplitName = "last200"
    systems: list[Int] = Field(min_length=1)
    batch: Int = Field(default=20, gt=0)
    temperature: Float = Field(default=0.0, ge=0, description="0: the likeliest digit, always")
    top_p: Float = Field(default=1.0, gt=0, le=1)
    samples: Int = Field(default=1, gt=0)
    likelihood: bool = Field(default=False, description="also how likely the model holds the truth, a pass more")

    @property
    def steps(self) -> int:
        """Return the number of batches."""
        return -(-len(self.systems) // self.batch)
