"""The interface between lvjobs and a task. A new kind of task is a class, and a line in `lvjobs.tasks.registry`.

A task's settings are `params` here: JSON values, as run.json and the ledger have them. Methods that a reconcile pass
calls for every open run read single keys of `params` and validate nothing. The settings model of a task that has one is
in `lvjobs.study.run.PARAMS`, since fingerprints depend on it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from lvjobs.errors import UsageError
from lvjobs.study.params import PromptName
from lvjobs.study.run import NAME, RunConfig
from lvjobs.tasks.code_copies import ProgramFiles

Params: TypeAlias = Mapping[str, Any]

Rates: TypeAlias = dict[str, dict[str, int]]
"""Convention -> kind of work (`training`, `validation`, `generation`) -> FLOPs of one unit of it.

The units are one step, one window that a validation reads, and one series that is forecast.
"""

_LONGEST = 70
"""The longest name that is made here, in characters; the name of an evaluation is a little longer."""


class Need(Protocol):
    """Something that must exist before a run is submitted, such as a base model. Equal needs are checked once."""

    def check(self) -> None:
        """Raise UsageError where the need is not met; the message names the remedy."""


def several(key: str, count: int) -> dict[str, int]:
    """Return the resource with its count if that is more than one, which every job has."""
    return {key: count} if count > 1 else {}


class Task(Protocol):
    """A kind of work that runs do. The defaults are for work that lvjobs cannot inspect."""

    is_evaluation: bool = False
    """Whether a run scores what another run trained. Its checkpoint interval is its own, and no setting changes it."""
    is_program: bool = False
    """True for a program, which may have an environment of its own."""
    can_be_evaluated: bool = False
    """Whether lvjobs can evaluate the runs."""
    reports_windows: bool = False
    """Whether a validation reports how many windows it read. Each other validation is charged as one window."""

    loss_is_in_nats: bool = False
    """Whether a loss is in nats per token. The unit of each other loss is not known."""

    def default_name(self, config: RunConfig, prefix: str = "", varied: Iterable[str] = ()) -> str:
        """Return a name that no other configuration gets, such as `train-hidden64-s0-3fa9`.

        Args:
            config: The run's configuration.
            prefix: The beginning of the name; empty: the function's name.
            varied: Keys that the name shows, up to the longest allowed name. A value that no name can have, such as a
                path, is omitted; the fingerprint still tells the names apart.
        """
        known = {**config.model_dump(exclude={"params", "task", "seed"}), **config.params}
        values = [(key, known[key]) for key in varied if key in known]
        parts = [f"{key}{value:g}" if isinstance(value, float) else f"{key}{value}" for key, value in values]
        chosen = [part for part in parts if NAME.match(part)]
        end = [f"s{config.seed}", config.fingerprint[:4]]
        while len("-".join(made := [prefix or config.task.partition(":")[2], *chosen, *end])) > _LONGEST:
            chosen.pop()
        return "-".join(made)

    def loss_name(self, params: Params) -> str:
        """Return the name under which losses are logged, one of `records.curves.LOSSES`.

        Only losses of the same name compare.
        """
        return "loss"

    def windows(self, params: Params) -> int:
        """Return the most windows that one validation reads. A run's rates have the FLOPs of one window."""
        return 1

    def series(self, params: Params, after: int, until: int) -> int:
        """Return how many series are forecast in the steps after step `after`, up to and with step `until`."""
        return 0

    def validation_series(self, params: Params) -> int:
        """Return the most series that one validation forecasts. A run's rates have the FLOPs of one forecast."""
        return 0

    def rates(self, config: RunConfig) -> Rates:
        """Return the FLOPs of each unit of work; empty for a task that declares no cost.

        Raises:
            UsageError: the FLOPs cannot be determined.
        """

    def learn(self, configs: Sequence[RunConfig]) -> None:
        """Determine the rates of all these configurations at once, where one by one would be slow.

        Raises:
            UsageError: see `rates`.
        """
        return

    def parts_of_a_step(self, params: Params) -> dict[str, Any] | None:
        """Return the FLOPs of the parts of one step by convention, and the settings behind them; None where unknown.

        Raises:
            UsageError: the model's shape is not known.
        """
        return None

    def stable_until(self, params: Params, steps: int) -> int | None:
        """Return the last step at which a run of `steps` has trained as a longer one with these settings would.

        It is 0 if there is none, as with a learning rate that depends on `steps` from the beginning; None if lvjobs
        cannot know. A checkpoint of that step is written, and kept, so that a longer run can continue from it.
        """
        return None

    def check_continuation(self, parent: Params, params: Params) -> None:
        """Refuse settings with which a run could not continue from a checkpoint of a run with the settings `parent`.

        Raises:
            UsageError: the message names a key.
        """
        return

    def pace_settings(self, config: Mapping[str, Any]) -> list[Any]:
        """Return the settings that are equal for runs whose steps take equally long on one machine.

        Args:
            config: The run's configuration, as run.json has it.
        """
        return [config.get("task"), config.get("params", {})]

    def checkpoint_bytes(self, params: Params) -> int:
        """Return the expected bytes of one checkpoint; 0 where they are unknown before there is one."""
        return 0

    def launch(self, params: Params, gpus: int, processes: int | None, nodes: int = 1) -> dict[str, Any]:
        """Return what the run's job requests of the cluster in addition to the user's own settings.

        Args:
            params: The task's settings.
            gpus: GPUs of one node, as requested or as the profile has them.
            processes: Processes of a node that train the run together, as requested; None: the task decides.
            nodes: Nodes of the job, as requested.

        Raises:
            UsageError: the task cannot use as many.
        """
        return {**several("nodes", nodes), **several("processes", processes or 1)}

    def needs(self, params: Params, root: Path, activate: str = "") -> Sequence[Need]:
        """Return what must exist before the run is submitted.

        Args:
            params: The task's settings.
            root: The study's directory.
            activate: What activates the environment of a program; empty for none.
        """
        return ()

    def placed(self, params: Params, root: Path) -> Params:
        """Return the settings for the same run in another directory than its study's, `root`: paths are absolute."""
        return params

    def program_files(self, params: Params, root: Path) -> ProgramFiles | None:
        """Return the directory that is copied at submission, for a task that is a program; None for any other.

        `root` is the study's directory.
        """
        return None

    def evaluation(self, name: str, params: Params, final: Path, systems: Sequence[int]) -> RunConfig:
        """Return the evaluation of a run.

        Args:
            name: The run's name, for messages.
            params: The run's settings.
            final: The directory that holds the run's result once it is completed.
            systems: Indices of the held-out systems that are forecast.

        Raises:
            UsageError: runs of this task cannot be evaluated.
        """
        raise UsageError(f"{name} is not a forecasting run; name a run of the bundled training task")

    def scored(self, params: Params, series: int) -> int:
        """Return how many of `series` held-out systems an evaluation of the run forecasts; 0 if it has none."""
        return 0

    def untrained(
        self, params: Params, prompts: Sequence[PromptName], systems: Sequence[int]
    ) -> list[tuple[str, RunConfig]]:
        """Return the evaluations of the untrained model, one for each prompt, each with its name."""
        return []

    def origin(self, params: Params) -> int:
        """Return the forecast origin: the steps observed before each forecast; 0 for a task without forecasts."""
        return 0

    def at_origin(self, config: RunConfig, origin: int) -> RunConfig:
        """Return the run with another forecast origin; the run itself for a task without forecasts."""
        return config

    def with_baselines(self, config: RunConfig, names: Sequence[str]) -> RunConfig:
        """Return the evaluation with extra baselines of these names; the run itself if it is none."""
        return config
