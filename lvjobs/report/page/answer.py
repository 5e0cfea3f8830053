"""The study's question, and the answer of its data: a few sentences with paired differences. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lvjobs import remedies
from lvjobs.forecasting.comparison import FEWEST, MEASURES, Measure
from lvjobs.records.summary import RunStatus, StageStatus
from lvjobs.report.chosen import Choices, Model, choose
from lvjobs.report.comparisons import Compared, Row, compare_all
from lvjobs.report.evaluated import Evaluated, base_of
from lvjobs.report.material import Material
from lvjobs.report.numbers import p_value, percent, short, signed

FORECASTS = (
    "Does fine-tuning improve forecasts over the base model as it is (zero-shot), and over baselines that need no "
    "language model?"
)
STAGES = "Which settings did best by the stages' own rules, and what did they cost?"
_NAMES: dict[Measure, str] = {"mae": "the MAE", "mse": "the MSE", "median": "the typical series' error"}


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
    if choices.chosen is None:
        known = "of these models the base model alone has been evaluated" if choices.zero_shot else ""
        command = remedies.EVALUATE(runs="RUN")
        words = f"Not answered yet: {known or 'nothing has been evaluated'}. Type: {command}"
        return StudyAnswer(FORECASTS, [words], (), "open")
    compared = compared or compare_all(choices, material)
    own = [row for row in compared.rows if row.model == choices.chosen.name]
    against = next((row for row in own if row.kind == "zero-shot"), None)
    if compared.problem:
        sentences = [f"Not answered: the errors of each series cannot be read: {compared.problem}"]
    elif against is None:
        again = remedies.EVALUATE_ZERO_SHOT(prompt=base_of(choices.chosen.runs[0], material.train))
        name, mae = choices.chosen.name, short(_mean(choices.chosen))
        known = f"{name} has a MAE of {mae}; the base model was not evaluated on these series"
        sentences = [f"Against zero-shot this is not answered yet: {known}. Type: {again}"]
    else:
        sentences = against_zero_shot(against)
    sentences += against_baselines(own)
    is_tested = against is not None and against.verdict("mae") != "untested"
    notes = [*_notes(choices.chosen, choices, compared), *choices.notes]
    return StudyAnswer(FORECASTS, sentences, notes, "answered" if is_tested else "open")


def against_zero_shot(row: Row) -> list[str]:
    """Return the verdict on the chosen model beside its base model, then a sentence for each measure."""
    return [_verdict(row), *(_measured(row, measure) for measure in MEASURES)]


def _verdict(row: Row) -> str:
    if row.verdict("mae") == "untested":
        return (
            f"Not tested: {row.found.series} series are too few, for a test takes {FEWEST}. Without --series, lvjobs "
            "evaluate takes all that are held out."
        )
    by = {
        verdict: [_NAMES[each] for each in MEASURES if row.verdict(each) == verdict]
        for verdict in ("lower", "higher", "unclear")
    }
    lowers, raises = f"lowers {_listed(by['lower'])}", f"raises {_listed(by['higher'])}"
    if not by["lower"] and not by["higher"]:
        found = "Not shown: fine-tuning may or may not change the base model's forecasts"
    elif by["lower"] and by["higher"]:
        found = f"Mixed: fine-tuning {lowers} and {raises}"
    elif by["lower"]:
        found = f"{'In part' if by['unclear'] else 'Yes'}: fine-tuning {lowers}"
    else:
        found = f"No: fine-tuning {raises}"
    unclear = f"; no difference is shown in {_listed(by['unclear'], 'or')}" if by["unclear"] else ""
    return f"{found}{unclear}."


def _measured(row: Row, measure: Measure) -> str:
    found = row.found.measures[measure]
    name = "Typical series: a median MAE" if measure == "median" else measure.upper()
    words = (
        f"{name} of {short(found.own)} ({row.model}) beside {short(found.other)} ({row.other}): {_apart(row, measure)}"
    )
    return f"{words}."


def _apart(row: Row, measure: Measure) -> str:
    """Return a difference in words: with its interval, in percent, and its p-value."""
    found = row.found.measures[measure]
    words = f"a difference of {signed(found.value)} [{signed(found.low)}, {signed(found.high)}]"
    if found.skill:
        words += f", {percent(abs(found.skill))} {'lower' if found.skill > 0 else 'higher'}"
    if measure == "median":
        words += f"; lower on {row.found.wins} of {row.found.series} series"
    return words if row.verdict(measure) == "untested" else f"{words}, {p_value(row.corrected[measure])}"


def against_baselines(rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each measure on the baselines that do not know the law, and one on those that do."""
    plain, knowing = ([row for row in rows if row.kind == kind] for kind in ("baseline", "law"))
    if not plain and not knowing:
        return ["No baseline could be made of these series, so nothing can be said against one."]
    sentences = [_beside(plain, measure) for measure in MEASURES] if plain else []
    for row in knowing:
        mae, mse = (short(row.found.measures[name].other) for name in ("mae", "mse"))
        sentences.append(f"With the law behind the data known, {row.other} has a MAE of {mae} and a MSE of {mse}.")
    return sentences


def _beside(rows: Sequence[Row], measure: Measure) -> str:
    """Return how the model compares with the best of the baselines by a measure, and with how many of the others."""
    best = min(rows, key=lambda row: row.found.measures[measure].other)
    found = best.found.measures[measure]
    what = "the typical series" if measure == "median" else f"the {measure.upper()}"
    verdict = {
        "lower": "better than the best baseline that does not know the law",
        "higher": "worse than the best baseline that does not know the law",
        "unclear": "not shown to differ from the best baseline that does not know the law",
        "untested": "not tested against the best baseline that does not know the law",
    }[best.verdict(measure)]
    words = f"By {what} it is {verdict}, {best.other} ({short(found.other)}): {_apart(best, measure)}"
    others = [row for row in rows if row is not best]
    if not others or best.verdict(measure) == "untested":
        return f"{words}."
    better = sum(row.verdict(measure) == "lower" for row in others)
    return f"{words}. It is better than {better} of the other {len(others)}."


def _listed(names: Sequence[str], last: str = "and") -> str:
    *first, end = names or [""]
    return f"{', '.join(first)} {last} {end}" if first else end


def _mean(model: Model) -> float:
    return sum(each.mae for each in model.runs) / len(model.runs)


def _notes(chosen: Model, choices: Choices, compared: Compared) -> Iterator[str]:
    best = choices.best_by_test
    if chosen.how and not chosen.by_test:
        yield f"{chosen.name} was chosen without the scored series: {chosen.how}."
    elif chosen.how:
        yield f"{chosen.name} was chosen by {chosen.how}. That flatters it."
    if best is not None and best.name != chosen.name:
        yield (
            f"By the scored series themselves the best of {len(choices.every)} models is {best.name}, with a MAE of "
            f"{short(_mean(best))}: a choice that flatters it."
        )
    if compared.rows:
        yield (
            f"Differences are paired by series: {chosen.runs[0].circumstances}. In brackets: 95 %, by a bootstrap over "
            f"series. p: corrected by Holm's procedure for {len(compared.rows)} comparisons; below .05 a difference "
            "is called one. Original units, both variables pooled."
        )
    if (spread := compared.spread) and spread["mae"] is not None and spread["mse"] is not None:
        yield (
            f"{chosen.name} is a mean over {len(chosen.runs)} training seeds, which the bootstrap draws too; their "
            f"standard deviation is {short(spread['mae'])} (MAE) and {short(spread['mse'])} (MSE)."
        )
    else:
        yield "One training seed: the intervals leave out how much another seed would change."
    if names := [each.subject for each in _tuned(choices) if each.config.training.validation_systems == 0]:
        yield (
            f"Validated on scored series (validation_systems = 0): {', '.join(names)}. If anything was chosen by that "
            "loss, these figures are too good."
        )


def _tuned(choices: Choices) -> list[Evaluated]:
    return [each for model in choices.every for each in model.runs]


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
