"""Fine-tuning against HF Trainer + PEFT and Lightning + PEFT: real tokens a second, same model, data and precision.

    python benchmarks/training.py [--model MODEL ...] [--steps 8] [--repetitions 5] [--threads 2] [--smoke]

Models: the bundled `tiny`; SmolLM2-135M and Qwen2.5-0.5B in their true shapes, with random weights and `tiny`'s
tokenizer. Peers begin a chunk every half context, down to what is left at a series' end, and pad each to the context
length, as the published study did; "by length" is HF Trainer at its best: chunks of like length together, padded to
the longest of a batch. Ours as it comes, with packed windows, and with packed windows and the numeric head (another
objective: its loss compares with none of the others). The full-size model leaves out one way, for time.

Real tokens are those that are no padding. Each way is timed from its first step to its last: what is set up once does
not count, nor does our journal. Seconds are of the CPU, over all threads, so that what else runs on the machine does
not count; on a GPU they are of the clock. MFU: the matmuls that these tokens take (lvjobs.flops, `exact`) against the
card's peak. A CPU has time for repetitions of one step each of the larger models, which the table tells.
"""

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from measuring import alternate, command_line, print_table, trainers_python, version_of
from peers.tuning import GPU, Tuned, clock, lora_of, pad, random_weights

from lvjobs.flops import exact
from lvjobs.flops.architecture import architecture_of
from lvjobs.flops.workload import Workload
from lvjobs.forecasting.data import make_dataset
from lvjobs.forecasting.hub import TINY_DIRECTORY
from lvjobs.forecasting.train import Trainer
from lvjobs.study.params import NUMERIC_HEAD, TRAIN_TASK, TrainingConfig
from lvjobs.study.run import RunConfig

Repetition = Callable[[], float]
"""Trains some steps; real tokens a second."""

HF, BY_LENGTH, LIGHTNING = "HF Trainer + PEFT, padded", "HF Trainer + PEFT, by length", "Lightning + PEFT, padded"
OURS, PACKED, NUMERIC = "lvjobs", "lvjobs, packed", "lvjobs, packed, numeric head"
GOALS = {OURS: "1.3", PACKED: "1.3", NUMERIC: "1.8"}
REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Plan:
    """What a CPU has time for."""

    steps: int = 10**9
    left_out: tuple[str, ...] = ()


PLANS = {
    "tiny": Plan(),
    "SmolLM2-135M": Plan(steps=1),
    "Qwen2.5-0.5B": Plan(steps=1, left_out=(PACKED,)),
}
PEAKS = {  # FLOPs a second, dense, by the vendor's data sheets; the first one whose words are in the card's name
    "A100": {"fp32": 19.5e12, "bf16": 312e12},
    "H100 PCIe": {"fp32": 51e12, "bf16": 756e12},
    "H100 80GB HBM3": {"fp32": 67e12, "bf16": 989e12},
    "H200": {"fp32": 67e12, "bf16": 989e12},
}


def trainer_of(config: TrainingConfig) -> Trainer:
    """Build what a run of lvjobs trains with."""
    run = RunConfig(task=TRAIN_TASK, steps=10**6, params=config.model_dump())
    torch.manual_seed(run.seed)
    return Trainer(run)


def ours(trainer: Trainer, steps: int, *, deterministic: bool = True) -> Repetition:
    """What a run does between two checkpoints, by deterministic algorithms, as a worker has them."""

    def repeat() -> float:
        torch.use_deterministic_algorithms(mode=deterministic)
        try:
            began, tokens = clock(), 0.0
            for step in range(1, steps + 1):
                tokens += trainer.step(step)["tokens"]
            return tokens / (clock() - began)
        finally:
            torch.use_deterministic_algorithms(mode=False)

    return repeat


class Watch(transformers.TrainerCallback):
    """When HF Trainer's first step began, and when its last one ended."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Everything is set up."""
        self.began = clock()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """All steps are made."""
        self.ended = clock()


def hf_trainer(tuned: Tuned, steps: int) -> Repetition:
    """HF Trainer, anew each time."""

    def repeat() -> float:
        watch = Watch()
        trainer = tuned.trainer(steps, watch)
        trainer.train()
        return float(trainer.real / (watch.ended - watch.began))

    return repeat


@contextlib.contextmanager
def lightning(tuned: Tuned, steps: int, threads: int) -> Iterator[Repetition]:
    """Lightning, in a process of its own that trains whenever it is asked to."""
    config, work = tuned.config, tuned.work
    work.mkdir(exist_ok=True)
    torch.save(pad(tuned.chunks, config.context_length, learnt=True), work / "chunks.pt")
    job = {
        "model": str(TINY_DIRECTORY) if config.model == "tiny" else config.model,
        "chunks": str(work / "chunks.pt"),
        "dtype": "bfloat16" if config.precision == "bf16" else "float32",
        "lora": lora_of(config),
        "rate": config.learning_rate,
        "clip": config.max_grad_norm,
        "batch": config.batch_size,
        "steps": steps,
        "threads": threads,
    }
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [trainers_python(), REPOSITORY / "benchmarks" / "peers" / "train_lightning.py", work / "job.json"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", bufsize=1, env=environment
    ) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def repeat() -> float:
            asked.write("\n")
            if not (answer := answers.readline()):
                raise RuntimeError(f"Lightning ended with exit code {process.wait()}")
            return float(answer)

        yield repeat


def utilisation(rate: float, config: TrainingConfig) -> str:
    """MFU in per cent; `-` without a card whose peak is known."""
    card = torch.cuda.get_device_name() if GPU else ""
    peak = next((rates[config.precision] for words, rates in PEAKS.items() if words in card), None)
    if peak is None:
        return "-"
    step = Workload(
        architecture_of(config.model), config.batch_size, config.context_length, lora_rank=config.lora_rank,
        numeric_head=NUMERIC_HEAD if config.head == "numeric" else None,
    )  # fmt: skip
    flops = exact.count(step, elementwise=False, input_gradients=False).step / step.tokens
    return f"{100 * rate * flops / peak:.1f}"


def compare(name: str, options: argparse.Namespace, work: Path) -> list[list[str]]:
    """Rows of one model: tokens a second, and how often each peer's."""
    plan = Plan() if GPU else PLANS[name]
    steps = min(options.steps, plan.steps)
    config = TrainingConfig(
        model=random_weights(name, work, layers=2 if options.smoke else None),
        data=str(work / "data.h5"),
        context_length=options.context_length,
        precision=options.precision,
        quantization="none",
    )
    configs = dict.fromkeys((HF, BY_LENGTH, LIGHTNING, OURS, PACKED, NUMERIC), config)
    configs[PACKED] = config.model_copy(update={"packing": True})
    configs[NUMERIC] = configs[PACKED].model_copy(update={"head": "numeric"})
    padded = Tuned(config, work / "peer")
    with lightning(padded, steps, options.threads) as of_lightning:
        kinds = {
            HF: hf_trainer(padded, steps),
            BY_LENGTH: hf_trainer(Tuned(config, work / "peer", by_length=True), steps),
            LIGHTNING: of_lightning,
            **{
                kind: ours(trainer_of(configs[kind]), steps)
                for kind in (OURS, PACKED, NUMERIC)
                if kind not in plan.left_out
            },
        }
        # What is done once is not measured: in all, or where that takes too long, in the first of each process.
        for kind in kinds if plan == Plan() else (HF, LIGHTNING):
            kinds[kind]()
        rates = alternate(kinds, options.repetitions)
    return [
        [name, kind, f"{rate:.0f}", f"{rate / rates[HF]:.2f}", f"{rate / rates[LIGHTNING]:.2f}", GOALS.get(kind, ""),
         utilisation(rate, configs[kind]), f"{options.repetitions} x {steps}"]
        for kind, rate in rates.items()
    ]  # fmt: skip


def main() -> None:
    """Read the command line, measure, print."""
    parser = command_line(__doc__)
    parser.add_argument("--model", action="append", choices=list(PLANS), help="all of them")
    parser.add_argument("--steps", type=int, default=8, help="of a repetition")
    parser.add_argument("--context-length", type=int, default=512)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16" if GPU else "fp32")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    if options.smoke:
        options.steps, options.repetitions, options.model, options.context_length = 1, 1, ["SmolLM2-135M"], 64
    torch.set_num_threads(options.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic algorithms on a GPU need it
    warnings.filterwarnings("ignore", category=FutureWarning)
    rows: list[Sequence[str]] = []
    for name in options.model or PLANS:
        with tempfile.TemporaryDirectory() as scratch:
            make_dataset(Path(scratch) / "data.h5", systems=40, seed=0)
            rows += compare(name, options, Path(scratch))
    peers = ", ".join(version_of(trainers_python(), each) for each in ("transformers", "lightning", "peft", "torch"))
    where = f"on {torch.cuda.get_device_name()}" if GPU else f"a second of CPU, threads: {options.threads}"
    note = (
        f"Peers: {peers}; our torch is {torch.__version__}. {options.precision}, context {options.context_length}, "
        f"batch 4, rank 4; real tokens {where}. Medians of as many repetitions as the last column says, of as many "
        f"steps each."
    )
    header = ["model", "way", "tokens/s", "x HF", "x Lightning", "goal, x HF", "MFU, %", "reps x steps"]
    print_table(header, rows, [note])


if __name__ == "__main__":
    main()
