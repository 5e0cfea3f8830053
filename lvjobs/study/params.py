"""The `params` of the bundled tasks: declared here, without torch, so that commands can check them."""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lvjobs.study.fields import Float, Int, Texts
from lvjobs.study.tables import SettingsTable

TRAIN_TASK = "lvjobs.forecasting.train:train"

NUMERIC_HEAD = 14
"""Logits per token with `head = "numeric"`: ten digits, point, sign, two separators."""

LOSS_NAMES = {"full": "loss", "numeric": "loss_numeric"}
"""The name of the loss, by `head`: the two are losses of different objectives. `records.curves.LOSSES` has both."""

SPLIT = ("split", "split_seed", "folds")
"""Keys that decide which systems are scored, over all folds."""

VALIDATED = frozenset({
    *("data", "history_steps", "horizon_steps", "validation_systems", "validation_limit", "validation_forecasts"),
    *SPLIT,
})  # fmt: skip
"""Keys that decide which systems and steps are validated."""

OBJECTIVE = VALIDATED | {
    *("head", "format", "decimals", "scaling", "scale_target", "scale_alpha", "scale_beta", "scale_power"),
}
"""Keys that decide which text is validated, and over which characters: with another value, a loss measures something
else.

One decimal less, for example, lowers it by about 2.3 nats per number, however good the forecasts are.
"""


class TrainingConfig(SettingsTable):
    """LoRA fine-tuning of a causal language model on LLMTIME-formatted series.

    `context_length` is the *training* window in tokens; validation always uses the same fixed windows (`history_steps`
    of history and `horizon_steps` of horizon). `lora_alpha` None means the rank. `data_sha256` pins the file that
    `data` named when the run was declared.

    The last 20 % of the file are scored. The series before them are for training, except the last `validation_systems`
    of them, which validate the training. With 0, the scored series validate, as in the published study: choosing a
    checkpoint or a cell by them is choosing on the test set.

    `scaling` "series" scales each by its own history, "global" by the histories of all training series. `format`
    "instruct" puts an instruction around them, in the model's chat template. `head` "numeric" learns and decodes only
    over the characters of a series: its loss (`loss_numeric`) is another objective, never compared with that of "full".
    """

    model: str = Field(
        default="tiny", min_length=1, description="tiny (comes with lvjobs), a directory, or a Hugging Face id"
    )
    data: str = Field(min_length=1)
    data_sha256: str = Field(default="", description="checksum of the data; lvjobs sets it when a run is declared")
    context_length: Int = Field(default=512, ge=16, description="training window in tokens")
    batch_size: Int = Field(default=4, gt=0, description="windows per batch")
    accumulate: Int = Field(
        default=1, gt=0, description="batches per optimizer step; a step costs as many times as much"
    )
    lora_rank: Int = Field(default=4, gt=0, description="rank of the LoRA adapter")
    lora_alpha: Float | None = Field(
        default=None, gt=0, description="scale of the LoRA adapter; default: the rank", examples=[8]
    )
    lora_dropout: Float = Field(default=0.05, ge=0, lt=1, description="dropout on the adapter's input")
    lora_targets: Literal["qv", "all-linear"] = Field(
        default="qv", description="adapted layers; qv: query and value projections"
    )
    learning_rate: Float = Field(default=1e-5, gt=0, description="peak learning rate")
    weight_decay: Float = Field(default=0.0, ge=0, description="weight decay of AdamW")
    warmup_steps: Int = Field(default=0, ge=0, description="steps in which the learning rate rises")
    schedule: Literal["cosine", "linear", "constant", "wsd"] = Field(
        default="cosine", description="decay of the learning rate; wsd: warm-up, stable, decay"
    )
    decay_steps: Int | None = Field(
        default=None,
        gt=0,
        description="last steps, in which the rate of wsd falls; default: a tenth of all",
        examples=[50],
    )
    max_grad_norm: Float = Field(default=1.0, gt=0, description="norm to which gradients are clipped")
    compile: bool = Field(default=False, description="use torch.compile; needs a compiler where the job runs")
    early_stopping_patience: Int | None = Field(
        default=None,
        gt=0,
        description="stop after this number of validations in a row without a lower loss; default: never",
        examples=[3],
    )
    early_stopping_delta: Float = Field(default=0.0, ge=0, description="least decrease that counts as a lower loss")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="number format in which the base model computes"
    )
    quantization: Literal["auto", "none", "nf4"] = Field(
        default="auto", description="quantization of the frozen weights; auto: nf4 on a GPU, except for tiny"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="save memory by recomputing layers in the backward pass (docs/training.md)"
    )
    decimals: Int = Field(default=2, ge=1, le=6, description="decimals of each number in the text")
    scale_target: Float = Field(
        default=6.0, gt=0, description="value to which the `scale_alpha` quantile of a series' history is scaled"
    )
    scale_alpha: Float = Field(default=0.99, ge=0, le=1, description="quantile of the history that sets the scale")
    scale_beta: Float = Field(
        default=0.3, ge=0, description="offset below the history's minimum, as a fraction of the history's range"
    )
    scale_power: Float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="power applied to values before they are written: 1: none; 0.5: square roots; 0: logarithms",
        examples=[0.5],
    )
    scaling: Literal["series", "global"] = Field(
        default="series", description="scale by each series' own history, or by all training histories"
    )
    history_steps: Int = Field(default=80, gt=0, description="time steps that a forecast sees")
    horizon_steps: Int = Field(default=20, gt=0, description="time steps that a forecast predicts")
    format: Literal["raw", "instruct"] = Field(
        default="raw", description="the series alone, or within an instruction (chat template)"
    )
    packing: bool = Field(
        default=False, description="fill windows with several series instead of padding; needs format raw"
    )
    head: Literal["full", "numeric"] = Field(
        default="full", description="loss over all tokens, or only over the characters of numbers"
    )
    data_systems: Int = Field(
        default=0, ge=0, description="systems in the data, for splits other than last200; lvjobs sets it, too"
    )
    split: Literal["last200", "random", "k-fold"] = Field(
        default="last200",
        description="systems that are scored, and not trained on: the last fifth, a random fifth, or one fold",
    )
    split_seed: Int = Field(default=0, ge=0, description="order of the systems from which the other splits are cut")
    folds: Int = Field(default=5, gt=1, description="parts of a k-fold split")
    fold: Int = Field(default=0, ge=0, description="part that is scored, from 0 on; in a grid: each system once")
    train_systems: Int | None = Field(
        default=None,
        gt=0,
        description="systems to train on (the first ones); default: the whole training set",
        examples=[100],
    )
    validation_systems: Int | None = Field(
        default=None,
        ge=0,
        description="systems held out for validation; default: a tenth; 0: use the scored ones",
        examples=[50],
    )
    validation_limit: Int = Field(default=32, gt=0, description="systems that a validation uses, at most")
    validation_forecasts: Int = Field(
        default=0,
        ge=0,
        description="validation systems that each validation forecasts too: their validation_mae then decides which "
        "checkpoint is best and when to stop early; 0: none, and the loss decides",
    )

    @model_validator(mode="after")
    def _has_its_fold(self) -> "TrainingConfig":
        if self.split != "k-fold" and (self.fold or self.folds != type(self).model_fields["folds"].default):
            raise ValueError(f'fold and folds are of another split than {self.split!r}: add split = "k-fold"')
        if self.fold >= self.folds:
            raise ValueError(f"fold = {self.fold}, and with folds = {self.folds} it is 0 to {self.folds - 1}")
        return self

    @model_validator(mode="after")
    def _packs_raw_series_only(self) -> "TrainingConfig":
        if self.packing and self.format == "instruct":
            raise ValueError('packing cuts series anywhere, so it needs format = "raw"; set that, or leave packing out')
        return self

    @property
    def loss_name(self) -> str:
        """Return the name of the loss in journals and files: that of a numeric head is another objective."""
        return LOSS_NAMES[self.head]


USUAL_VARIABLES = 2
"""The variables of a series where the data are not there to be asked, as in an estimate made beforehand."""

EVALUATE_TASK = "lvjobs.forecasting.evaluate:evaluate"

SplitName: TypeAlias = Literal["last200", "random", "asked"]
"""`asked`: named by the user, not drawn, and perhaps trained on; never compared with held-out series."""
PromptName: TypeAlias = Literal["raw", "instruct"]


class EvaluationConfig(BaseModel):
    """Forecasts of held-out series with one model, scored beside the baselines.

    `training` has the model, data and codec (its settings of the training itself have no effect); `adapter` is a
    directory in PEFT's format, empty for the base model as it is. `systems` are the indices of the series in the file,
    drawn by `split` when the evaluation was declared. `batch` series go through the model at once, and are one step.
    `baselines` are the extra ones. Each is made after the model's forecasts, in as many steps of as many series.
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
    likelihood: bool = Field(default=False, description="also the likelihood of the truth: one more forward pass")
    baselines: Texts = Field(default_factory=list, description="extra baselines, sorted and once each")

    @field_validator("baselines")
    @classmethod
    def _in_one_order(cls, value: list[str]) -> list[str]:
        return sorted(set(value))

    @property
    def batches(self) -> int:
        """Return the number of batches of series."""
        return -(-len(self.systems) // self.batch)

    @property
    def steps(self) -> int:
        """Return the number of steps: a batch of forecasts each, of the model and then of each extra baseline."""
        return self.batches * (1 + len(self.baselines))

    def step_of(self, step: int) -> tuple[str, list[int]]:
        """Return what a step forecasts, from 1 on: the extra baseline (empty: the model) and the systems."""
        number, place = divmod(step - 1, self.batches)
        systems = self.systems[place * self.batch : (place + 1) * self.batch]
        return self.baselines[number - 1] if number else "", systems
