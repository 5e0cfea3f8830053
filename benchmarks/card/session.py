"""The parts of benchmarks/gpu.py, their order, and the seconds that each may take."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from card.asking import Budget, Helper, PartFailed
from card.packing import SYSTEMS
from card.resuming import resume
from card.words import words_of

from lvjobs.forecasting.data import make_dataset
from lvjobs.study.params import TrainingConfig

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
RESERVE = 10.0
"""Seconds that are kept for the page and for processes that are stopped."""
STEPS, TRIAL_STEPS = 40, 16
"""Steps of a run that is killed and resumed."""


@dataclass(frozen=True)
class Part:
    """One thing to measure: its kind, its settings, its share of the time, and its name on the page."""

    kind: str
    title: str
    weight: float
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Result:
    """The result of a part: its rows, and why the rest was not measured."""

    part: Part
    rows: list[dict[str, Any]] = field(default_factory=list)
    failure: str = ""
    seconds: float = 0.0


def _train(precision: str, context: int) -> Part:
    settings = {"precision": precision, "context": context}
    return Part("train", f"training, {precision}, context {context}", 6, settings)


def _resume(precision: str, **more: Any) -> Part:
    name = "packed, numeric head" if more else "as it comes"
    return Part("resume", f"resume, {precision}, {name}", 5, {"precision": precision, "more": more, "name": name})


def _forecast(precision: str) -> Part:
    return Part("forecast", f"forecasts, {precision}", 3, {"precision": precision})


def _deterministic(
    title: str, weight: float, *, packing: bool = False, kernels: bool = False, cublas: bool = True
) -> Part:
    settings = {"precision": "bf16", "packing": packing, "kernels": kernels, "cublas": cublas}
    return Part("deterministic", f"deterministic algorithms, {title}", weight, settings)


PARTS = (
    _train("bf16", 512),
    _resume("bf16"),
    _deterministic("as it comes", 4, kernels=True),
    _train("nf4", 512),
    _forecast("bf16"),
    _resume("nf4"),
    _train("bf16", 768),
    _train("nf4", 768),
    _forecast("nf4"),
    _deterministic("packed", 2, packing=True),
    _deterministic(f"without {CUBLAS}", 2, cublas=False),
    _resume("bf16", packing=True, head="numeric"),
)
"""The most important part comes first, in case the time is used up."""


@dataclass
class Session:
    """One measurement on one machine.

    Attributes:
        work: A directory for the model, the data and the runs.
        minutes: How long everything may take.
        smoke: Whether this is a trial on a CPU, with a small shape.
        tokenizer: The directory of Qwen2.5's tokenizer; None where there is none.
        data: The file of series; None: it is made.
    """

    work: Path
    minutes: float
    smoke: bool
    tokenizer: Path | None
    data: Path | None
    results: list[Result] = field(default_factory=list)
    card: Result = field(default_factory=lambda: Result(Part("card", "the card", 1)))

    def __post_init__(self) -> None:
        os.environ.pop(CUBLAS, None)
        self.budget = Budget(60 * self.minutes - RESERVE)
        self.common: dict[str, Any] = {
            "model": str(self.work / "model"), "data": str(self.data or self.work / "data.h5"), "smoke": self.smoke,
            "threads": 1 if self.smoke else min(8, os.cpu_count() or 1), "tokenizer": str(self.tokenizer or ""),
        }  # fmt: skip
        self.helpers = {
            True: Helper({CUBLAS: ":4096:8"}, self.work / "helper.log"),
            False: Helper({}, self.work / "plain.log"),
        }

    def run(self) -> None:
        """Measure all parts; a part that fails leaves its reason in its result."""
        try:
            self._measure(self.card, self.budget.left / 4)
            if not self.is_measured:
                return
            if self.data is None:
                make_dataset(Path(self.common["data"]), systems=40 if self.smoke else SYSTEMS, seed=0)
            # A trial takes one run through its death: three would take a minute.
            parts = [part for part in PARTS if not self.smoke or part.kind != "resume" or part.settings["more"]]
            for index, part in enumerate(parts):
                result = Result(part)
                self.results.append(result)
                self._measure(result, self.budget.share(part.weight, sum(each.weight for each in parts[index:])))
        finally:
            for helper in self.helpers.values():
                helper.stop()

    @property
    def is_measured(self) -> bool:
        """Return whether there is a card to measure, or a trial to make without one."""
        return bool(self.card.rows) and (self.card.rows[0]["gpu"] or self.smoke) and not self.card.failure

    def _measure(self, result: Result, share: float) -> None:
        part, began = result.part, time.monotonic()
        if self.budget.left < RESERVE:
            result.failure = f"the {self.minutes:g} minutes were used up"
            return
        sys.stderr.write(f"{part.title}: {share:.0f} s of {self.budget.left:.0f} s\n")
        bound = self.budget.bound(share)
        try:
            found = self._resume(part, bound) if part.kind == "resume" else self._ask(part, share, bound)
            result.rows.extend(found)
        except PartFailed as error:
            result.failure = str(error)
        except Exception as error:  # noqa: BLE001 - any failure becomes a line of the page
            result.failure = words_of(error)
        result.seconds = time.monotonic() - began
        if result.failure:
            sys.stderr.write(f"{part.title}: {result.failure}\n")

    def _ask(self, part: Part, share: float, bound: float) -> Iterator[dict[str, Any]]:
        helper = self.helpers[part.settings.get("cublas", True)]
        asked = {**self.common, **part.settings, "part": part.kind, "seconds": share}
        for kind, value in helper.ask(asked, bound):
            if kind == "row":
                yield value

    def _resume(self, part: Part, bound: float) -> list[dict[str, Any]]:
        more, precision = part.settings["more"], part.settings["precision"]
        config = TrainingConfig(
            model=self.common["model"], data=self.common["data"], lora_rank=8, precision="bf16", learning_rate=1e-3,
            quantization="nf4" if precision == "nf4" else "none", context_length=64 if self.smoke else 512,
            validation_limit=4, **more,
        )  # fmt: skip
        root = self.work / part.title.replace(", ", "-").replace(" ", "-")
        steps = TRIAL_STEPS if self.smoke else STEPS
        return [
            {
                "precision": precision,
                "name": part.settings["name"],
                **resume(root, config, steps, time.monotonic() + bound),
            }
        ]
