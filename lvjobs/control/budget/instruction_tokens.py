"""How many tokens an instruction adds to a series, by the model's own tokenizer and chat template."""

import subprocess
from functools import lru_cache
from pathlib import Path

from lvjobs import remedies
from lvjobs.control.budget.ask_process import Unanswered, ask
from lvjobs.errors import UsageError
from lvjobs.study.evaluation import PromptName
from lvjobs.study.training import TrainingConfig

_MODULE = "lvjobs.forecasting.instruction_tokens"
_PATIENCE_SECONDS = 300.0


def instruction_tokens(training: TrainingConfig, prompt: PromptName) -> int:
    """Return the tokens that `prompt` puts around the history of a forecast; 0 for `raw`.

    Where the model's tokenizer is not on this machine, Qwen2.5's count stands for it: only an estimate can meet that,
    since a run is refused without its model.

    Raises:
        UsageError: the model cannot be given an instruction.
    """
    if prompt == "raw":
        return 0
    path = Path(training.model)
    model = str(path.absolute()) if path.is_dir() else training.model
    return _count(model, training.decimals, training.horizon_steps)


@lru_cache(maxsize=64)
def _count(model: str, decimals: int, horizon: int) -> int:
    try:
        return int(ask(_MODULE, {"model": model, "decimals": decimals, "horizon": horizon}, _PATIENCE_SECONDS))
    except subprocess.TimeoutExpired:
        reason = f"its tokenizer was not loaded within {_PATIENCE_SECONDS:.0f} s"
    except Unanswered as error:
        reason = str(error)
    raise UsageError(
        f'model {model!r}: the tokens of its instruction cannot be counted ({reason}); use "raw", or type: '
        f"{remedies.MODEL_CHECK(model=model)}"
    )
