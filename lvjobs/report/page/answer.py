"""The study's question, and the answer of its data: a few sentences with paired differences. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lvjobs import remedies
from lvjobs.forecasting.comparison import FEWEST, MEASURES, Measure
from lvjobs.records.summary import RunStatus, StageStatus
from lvjobs.report.chosen import Choices, Model, Source, choose
from lvjobs.report.comparisons import Compared, Row, Verdict, compare_all
from lvjobs.report.evaluated import base_of
from lvjobs.report.material import Material
from lvjobs.report.numbers import p_value, percent, short, signed

FORECASTS = (
    "Does fine-tuning improve forecasts over the base model as it is (zero-shot), and over baselines that need no "
    "language model?"
)
STAGES = "Which settings did best by the stages' own rules, and what did they cost?"
_NAMES: dict[Measure, str] = {"mae": "the MAE", "mse": "the MSE", "median": "the median MAE over series"}
_COUNTED: Mapping[str, Verdict] = {
    "better than": "lower",
    "worse than": "higher",
    "not shown to differ from": "unclear",
}
_WORDS: Mapping[str, Verdict] = {
    "better": "lower",
    "worse": "higher",
    "no difference is shown": "unclear",
}
_TIMES = 2
"""The ratio of two errors from which it is given as a factor."""
_SOURCES: Mapping[Source, str] = {
    "validation": "{name} was chosen by validation, not by the scored series: {how}.",
    "scored": "{name} was chosen by losses that were validated on scored series: {how}. Its errors are biased low.",
    "hand": "{name} was chosen by hand: {how}. lvjobs does not know by which figures.",
    "test": "{name} was chosen by {how}. Its errors are biased low.",
    "only": "{name} is {how}.",
}


_FOLDS = (
    "The systems that validate in one fold are scored in another, so a choice over all folds is not independent of the "
    "scored series: its errors are biased low, if little. Systems of one fold share a trained run, and all runs share "
    "training systems; the intervals remove it."
)


@dataclass(frozen=True)
class StudyAnswer:
    """A question with the `sentences` that answer it, as far as possible; `notes` are the caveats."""

    question: str
    sentences: Sequence[str]
    notes: Sequence[str] = ()
    verdict: Literal["answered", "open"] = "answered"


def answer_forecasts(
    material: Material, choices: Choices | None = None, compared: Compared | None = None, *, has_runs: bool = True
) -> StudyAnswer:
    """Return the answer of a study of forecasts: its chosen model beside zero-shot, and beside the baselines.

    `choices` and `compared` are those of the material, if the caller has them already.
    """
    if not has_runs:
        return StudyAnswer(FORECASTS, [f"Not answered yet: nothing has run. Type: {remedies.SUBMIT_TRAIN}"], (), "open")
    choices = choices or choose(material)
    chosen = choices.chosen
    if chosen is None:
        known = "of these models the base model alone has been evaluated" if choices.bases else ""
        command = remedies.EVALUATE(runs="RUN")
        words = f"Not answered yet: {known or 'nothing has been evaluated'}. Type: {command}"
        return StudyAnswer(FORECASTS, [words], (), "open")
    compared = compared or compare_all(choices, material)
    against = next((row for row in compared.rows if row.kind == "zero-shot"), None)
    if compared.problem:
        sentences = [f"Not answered: the errors of each series cannot be read: {compared.problem}"]
    elif against is None:
        command = remedies.EVALUATE_ZERO_SHOT(prompt=base_of(chosen.runs[0], material.train))
        missing = f"the base model was not evaluated on the series of {chosen.name}, whose MAE is {short(chosen.mae)}"
        sentences = [f"Not answered yet: {missing}. Type: {command}"]
    else:
        sentences = against_zero_shot(against, by_test=chosen.source == "test")
    if not compared.problem:
        sentences += against_baselines(compared.rows)
    is_tested = against is not None and against.verdict("mae") != "untested"
    notes = [*_notes(chosen, choices, compared), *choices.notes, *compared.notes]
    return StudyAnswer(FORECASTS, sentences, notes, "answered" if is_tested else "open")


def against_zero_shot(row: Row, *, by_test: bool = False) -> list[str]:
    """Return the verdict on the chosen model beside its base model, then a sentence for each measure.

    `by_test`: the scored series chose the model, so no test on them confirms anything.
    """
    return [_verdict(row, by_test=by_test), *(_measured(row, measure) for measure in MEASURES)]


def _verdict(row: Row, *, by_test: bool) -> str:
    if row.verdict("mae") == "untested":
        return (
            f"Not tested: {row.found.series} series are too few, for a test takes {FEWEST}. An evaluation without "
            "--series takes all that are held out."
        )
    by = {
        verdict: [_NAMES[each] for each in MEASURES if row.verdict(each) == verdict]
        for verdict in ("lower", "higher", "unclear")
    }
    lowers, raises = f"lowers {_listed(by['lower'])}", f"raises {_listed(by['higher'])}"
    if not by["lower"] and not by["higher"]:
        return f"Not shown: no difference from the base model is shown in {_listed(by['unclear'], 'or')}."
    if by["lower"] and by["higher"]:
        word, found = "Mixed", f"{lowers} and {raises}"
    elif by["lower"]:
        word, found = "In part" if by["unclear"] else "Yes", lowers
    else:
        word, found = "No", raises
    if by_test:
        word = "Not confirmed, as the scored series chose the model"
    unclear = f"; no difference is shown in {_listed(by['unclear'], 'or')}" if by["unclear"] else ""
    return f"{word}: fine-tuning {found}{unclear}."


def _measured(row: Row, measure: Measure) -> str:
    found = row.found.measures[measure]
    name = "Median MAE over series" if measure == "median" else measure.upper()
    words = (
        f"{name}: {short(found.own)} ({row.model}) beside {short(found.other)} ({row.other}), {_apart(row, measure)}."
    )
    if measure != "median":
        return words
    ties = f", equal on {row.found.ties}" if row.found.ties else ""
    return f"{words} {row.model} is lower on {row.found.wins} of {row.found.series} series{ties}."


def _apart(row: Row, measure: Measure) -> str:
    """Return a difference in words: with its interval, in percent, and its p-value."""
    found = row.found.measures[measure]
    tested = row.verdict(measure) != "untested"
    ends = f" [{signed(found.low)}, {signed(found.high)}]" if tested else ""
    words = f"a difference of {signed(found.value)}{ends}"
    if found.skill:
        words += f", {_relative(found.own / found.other)}"
    if not tested:
        return words
    p = p_value(row.corrected[measure])
    return f"{words}, p {p}" if p.startswith("<") else f"{words}, p = {p}"


def _relative(ratio: float) -> str:
    """Return an error in words, relative to another: `16.7 % lower`, `3.20 times the error`."""
    if ratio >= _TIMES:
        return f"{short(ratio)} times the error"
    return f"{percent(abs(1 - ratio))} {'lower' if ratio < 1 else 'higher'}"


def against_baselines(rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each measure on the baselines that do not know the law, and one on those that do."""
    plain, knowing = ([row for row in rows if row.kind == kind] for kind in ("baseline", "law"))
    if not plain and not knowing:
        return ["Not compared with baselines: none could be made of these series."]
    sentences = []
    if plain:
        best = {measure: min(plain, key=lambda row: row.found.measures[measure].other) for measure in MEASURES}
        sentences += [_strongest(best)] if best["mae"].verdict("mae") != "untested" else []
        sentences += [_beside(plain, best[measure], measure) for measure in MEASURES]
    for row in knowing:
        mae, mse = (short(row.found.measures[name].other) for name in ("mae", "mse"))
        sentences.append(f"With the law behind the data known, {row.other} has a MAE of {mae} and a MSE of {mse}.")
    return sentences


def _strongest(best: Mapping[Measure, Row]) -> str:
    """Return the verdict beside the baselines that have the lowest error by each measure."""
    model = best["mae"].model
    by = {
        words: [_NAMES[each] for each in MEASURES if best[each].verdict(each) == verdict]
        for words, verdict in _WORDS.items()
    }
    found = "; ".join(f"{words} by {_listed(names)}" for words, names in by.items() if names)
    return f"{model} beside the best data-driven baseline: {found}."


def _beside(rows: Sequence[Row], best: Row, measure: Measure) -> str:
    """Return how the model compares with the strongest baseline by a measure, and with all the others."""
    name = _NAMES[measure].removeprefix("the ")
    other = f"{best.other} ({short(best.found.measures[measure].other)})"
    words = f"{name[0].upper()}{name[1:]} beside {other}: {_apart(best, measure)}."
    others = [row.verdict(measure) for row in rows if row is not best]
    if not others or "untested" in others:
        return words
    counts = {name: others.count(verdict) for name, verdict in _COUNTED.items()}
    listed = _listed([f"{name} {count}" for name, count in counts.items() if count])
    return f"{words} {best.model} is {listed} of the other {len(others)}."


def _listed(names: Sequence[str], last: str = "and") -> str:
    *first, end = names or [""]
    return f"{', '.join(first)} {last} {end}" if first else end


def _notes(chosen: Model, choices: Choices, compared: Compared) -> Iterator[str]:
    yield _SOURCES[chosen.source].format(name=chosen.name, how=chosen.how)
    if chosen.runs[0].parts and chosen.source == "validation":
        yield _FOLDS
    if best := choices.best_by_test:
        yield (
            f"{best.name} has the lowest MAE of {len(choices.every)} models on the scored series, {short(best.mae)}. A "
            "choice by that score biases it low."
        )
    if compared.rows:
        count = len(MEASURES) * len(compared.rows)
        yield (
            f"Errors are compared series by series: {chosen.runs[0].circumstances}. In brackets: 95 %, by a bootstrap, "
            "each interval for itself. p: two-sided, corrected by Holm's procedure for the "
            f"{count} tests of the chosen model; below .05 a difference counts as shown. Original units."
        )
        spread = compared.spread or {}
        if (mae := spread.get("mae")) is not None and (mse := spread.get("mse")) is not None:
            yield (
                f"{chosen.name}: means over {len(chosen.runs)} training seeds, which the bootstrap draws too. Standard "
                f"deviation between seeds: {short(mae)} (MAE), {short(mse)} (MSE)."
            )
        else:
            yield "One training seed: the intervals exclude the variance between training seeds."
    models = [each for model in choices.every for each in model.runs]
    if names := [each.subject for each in models if each.config.training.validation_systems == 0]:
        yield (
            f"Validated on scored series (validation_systems = 0): {', '.join(names)}. If anything was chosen by that "
            "loss, these figures are too good."
        )


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
