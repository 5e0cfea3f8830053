"""The evaluated models that a report shows, and how each was chosen: never silently by the scored series. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lvjobs.records.summary import StageStatus
from lvjobs.report.evaluated import Evaluated, largest_group, settings_of
from lvjobs.report.material import Losses, Material

_MODELS = 4
"""The number of models that are drawn beside the baselines: more lines are unreadable."""


@dataclass(frozen=True)
class Model:
    """A model as a report shows it.

    Attributes:
        runs: Its evaluations, one for each training seed. Figures show the first one's forecasts.
        how: How it was chosen, in words; empty if it was not chosen among others.
        by_test: Whether its own score on the scored series chose it, which flatters it.
    """

    runs: Sequence[Evaluated]
    how: str = ""
    by_test: bool = False

    @property
    def name(self) -> str:
        """Return the name of the run, or of the base model."""
        return self.runs[0].subject

    @property
    def label(self) -> str:
        """Return the name, and that its score on the scored series chose it if so."""
        return f"{self.name} (best by test score)" if self.by_test else self.name


@dataclass(frozen=True)
class Choices:
    """The models of one group of evaluations that compare.

    Attributes:
        chosen: The study's chosen model; None if no fine-tuned model was evaluated.
        others: The model that each other stage chose.
        best_by_test: The model with the lowest MAE on the scored series.
        zero_shot: The base model of the chosen one.
        every: All fine-tuned models, in the order of their runs.
        notes: What a reader must know of the choice.
    """

    chosen: Model | None = None
    others: Sequence[Model] = ()
    best_by_test: Model | None = None
    zero_shot: Model | None = None
    every: Sequence[Model] = ()
    notes: Sequence[str] = ()

    @property
    def marked(self) -> set[str]:
        """Return the names of the chosen model's runs."""
        return {each.subject for each in self.chosen.runs} if self.chosen else set()

    @property
    def drawn(self) -> list[Model]:
        """Return the models that figures show: the chosen one first, the base model last."""
        tuned = [self.chosen, *self.others] if self.chosen else []
        last = [self.zero_shot] if self.zero_shot else []
        if self.best_by_test and not any(each and each.name == self.best_by_test.name for each in tuned):
            last.insert(0, self.best_by_test)
        return [each for each in tuned if each][: _MODELS - len(last)] + last


def choose(material: Material) -> Choices:
    """Return the models to show, of the largest group of evaluations that compare.

    The study's chosen model is the winner of the last stage whose winner was evaluated. Without such a stage it is the
    run with the lowest validation loss. Runs of a stage without a winner are compared by their validation loss too.
    """
    group = largest_group(material.evaluations)
    every = models_of(each for each in group if not each.is_zero_shot)
    base = [each for each in group if each.is_zero_shot]
    if not every:
        return Choices(zero_shot=Model(base[:1]) if base else None)
    losses = {each.run: each for stage in material.losses.values() for each in stage}
    won, notes = _winners(every, material.stages)
    stages = {_stage_of(model): None for model in every}
    left = [[model for model in every if _stage_of(model) == stage] for stage in stages if stage not in won]
    picked = [*reversed(won.values()), *(_lowest(models, losses) for models in left)]
    if not won:
        first = _lowest(every, losses)
        picked = [first, *(model for model in picked if model.name != first.name)]
    best = min(every, key=lambda model: fmean(each.mae for each in model.runs))
    zero_shot = next((each for each in base if each.is_base_of(picked[0].runs[0])), None)
    return Choices(
        chosen=picked[0],
        others=picked[1:],
        best_by_test=Model(best.runs, by_test=True),
        zero_shot=Model([zero_shot]) if zero_shot else None,
        every=every,
        notes=notes,
    )


def models_of(evaluations: Iterable[Evaluated]) -> list[Model]:
    """Return one model for each group of evaluations that differ in the training seed alone."""
    found: dict[str, list[Evaluated]] = defaultdict(list)
    for each in evaluations:
        rest = {key: value for key, value in settings_of(each).items() if key != "seed"}
        apart = "" if each.trained else each.subject
        found[repr((sorted(rest.items()), apart))].append(each)
    return [Model(runs) for runs in found.values()]


def _stage_of(model: Model) -> str:
    first = model.runs[0]
    return first.trained.stage if first.trained else first.subject


def _winners(every: Sequence[Model], stages: Sequence[StageStatus]) -> tuple[dict[str, Model], list[str]]:
    """Return the winner of each stage that has one and whose winner was evaluated, in declared order, and notes."""
    by_run = {each.subject: model for model in every for each in model.runs}
    won: dict[str, Model] = {}
    notes = []
    for stage in stages:
        if not stage.winner:
            continue
        model = by_run.get(stage.winner)
        if model is not None:
            first = sorted(model.runs, key=lambda each: each.subject != stage.winner)
            how = "chosen by hand" if stage.by_hand else f"the winner by {stage.because}"
            won[stage.name] = Model(first, f"{how} (stage {stage.name})")
        elif any(_stage_of(model) == stage.name for model in every):
            notes.append(f"The winner of stage {stage.name}, {stage.winner}, was not evaluated on these series.")
    return won, notes


def _lowest(models: Sequence[Model], losses: Mapping[str, Losses]) -> Model:
    """Return the model with the lowest validation loss at its end, as a mean over seeds; by test if there is none."""
    if len(models) == 1:
        return Model(models[0].runs, "the only one evaluated")
    found = [[losses.get(each.subject) for each in model.runs] for model in models]
    known = [each for of_model in found for each in of_model if each is not None and each.validation]
    if len(known) < sum(map(len, found)):
        why = "not every run has a validation loss"
    elif len({each.metric for each in known}) > 1:
        why = "their validation losses are of different kinds"
    else:
        values = [fmean(each.validation[max(each.validation)] for each in of_model if each) for of_model in found]
        best = models[values.index(min(values))]
        return Model(best.runs, f"the lowest validation loss at the end of {len(models)} evaluated models")
    best = min(models, key=lambda model: fmean(each.mae for each in model.runs))
    return Model(best.runs, f"the lowest MAE on the scored series themselves, because {why}", by_test=True)
