"""The parts that `card.helper` measures: the card, training, forecasts. The fourth is in `card.deterministic`."""

import gc
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import training
import transformers
from card.words import words_of
from peers.tuning import GPU, Tuned, clock, save_random

from lvjobs.flops.architecture import Architecture, architecture_of
from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.data import load_dataset
from lvjobs.forecasting.decode import Decoding, sample
from lvjobs.forecasting.hub import TINY_DIRECTORY
from lvjobs.forecasting.models import load_base
from lvjobs.forecasting.tokens import Characters
from lvjobs.study.params import TrainingConfig

Found = Iterator[tuple[str, Any]]
"""("row", ...) and ("note", ...)."""

WAYS = (training.HF, training.BY_LENGTH, training.OURS, training.PACKED, training.NUMERIC)
SMALL = Architecture(2, 32, 64, 2, 1, 16, 64)
"""The shape of a trial run, whose vocabulary is the tokenizer's."""
SHORTER = 8
"""The factor by which the windows of a trial are shorter."""
LAST = (5, 200)
"""Steps of a repetition: at least, at most."""


def measure(asked: dict[str, Any]) -> Found:
    """Measure a part by its name."""
    torch.set_num_threads(asked["threads"])
    held()
    kinds: dict[str, Callable[[dict[str, Any]], Found]] = {
        "card": card, "train": train, "forecast": forecasts,
    }  # fmt: skip
    if asked["part"] == "deterministic":
        from card.deterministic import deterministic

        kinds["deterministic"] = deterministic
    try:
        yield from kinds[asked["part"]](asked)
    finally:
        held()


def config_of(asked: dict[str, Any]) -> TrainingConfig:
    """Return the settings that a part is measured with."""
    context = asked.get("context", 512) // (SHORTER if asked["smoke"] else 1)
    return TrainingConfig(
        model=asked["model"], data=asked["data"], context_length=context, lora_rank=8,
        precision="bf16", quantization="nf4" if asked["precision"] == "nf4" else "none", schedule="constant",
        validation_limit=4, batch_size=1 if asked["smoke"] else 4,
    )  # fmt: skip


def card(asked: dict[str, Any]) -> Found:
    """Describe the card and its software; write the model, unless no GPU is there and figures of one are wanted."""
    row = {"gpu": GPU, "torch": torch.__version__, "transformers": transformers.__version__}
    if not GPU and not asked["smoke"]:
        yield "row", row
        return
    if GPU:
        properties = torch.cuda.get_device_properties(0)
        row |= {"name": properties.name, "memory": properties.total_memory / 2**30, "cuda": torch.version.cuda}
        row |= {"multiprocessors": properties.multi_processor_count, "matmul": _matmul(), "driver": _driver()}
    began = time.perf_counter()
    source = Path(asked["tokenizer"] or TINY_DIRECTORY)
    vocabulary = len(transformers.AutoTokenizer.from_pretrained(source))
    shape = replace(SMALL, vocabulary=vocabulary) if asked["smoke"] else architecture_of("Qwen2.5-0.5B")
    with torch.device("cuda" if GPU else "cpu"):
        save_random(shape, Path(asked["model"]), source, torch.bfloat16)
    row |= {"layers": shape.layers, "width": shape.width, "vocabulary": vocabulary}
    row["written"] = time.perf_counter() - began
    yield "row", row


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({words_of(error)})"
    return done.stdout.splitlines()[0].strip()


def _matmul(size: int = 8192, times: int = 20) -> float:
    """Return the FLOPs a second of a large bf16 product."""
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    began = clock()
    for _ in range(times):
        left @ right
    return float(times * 2 * size**3 / (clock() - began))


def held() -> int:
    """Free unused memory; return the bytes of tensors on the GPU."""
    if not GPU:
        return 0
    gc.collect()
    torch.cuda.empty_cache()
    return int(torch.cuda.memory_allocated())


@dataclass
class Way:
    """One way to train, and what was measured of it."""

    config: TrainingConfig
    repetition: Callable[[int], training.Repetition]
    """Makes a repetition of so many steps."""
    own: int = 0
    peak: int = 0
    step: float = 0.0
    rates: list[float] = field(default_factory=list)

    def run(self, steps: int) -> float:
        """Train; note the seconds of a step and the most memory that this way needs. Return real tokens a second."""
        repeat = self.repetition(steps)
        before = 0
        if GPU:  # Torch's cache of memory stays: allocating it again would be measured with the steps.
            gc.collect()
            before = int(torch.cuda.memory_allocated())
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        rate = repeat()
        self.step = (time.perf_counter() - began) / steps
        if GPU:  # The other ways' models are on the card too, and are none of its needs.
            self.peak = max(self.peak, int(torch.cuda.max_memory_allocated()) - before + self.own)
        return rate


def way_of(name: str, config: TrainingConfig, work: Path) -> Way:
    """Build the model and the trainer of one way."""
    before = held()
    if name in {training.HF, training.BY_LENGTH}:
        tuned = Tuned(config, work, by_length=name == training.BY_LENGTH)
        way = Way(config, lambda steps: training.hf_trainer(tuned, steps))
    else:
        changes = {"packing": name != training.OURS, "head": "numeric" if name == training.NUMERIC else "full"}
        config = config.model_copy(update=changes)
        trainer = training.trainer_of(config)
        way = Way(config, lambda steps: training.ours(trainer, steps))
    return replace(way, own=held() - before)


def train(asked: dict[str, Any]) -> Found:
    """Measure tokens a second of all ways in turn, at one context length and precision."""
    began = time.perf_counter()
    ways: dict[str, Way] = {}
    for name in WAYS:
        try:
            way = way_of(name, config_of(asked), Path(asked["model"]).parent / "hf")
            for _ in range(1 if asked["smoke"] else 2):  # What is set up once is in the first of them.
                way.run(2)
            ways[name] = way
        except Exception as error:  # noqa: BLE001, PERF203 - one way that fails leaves the others
            yield "row", {"way": name, "failed": words_of(error)}
    left = asked["seconds"] - (time.perf_counter() - began)
    a_round = sum(way.step for way in ways.values())
    repetitions = 1 if asked["smoke"] else 3
    steps = 2 if asked["smoke"] else min(max(int(left / (repetitions * a_round or 1)), LAST[0]), LAST[1])
    for _ in range(repetitions):
        for name, way in list(ways.items()):
            try:
                way.rates.append(way.run(steps))
            except Exception as error:  # noqa: BLE001, PERF203 - one way that fails leaves the others
                del ways[name]
                yield "row", {"way": name, "failed": words_of(error)}
    for name, way in ways.items():
        rate = float(np.median(way.rates))
        numbers = {"rate": rate, "mfu": training.utilisation(rate, way.config), "peak": way.peak / 2**30}
        numbers |= {"spread": (max(way.rates) - min(way.rates)) / rate}
        yield "row", {"way": name, "repetitions": f"{repetitions} x {steps}", **numbers}


def forecasts(asked: dict[str, Any]) -> Found:
    """Measure greedy forecasts a second, and those of a plain `generate` of as many characters at once."""
    config, began = config_of(asked), time.perf_counter()
    model, tokenizer = load_base(config)
    codec, batch = Codec(), 2 if asked["smoke"] else Decoding().batch
    table = Characters(tokenizer, config.model, codec)
    every = load_dataset(Path(config.data)).trajectories[:, : config.history_steps].astype("float64")

    def ours(batches: int) -> float:
        history = np.resize(every, (batches * batch, *every.shape[1:]))
        started = clock()
        sample(model, table, codec, history, config.horizon_steps, decoding=Decoding(batch=batch))
        return len(history) / (clock() - started)

    batches = 1
    if not asked["smoke"]:
        ours(1)  # What is set up once is not measured.
        started = time.perf_counter()
        ours(1)
        once = time.perf_counter() - started
        left = asked["seconds"] - (time.perf_counter() - began)
        batches = min(max(int(left / 2 / once), 1), 20)
    row: dict[str, Any] = {"rate": ours(batches), "series": batches * batch, "batch": batch}
    try:
        row["generate"] = _generate_rate(model, table, codec, every[:batch])
    except Exception as error:  # noqa: BLE001 - a peer that fails leaves our own figure
        row["generate"] = words_of(error)
    yield "row", row


def _generate_rate(model: Any, table: Characters, codec: Codec, history: Any) -> float:
    import decoding

    encoded = [table.encode(text) for text in codec.encode(history, codec.fit(history))]
    return 1 / decoding.generate(model, encoded)
