"""The FLOPs of a step of the bundled training and of a forecast, by each convention. Loads no torch."""

import subprocess
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.flops.architecture import architecture_of
from lvjobs.flops.conventions import BINDING, CONVENTIONS
from lvjobs.flops.workload import Counts, Workload
from lvjobs.study.params import NUMERIC_HEAD, USUAL_VARIABLES, PromptName, TrainingConfig
from lvjobs.tasks.ask_process import Unanswered, ask
from lvjobs.tasks.protocol import Rates

_MODULE = "lvjobs.forecasting.instruction_tokens"
_PATIENCE_SECONDS = 300.0


def rates(step: Workload, steps: int) -> Rates:
    """Return the FLOPs of each unit of work, by each convention.

    Args:
        step: One batch, and the forecast of one series.
        steps: The number of such batches that make one step of the run.
    """
    # A validation window is a prompt and its answer, in one forward pass.
    window = replace(step, batch=1, length=step.prompt_tokens + step.new_tokens, inference=True)
    return {
        name: {
            "training": steps * _count(name, step).step,
            "validation": _count(name, window).forward,
            "generation": _count(name, step).generation,
        }
        for name in BINDING
    }


def workload_of(training: TrainingConfig, rank: int, prompt: PromptName) -> Workload:
    """Return a step of this training, and the forecast of one series.

    Args:
        training: The model, its settings and the lengths of history and horizon.
        rank: The adapter's rank; 0: the base model, which is not trained.
        prompt: The format around the history of a forecast, and of a validation window.

    Raises:
        UsageError: the model's shape is not known, or its instruction cannot be counted.
    """
    variables = _variables_in(training.data)
    tokens = variables * (training.decimals + len("d.,"))  # of one time step: `d.dd,d.dd;` with two decimals
    return Workload(
        shape=architecture_of(training.model),
        batch=training.batch_size,
        length=training.context_length,
        lora_rank=rank,
        lora_targets=training.lora_targets,
        precision="nf4" if training.quantization == "nf4" else training.precision,
        gradient_checkpointing=training.gradient_checkpointing,
        numeric_head=NUMERIC_HEAD if training.head == "numeric" else None,
        prompt_tokens=training.history_steps * tokens + instruction_tokens(training, prompt, variables),
        new_tokens=training.horizon_steps * tokens,
        inference=not rank,
    )


@lru_cache(maxsize=1024)
def _count(name: str, step: Workload) -> Counts:
    """Count FLOPs, cached, because the cells of a sweep differ in a rate or a seed, and cost the same."""
    return CONVENTIONS[name].count(step)


def _variables_in(data: str) -> int:
    """Return the number of variables in the data file. Without the file, as in most estimates, it is the usual one."""
    if not Path(data).is_file():
        return USUAL_VARIABLES
    from lvjobs.forecasting.data import variables_in

    return variables_in(Path(data))


def instruction_tokens(training: TrainingConfig, prompt: PromptName, variables: int = USUAL_VARIABLES) -> int:
    """Return the tokens that `prompt` puts around the history of a forecast; 0 for `raw`.

    If the model's tokenizer is not on this machine, Qwen2.5's count replaces it. Only an estimate can meet that, since
    a run is refused without its model.

    Raises:
        UsageError: the model cannot be given an instruction.
    """
    if prompt == "raw":
        return 0
    path = Path(training.model)
    model = str(path.absolute()) if path.is_dir() else training.model
    return _asked_tokens(model, training.decimals, training.horizon_steps, variables)


@lru_cache(maxsize=64)
def _asked_tokens(model: str, decimals: int, horizon: int, variables: int) -> int:
    question = {"model": model, "decimals": decimals, "horizon": horizon, "variables": variables}
    try:
        return int(ask(_MODULE, question, _PATIENCE_SECONDS))
    except subprocess.TimeoutExpired:
        reason = f"its tokenizer was not loaded within {_PATIENCE_SECONDS:.0f} s"
    except Unanswered as error:
        reason = str(error)
    raise UsageError(
        f'model {model!r}: the tokens of its instruction cannot be counted ({reason}); use "raw", or type: '
        f"{remedies.MODEL_CHECK(model=model)}"
    )
