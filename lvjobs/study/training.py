"""What the bundled forecasting task takes as `params`: declared here, torch-free, so that `submit` can check it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lvjobs.study.numbers import Float, Int

TRAIN_TASK = "lvjobs.forecasting.train:train"

NUMERIC_HEAD = 14
"""Logits a token under `head = "numeric"`: ten digits, point, sign, two separators."""

LOSS_NAMES = {"full": "loss", "numeric": "loss_numeric"}
"""Name of the loss, by `head`: the two are losses of different objectives. `records.curves.LOSSES` has both names."""

OBJECTIVE = frozenset({
    *("data", "head", "format", "decimals", "scaling", "scale_target", "scale_alpha", "scale_beta"),
    *("history_steps", "horizon_steps", "validation_systems", "validation_limit"),
})  # fmt: skip
"""Keys that say which text is validated, and over which characters: with another value a loss is of something else.

A decimal less, say, lowers it by some 2.3 nats a number, whatever the forecasts are like.
"""


class TrainingConfig(BaseModel):
    """LoRA fine-tuning of a causal language model on LLMTIME-formatted series.

    `context_length` is the *training* window in tokens; validation always uses the same fixed windows (80 steps of
    history and 20 of horizon). `lora_alpha` None means the rank. `data_sha256` pins the file that `data` named when
    the run was declared.

    The last 20 % of the file are scored. What precedes them trains, but for its last `validation_systems`, which tell
    how a training goes; 0 has the scored ones tell, as the published study did: whoever chooses a checkpoint or a cell
    by that chooses on the test set.

    `scaling` "series" scales each by its own history, "global" by the histories of all that train. `format` "instruct"
    puts an instruction around them, in the model's chat template. `head` "numeric" learns and decodes over the
    characters of a series alone: its loss (`loss_numeric`) is another objective, never compared with "full"'s.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str = Field(default="tiny", min_length=1, description="tiny, a directory, or a hub id")
    data: str = Field(min_length=1)
    data_sha256: str = Field(default="", description="of the file; written when a run is declared")
    context_length: Int = Field(default=512, ge=16, description="tokens of a training window")
    batch_size: Int = Field(default=4, gt=0, description="windows of a batch")
    accumulate: Int = Field(default=1, gt=0, description="batches whose gradients make one step")
    lora_rank: Int = Field(default=4, gt=0, description="of the adapter")
    lora_alpha: Float | None = Field(default=None, gt=0, description="None: the rank")
    lora_dropout: Float = Field(default=0.05, ge=0, lt=1, description="of the adapter's input")
    lora_targets: Literal["qv", "all-linear"] = Field(default="qv", description="which layers are adapted")
    learning_rate: Float = Field(default=1e-5, gt=0, description="the highest")
    weight_decay: Float = Field(default=0.0, ge=0, description="of AdamW")
    warmup_steps: Int = Field(default=0, ge=0, description="in which the rate rises")
    schedule: Literal["cosine", "linear", "constant"] = Field(default="cosine", description="how the rate falls")
    max_grad_norm: Float = Field(default=1.0, gt=0, description="to which gradients are clipped")
    compile: bool = Field(default=False, description="steps by torch.compile; needs a compiler where the job runs")
    early_stopping_patience: Int | None = Field(
        default=None, gt=0, description="validations in a row without a better loss that end the run; None: never"
    )
    early_stopping_delta: Float = Field(default=0.0, ge=0, description="how much lower a better loss is at least")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="in which the base model computes")
    quantization: Literal["auto", "none", "nf4"] = Field(
        default="auto", description="of frozen weights; auto: nf4 on a GPU, except for tiny"
    )
    gradient_checkpointing: bool = Field(default=False, description="layers run again in the backward pass")
    decimals: Int = Field(default=2, ge=1, le=6, description="of a number in the text")
    scale_target: Float = Field(default=6.0, gt=0, description="what the history's alpha-quantile is written as")
    scale_alpha: Float = Field(default=0.99, ge=0, le=1, description="the quantile")
    scale_beta: Float = Field(default=0.3, ge=0, description="what lies below the history's minimum, in its widths")
    scaling: Literal["series", "global"] = Field(
        default="series", description="by each series' own history, or by the histories of all that train"
    )
    history_steps: Int = Field(default=80, gt=0, description="that a forecast sees")
    horizon_steps: Int = Field(default=20, gt=0, description="that it gives")
    format: Literal["raw", "instruct"] = Field(
        default="raw", description="instruct: within an instruction, in the model's chat template"
    )
    packing: bool = Field(default=False, description="windows of several series, without padding (format raw only)")
    head: Literal["full", "numeric"] = Field(
        default="full", description="numeric: over the characters of a series alone, another objective"
    )
    train_systems: Int | None = Field(default=None, gt=0, description="None: all of the first 80 % that may train")
    validation_systems: Int | None = Field(
        default=None, ge=0, description="held out of the first 80 %; None: a tenth of them; 0: none, the scored ones"
    )
    validation_limit: Int = Field(default=32, gt=0, description="validation windows")

    @model_validator(mode="after")
    def _packs_raw_series_only(self) -> "TrainingConfig":
        if self.packing and self.format == "instruct":
            raise ValueError('packing cuts series anywhere, so it needs format = "raw"; set that, or leave packing out')
        return self

    @property
    def loss_name(self) -> str:
        """What the loss is called wherever it is written: that of a numeric head is another objective."""
        return LOSS_NAMES[self.head]

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one time step of two variables: `d.dd,d.dd;` with two decimals."""
        return 2 * (self.decimals + 2) + 2
