"""The study's question, and the answer of its data: a few sentences with intervals. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lvjobs import remedies
from lvjobs.records.summary import RunStatus, StageStatus
from lvjobs.report.evaluated import Evaluated, base_of, largest_group
from lvjobs.report.material import Point, point
from lvjobs.report.numbers import short
from lvjobs.study.params import TrainingConfig

FORECASTS = (
    "Does fine-tuning improve forecasts over the base model as it is (zero-shot), and over baselines that need no "
    "language model?"
)
STAGES = "Which settings did best by the stages' own rules, and what did they cost?"
KNOWING = ("ode",)
"""Baselines that know the law behind the data: no other method can be expected to be as good."""


@dataclass(frozen=True)
class StudyAnswer:
    """A question with the `sentences` that answer it, as far as possible; `notes` are the caveats."""

    question: str
    sentences: Sequence[str]
    notes: Sequence[str] = ()
    verdict: Literal["answered", "open"] = "answered"


def answer_forecasts(
    evaluations: Sequence[Evaluated], train: TrainingConfig | None = None, *, has_runs: bool = True
) -> StudyAnswer:
    """Return the answer of a study of forecasts: its best run against zero-shot, and against the best baselines.

    `train` is [train] of study.toml, if it is known.
    """
    if not has_runs:
        return StudyAnswer(FORECASTS, [f"Not answered yet: nothing has run. Type: {remedies.SUBMIT_TRAIN}"], (), "open")
    group = largest_group(evaluations)
    tuned = [each for each in group if not each.is_zero_shot]
    if not tuned:
        known = "Of these models the base model alone has been evaluated" if group else "Nothing has been evaluated"
        command = remedies.EVALUATE(runs="RUN")
        return StudyAnswer(FORECASTS, [f"Not answered yet: {known[0].lower()}{known[1:]}. Type: {command}"], (), "open")
    best = min(tuned, key=lambda each: float(each.scores["scores"]["overall"]["mae"]))
    zero_shot = next((each for each in group if each.is_base_of(best)), None)
    own = point(best.scores["scores"], "mae")
    sentences = [_against_zero_shot(best, own, zero_shot, train), *_against_baselines(own, best.scores["baselines"])]
    notes = [
        f"Mean absolute errors in original units, 95 % intervals by a bootstrap over series; {best.circumstances}."
    ]
    if len(tuned) > 1:
        notes.append(
            f"The best of {len(tuned)} evaluated runs was picked by the very score that is shown, which flatters it."
        )
    notes.append("All forecast the same series, so intervals that overlap do not prove two methods equal.")
    if names := [each.subject for each in tuned if each.config.training.validation_systems == 0]:
        notes.append(
            f"Validated on scored series (validation_systems = 0): {', '.join(names)}. If anything was chosen by that "
            "loss, these figures are too good."
        )
    return StudyAnswer(FORECASTS, sentences, notes, "answered" if zero_shot else "open")


def _against_zero_shot(best: Evaluated, own: Point, zero_shot: Evaluated | None, train: TrainingConfig | None) -> str:
    name = best.subject
    if zero_shot is None:
        return (
            f"Against zero-shot this is not answered yet: the best fine-tuned run, {name}, has a MAE of {_words(own)}; "
            "the base model was not evaluated on these series. Type: "
            f"{remedies.EVALUATE_ZERO_SHOT(prompt=base_of(best, train))}"
        )
    other = point(zero_shot.scores["scores"], "mae")
    finding = {
        "better": "Yes, fine-tuning improves on the base model",
        "worse": "No, fine-tuning makes forecasts worse than the base model's",
        "overlap": "Fine-tuning is not shown to improve on the base model",
    }[compare(own, other)]
    figures = f"the best run, {name}, has a MAE of {_words(own)}, zero-shot {_words(other)}"
    return f"{finding}: {figures}; {_intervals(own, other)}."


def _against_baselines(own: Point, baselines: Mapping[str, Any]) -> list[str]:
    made = {name: point(scores, "mae") for name, scores in baselines.items() if "problem" not in scores}
    if not made:
        return ["No baseline could be made of these series, so nothing can be said against one."]
    plain = {name: value for name, value in made.items() if name not in KNOWING}
    sentences = []
    if plain:
        name, other = min(plain.items(), key=lambda item: item[1].value)
        finding = {
            "better": "It beats the best baseline",
            "worse": "It does not reach the best baseline",
            "overlap": "It cannot be told apart from the best baseline",
        }[compare(own, other)]
        lower = "" if compare(own, other) != "overlap" else ", though its MAE is lower" * (own.value < other.value)
        sentences.append(
            f"{finding} that does not know the law behind the data, {name} with {_words(other)}; "
            f"{_intervals(own, other)}{lower}."
        )
    known = [name for name in KNOWING if name in made]
    return sentences + [f"With the law behind the data known, {name} reaches {_words(made[name])}." for name in known]


def compare(own: Point, other: Point) -> Literal["better", "worse", "overlap"]:
    """Return which of two errors is lower, or that their intervals overlap."""
    if own.high < other.low:
        return "better"
    return "worse" if own.low > other.high else "overlap"


def _intervals(own: Point, other: Point) -> str:
    return "the intervals overlap" if compare(own, other) == "overlap" else "the intervals do not overlap"


def _words(value: Point) -> str:
    return f"{short(value.value)} [{short(value.low)}, {short(value.high)}]"


def answer_stages(stages: Sequence[StageStatus], runs: Sequence[RunStatus]) -> StudyAnswer:
    """Return the answer of a study without forecasts: each stage's winner, and why. The arguments are a summary's."""
    won = [f"{stage.name}: {stage.winner}, {stage.because}." for stage in stages if stage.winner]
    if won:
        return StudyAnswer(STAGES, won)
    if not runs:
        return StudyAnswer(STAGES, [f"Not answered yet: nothing has run. Type: {remedies.SUBMIT_TASK}"], (), "open")
    done = sum(run.state == "completed" for run in runs)
    return StudyAnswer(
        STAGES, [f"Not answered yet: no stage has a winner; {done} of {len(runs)} runs are completed."], (), "open"
    )
