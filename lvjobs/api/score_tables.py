"""The tables of evaluations that are done: Tables 2 and 3 of the report, and paired comparisons."""

from collections.abc import Sequence
from dataclasses import replace

from lvjobs import remedies
from lvjobs.api.evaluate import done_evaluations, find_runs, seen_runs
from lvjobs.api.material import read_material, stages_of
from lvjobs.errors import UsageError
from lvjobs.report.evaluated import Evaluated
from lvjobs.report.horizon_table import horizon_tables
from lvjobs.report.origin_table import origin_tables
from lvjobs.report.study_tables import study_tables
from lvjobs.report.table import Table
from lvjobs.study.config import StudyContext


def evaluation_tables(study: StudyContext, runs: Sequence[str] = ()) -> list[Table]:
    """Return Tables 2 and 3 of these runs, or of all, and their paired comparisons, from evaluations that are done.

    Raises:
        UsageError: There is nothing to show, or one of the runs has not been evaluated.
    """
    runs = [run.name for run in find_runs(study, runs)]
    done = done_evaluations(study)
    subjects = {name for each in done for name in _names(each)}
    if missing := [name for name in runs if name not in subjects]:
        raise UsageError(f"{missing[0]} has not been evaluated; type: {remedies.EVALUATE(*study.where, runs=missing)}")
    tables = _tables(study, done, [each for each in done if not runs or each.is_zero_shot or _names(each) & {*runs}])
    if not tables:
        command = remedies.EVALUATE(*study.where, runs="RUN")
        raise UsageError(f"nothing in this study has been evaluated yet; type: {command}")
    return tables


def tables_of(study: StudyContext, names: Sequence[str]) -> tuple[list[Table], list[str]]:
    """Return the tables of these evaluations and of base models on the same series, and the names not done yet."""
    done = done_evaluations(study)
    chosen = [each for each in done if {part.files.root.name for part in each.alone} & {*names}]
    same = {each.comparable for each in chosen}
    chosen += [each for each in done if each.is_zero_shot and each.comparable in same]
    found = {part.files.root.name for each in chosen for part in each.alone}
    return _tables(study, done, chosen), [name for name in names if name not in found]


def _tables(study: StudyContext, done: Sequence[Evaluated], shown: Sequence[Evaluated]) -> list[Table]:
    """Return the tables of the shown evaluations, with the paired comparisons of their models.

    The comparisons are those of everything that is `done`: who shows fewer of them makes no fewer tests.
    """
    from lvjobs.report.chosen import choose
    from lvjobs.report.comparisons import compare_all, comparison_table

    choices = choose(material := read_material(study, seen_runs(study), done, stages_of(study)))
    names = {model.label for model in (*choices.every, choices.best_by_test) if model and _has_one(model.runs, shown)}
    comparisons = comparison_table(compare_all(choices, material), choices, names)
    made = (study_tables, horizon_tables, origin_tables)
    tables = [each for tables_of_kind in made for each in tables_of_kind(shown, choices.marked)]
    if comparisons and comparisons.missing:
        return [replace(each, notes=[*each.notes, f"No paired comparison: {comparisons.missing}."]) for each in tables]
    return [*tables, comparisons] if comparisons else tables


def _names(each: Evaluated) -> set[str]:
    """Return the names of the models that were evaluated: several where folds are pooled."""
    return {part.subject for part in each.alone}


def _has_one(runs: Sequence[Evaluated], shown: Sequence[Evaluated]) -> bool:
    return bool({each.files.root for each in runs} & {each.files.root for each in shown})
