"""What the bundled forecasting task takes as `params`: declared here, torch-free, so that `submit` can check it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lvjobs.study.numbers import Float, Int


class TrainingConfig(BaseModel):
    """LoRA fine-tuning of a causal language model on LLMTIME-formatted series.

    `context_length` is the *training* window in tokens; validation always uses the same fixed windows (80 steps of
    history and 20 of horizon). `lora_alpha` None means the rank. `data_sha256` pins the file that `data` named when
    the run was declared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str = Field(default="tiny", min_length=1)
    data: str = Field(min_length=1)
    data_sha256: str = ""
    context_length: Int = Field(default=512, ge=16)
    batch_size: Int = Field(default=4, gt=0)
    lora_rank: Int = Field(default=4, gt=0)
    lora_alpha: Float | None = Field(default=None, gt=0)
    lora_dropout: Float = Field(default=0.05, ge=0, lt=1)
    lora_targets: Literal["qv", "all-linear"] = "qv"
    learning_rate: Float = Field(default=1e-5, gt=0)
    weight_decay: Float = Field(default=0.0, ge=0)
    warmup_steps: Int = Field(default=0, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    max_grad_norm: Float = Field(default=1.0, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    quantization: Literal["auto", "none", "nf4"] = "auto"
    decimals: Int = Field(default=2, ge=1, le=6)
    scale_target: Float = Field(default=6.0, gt=0, description="what the history's 0.99-quantile is written as")
    history_steps: Int = Field(default=80, gt=0)
    horizon_steps: Int = Field(default=20, gt=0)
    train_systems: Int | None = Field(default=None, gt=0, description="None: the first 80 % of the file")
    validation_limit: Int = Field(default=32, gt=0, description="validation windows")

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one time step of two variables: `d.dd,d.dd;` with two decimals."""
        return 2 * (self.decimals + 2) + 2

    @property
    def validation_window(self) -> int:
        """Tokens of one validation window: history and horizon."""
        return (self.history_steps + self.horizon_steps) * self.tokens_per_step
