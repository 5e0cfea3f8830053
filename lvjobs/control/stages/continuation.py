"""The checkpoints from which runs continue others: a run that the user names, or the winner of an earlier stage."""

from collections.abc import Iterable, Mapping, Sequence

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.ledger.records import RunRecord
from lvjobs.records.checkpoint_head import read_head
from lvjobs.records.run_files import parse_checkpoint_name
from lvjobs.study.layout import StudyLayout
from lvjobs.study.parent import Parent
from lvjobs.study.run import RunConfig, candidate_of, repeat_of
from lvjobs.study.stages import Stage
from lvjobs.study.words import RunState
from lvjobs.tasks.registry import task_of

Starts = Mapping[tuple[int, int], tuple[Parent, RunConfig]]
"""The checkpoint to continue from, and the configuration of its run, by seed and fold (`run.repeat_of`)."""


def start_step(config: RunConfig) -> int:
    """Return the last step of a run that a longer one can continue from, if the run trains to its end.

    It is the end of the stable phase of the learning rate, where there is one (`Task.stable_until`).
    """
    return task_of(config).stable_until(config.params, config.steps) or config.steps


def find_parent(layout: StudyLayout, run: RunRecord) -> Parent:
    """Return the checkpoint of a completed run that another one continues from. It is not verified.

    Raises:
        UsageError: the run is not completed, or its checkpoint is not there.
    """
    if run.state is not RunState.COMPLETED:
        raise UsageError(f"{run.name} is {run.state.value}: only a completed run can be continued; wait until it is")
    if layout.archive(run.name).exists():
        raise UsageError(f"{run.name} is archived; unpack it: {remedies.UNPACK(run=run.name)}")
    files, last = layout.run(run.name), start_step(run.configuration)
    try:
        named = {parse_checkpoint_name(path.name): path for path in files.steps.iterdir()}
        name = max(name for name in named if name is not None and name.step <= last)
        return Parent(run=run.name, step=name.step, sha256=read_head(named[name])[1])
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{run.name} has no checkpoint up to step {last} that can be read in {files.root} ({_words(error)}), so no "
            "run can continue it; train from the beginning"
        ) from None


def _words(error: Exception) -> str:
    return "none is there" if isinstance(error, (FileNotFoundError, ValueError)) else str(error)


def find_starts(layout: StudyLayout, winner: RunRecord, runs: Sequence[RunRecord]) -> Starts:
    """Return the checkpoints of the winner, and of those runs that repeat it with other seeds and folds.

    A run that was continued before need not have its files any more.

    Raises:
        UsageError: see `find_parent`.
    """
    candidate = candidate_of(winner.config)
    same = {repeat_of(run.config): run for run in runs if candidate_of(run.config) == candidate}
    same = {repeat: run for repeat, run in same.items() if run.state is RunState.COMPLETED}
    found = same | {repeat_of(winner.config): winner}
    before = {parent.run: parent for run in runs if (parent := run.configuration.parent) is not None}
    return {
        repeat: (before.get(run.name) or find_parent(layout, run), run.configuration) for repeat, run in found.items()
    }


def assumed_starts(winner: RunConfig, configs: Iterable[RunConfig]) -> Starts:
    """Return the checkpoints that these runs of a stage will have if the candidate of `winner` wins."""
    same = [winner, *(config for config in configs if config.candidate == winner.candidate)]
    return {
        repeat_of(config.model_dump(mode="json")): (Parent(run="", step=start_step(config), sha256=""), config)
        for config in same
    }


def continued(stage: Stage, configs: Sequence[RunConfig], starts: Starts) -> list[RunConfig]:
    """Return the stage's runs, each continuing the run of its own seed and fold.

    Raises:
        UsageError: there is no such run, or its checkpoint does not fit.
    """
    found = []
    for config in configs:
        repeat = repeat_of(config.model_dump(mode="json"))
        if repeat not in starts:
            of_fold = f" and fold = {repeat[1]}" if repeat[1] or len({fold for _, fold in starts}) > 1 else ""
            seeds = ", ".join(dict.fromkeys(str(seed) for seed, _ in sorted(starts)))
            raise UsageError(
                f"stage {stage.name} continues {stage.origin}'s winner, which was not trained with seed = {repeat[0]}"
                f"{of_fold} (its seeds: {seeds}); choose among these, or leave continue out"
            )
        found.append(with_parent(config, *starts[repeat], f"stage {stage.name}: "))
    return found


def with_parent(config: RunConfig, parent: Parent, parents: RunConfig, where: str = "") -> RunConfig:
    """Return the run, continuing a run with the configuration `parents` from its checkpoint `parent`.

    Raises:
        UsageError: the run has no step left, or settings that the checkpoint does not fit. `where` is the message's
            beginning.
    """
    ended_early = parent.step < start_step(parents)
    least = parent.step if ended_early else parents.steps
    if config.steps <= least:
        raise UsageError(
            f"{where}steps = {config.steps}, and the run to continue has {least} already: steps counts these, too, so "
            "set it higher"
        )
    if config.task != parents.task:
        raise UsageError(f"{where}the run to continue is of {parents.task}, not of {config.task}")
    if config.seed != parents.seed:
        raise UsageError(
            f"{where}seed = {config.seed}: a run that continues another continues its random numbers, so it has its "
            f"seed ({parents.seed}); leave seed out"
        )
    try:
        task_of(config).check_continuation(parents.params, config.params)
    except UsageError as error:
        raise UsageError(f"{where}{error}") from None
    return config.model_copy(update={"parent": parent})


def why_not_one(config: RunConfig, parents: RunConfig) -> str:
    """Return why a run and the one that it continues are not one training of all steps; empty if they are, to the bit.

    They are if the learning rate is stable up to the checkpoint in both, and they differ in their steps alone.
    """
    assert config.parent is not None
    step = config.parent.step
    stable = [task_of(each).stable_until(each.params, each.steps) for each in (parents, config)]
    if None in stable:
        return "lvjobs does not know what its learning rate does"
    if stable[0] == 0:
        return f"schedule = {parents.params.get('schedule')!r} depends on the number of steps"
    if step != stable[0]:
        return "the run to continue ended early"
    if (stable[1] or 0) < step:
        return "its learning rate falls sooner"
    alike = config.model_copy(update={"steps": parents.steps, "parent": parents.parent})
    if alike.identity in parents.identities:
        return ""
    before, now = ({**each.model_dump(), **each.params} for each in (parents, alike))
    others = [key for key in now if key != "params" and before.get(key) != now[key]]
    return f"{', '.join(others)} differ{'' if len(others) > 1 else 's'}"
