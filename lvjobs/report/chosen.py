"""The evaluated models that a report shows: chosen by validation. A choice by test score is labelled. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal, TypeAlias

from lvjobs import remedies
from lvjobs.records.curves import LOSSES
from lvjobs.records.summary import StageStatus
from lvjobs.report.evaluated import Evaluated, largest_group, settings_of
from lvjobs.report.material import Losses, Material
from lvjobs.study.params import OBJECTIVE

_MODELS = 4
"""The number of models that are drawn beside the baselines: more lines are unreadable."""
Source: TypeAlias = Literal["validation", "scored", "hand", "test", "only", ""]


@dataclass(frozen=True)
class Model:
    """A model as a report shows it.

    Attributes:
        runs: Its evaluations, one for each training seed. Figures show the first one's forecasts.
        how: How it was chosen, in words; empty if it was not chosen among others.
        source: The figures that chose it: a metric of validation, which may be on the `scored` series; by `hand`; its
            `test` score; or none, as the `only` one.
    """

    runs: Sequence[Evaluated]
    how: str = ""
    source: Source = ""

    @property
    def name(self) -> str:
        """Return the name of the run, or of the base model."""
        return self.runs[0].subject

    @property
    def label(self) -> str:
        """Return the name, and that its score on the scored series chose it if so."""
        return f"{self.name} (best by test)" if self.source == "test" else self.name

    @property
    def mae(self) -> float:
        """Return the mean absolute error, as a mean over seeds."""
        return fmean(each.mae for each in self.runs)

    def is_same(self, other: "Model") -> bool:
        """Return whether both are the same model, whichever of its seeds comes first."""
        return {each.files.root for each in self.runs} == {each.files.root for each in other.runs}


@dataclass(frozen=True)
class Choices:
    """The models of one group of evaluations that compare.

    Attributes:
        chosen: The study's chosen model; None if no fine-tuned model was evaluated.
        others: The model that each other stage chose.
        best_by_test: The model with the lowest MAE on the scored series, if it is not the chosen one.
        every: All fine-tuned models, in the order of their runs.
        bases: The base models that were evaluated.
        notes: Notes on the choice.
    """

    chosen: Model | None = None
    others: Sequence[Model] = ()
    best_by_test: Model | None = None
    every: Sequence[Model] = ()
    bases: Sequence[Evaluated] = ()
    notes: Sequence[str] = ()

    def base_of(self, model: Model) -> Model | None:
        """Return the base model of a model, if it was evaluated on the same series in the same way."""
        found = next((each for each in self.bases if each.is_base_of(model.runs[0])), None)
        return Model([found]) if found else None

    @property
    def marked(self) -> set[str]:
        """Return the names of the chosen model's runs."""
        return {each.subject for each in self.chosen.runs} if self.chosen else set()

    @property
    def drawn(self) -> list[Model]:
        """Return the models that figures show: the chosen one first, the base model last."""
        if self.chosen is None:
            return [Model(self.bases[:1])] if self.bases else []
        base = self.base_of(self.chosen)
        last = [base] if base else []
        if self.best_by_test and not any(self.best_by_test.is_same(each) for each in self.others):
            last.insert(0, self.best_by_test)
        return [self.chosen, *self.others][: _MODELS - len(last)] + last


def choose(material: Material) -> Choices:
    """Return the models to show, of the largest group of evaluations that compare.

    The study's chosen model is the winner of the last stage whose winner was evaluated. Without such a stage it is the
    run with the lowest validation loss. Runs of a stage without a winner are compared by their validation loss too.
    """
    group = largest_group(material.evaluations)
    every = models_of(each for each in group if not each.is_zero_shot)
    bases = [each for each in group if each.is_zero_shot]
    if not every:
        return Choices(bases=bases)
    losses = {each.run: each for stage in material.losses.values() for each in stage}
    won, notes = _winners(every, material.stages)
    picked = list(reversed(won.values())) or [_lowest(every, losses)]
    stages = dict.fromkeys(_stage_of(model) for model in every)
    for stage in stages:
        own = [model for model in every if _stage_of(model) == stage]
        if stage not in won and not any(model.is_same(other) for model in own for other in picked):
            picked.append(_lowest(own, losses))
    best = min(every, key=lambda model: model.mae)
    return Choices(
        chosen=picked[0],
        others=picked[1:],
        best_by_test=None if best.is_same(picked[0]) else replace(best, source="test"),
        every=every,
        bases=bases,
        notes=notes,
    )


def models_of(evaluations: Iterable[Evaluated]) -> list[Model]:
    """Return one model for each group of evaluations that differ in the training seed alone.

    Of several evaluations with the same training seed the first is kept: what they differ in is no training.
    """
    found: dict[str, dict[int, Evaluated]] = defaultdict(dict)
    for each in evaluations:
        settings = settings_of(each)
        seed = settings.pop("seed", 0)
        apart = "" if each.trained else each.config.adapter
        found[repr((sorted(settings.items()), apart))].setdefault(seed, each)
    return [Model(list(runs.values())) for runs in found.values()]


def _stage_of(model: Model) -> str:
    first = model.runs[0]
    return first.trained.stage if first.trained else first.subject


def _winners(every: Sequence[Model], stages: Sequence[StageStatus]) -> tuple[dict[str, Model], list[str]]:
    """Return the evaluated winners by stage, in declared order; and notes on later stages' that were not evaluated."""
    by_run = {part.subject: model for model in every for each in model.runs for part in each.alone}
    won: dict[str, Model] = {}
    notes: list[str] = []
    for stage in stages:
        if not stage.winner:
            continue
        model = by_run.get(stage.winner)
        if model is None:
            command = remedies.EVALUATE(runs=stage.winner)
            notes.append(
                f"The winner of {stage.name}, {stage.winner}, was not evaluated on these series. Type: {command}"
            )
            continue
        notes.clear()
        first = sorted(model.runs, key=lambda each: stage.winner not in {part.subject for part in each.alone})
        source = "hand" if stage.by_hand else _source_of(every)
        won[stage.name] = Model(first, f"the winner of stage {stage.name} ({stage.because})", source)
    return won, notes


def _source_of(models: Sequence[Model]) -> Source:
    """Return whether a loss of these models was measured on the scored series."""
    on_scored = any(each.config.training.validation_systems == 0 for model in models for each in model.runs)
    return "scored" if on_scored else "validation"


def _lowest(models: Sequence[Model], losses: Mapping[str, Losses]) -> Model:
    """Return the model with the lowest validation loss at its end, as a mean over seeds; by test if there is none."""
    if len(models) == 1:
        return replace(models[0], how="the only model evaluated", source="only")
    found = [[losses.get(part.subject) for each in model.runs for part in each.alone] for model in models]
    known = [each for of_model in found for each in of_model if each is not None and max(each.validation, default=0)]
    texts = {
        repr([each.config.training.model, *(getattr(each.config.training, key) for key in sorted(OBJECTIVE))])
        for model in models
        for each in model.runs
    }
    if len(known) < sum(map(len, found)):
        why = "not every run has a validation loss"
    elif len({each.metric for each in known}) > 1 or known[0].metric not in LOSSES or len(texts) > 1:
        why = "their validation losses are of different texts or models"
    else:
        values = [fmean(each.validation[max(each.validation)] for each in of_model if each) for of_model in found]
        best = models[values.index(min(values))]
        how = f"the lowest validation loss at the end of {len(models)} evaluated models"
        return replace(best, how=how, source=_source_of(models))
    best = min(models, key=lambda model: model.mae)
    return replace(best, how=f"the lowest MAE on the scored series themselves, because {why}", source="test")
