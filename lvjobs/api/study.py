"""The public class `lvjobs.Study`. Methods import what they need when they are called, so that opening is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lvjobs import remedies
from lvjobs.api import updates
from lvjobs.api.results import Preview, Status, Submission, WrittenFiles
from lvjobs.api.settings import create
from lvjobs.api.stages import StudyStages
from lvjobs.api.view import Values, given
from lvjobs.errors import UsageError
from lvjobs.study import config
from lvjobs.study.tables import Budget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lvjobs.api.submit import Agree
    from lvjobs.study.params import PromptName


@dataclass(frozen=True)
class Study(StudyStages):
    """A study: one directory with study.toml, runs.db, checkpoints and logs, and everything that commands do with it.

    Most methods reconcile first: they ask the cluster, act on its answer, and return the study's status after that.
    Each call reads [budget] of study.toml again. After a change of any other table, open the study again.
    Errors are `lvjobs.errors.LvjobsError`, and `UsageError` if an argument cannot be used; then nothing was changed.

    Example:
        >>> study = lvjobs.Study.open("my-study")
        >>> study.submit({"steps": 100}, task="package.module:function", name="first")
        >>> [run.state for run in study.wait(["first"], timeout=3600)]
        ['completed']
    """

    @classmethod
    def open(cls, directory: Path | str = ".", *, new: bool = False) -> "Study":
        """Return the study in a directory.

        Args:
            directory: The directory with its study.toml.
            new: Allow a directory without a study. Every setting then has its default.

        Raises:
            UsageError: There is no study, or study.toml cannot be used. The message names the key.
        """
        found = config.load_study(Path(directory))
        study, layout = cls(found.root, found.config), found.layout
        if not new and not any(path.exists() for path in (layout.config, layout.database, layout.checkpoints)):
            raise UsageError(
                f"there is no study in {study.root}; type: {remedies.INIT(*study.where)}, or name one with --study"
            )
        return study

    @classmethod
    def create(
        cls,
        directory: Path | str,
        *,
        profile: str = "local",
        account: str | None = None,
        preset: str | None = None,
        force: bool = False,
    ) -> "Study":
        """Write a commented study.toml, and return the study.

        Args:
            directory: The study's directory, created if it is missing.
            profile: The cluster profile: "local", or a file of slurm_templates.
            account: The Slurm account to charge.
            preset: The stages and their training: "published", "study-tiny" or another that `lvjobs init` lists.
                None: "study-tiny" if runs train on this machine, else "published".
            force: Overwrite an existing study.toml.

        Raises:
            UsageError: A study.toml exists and `force` is not given, or the directory cannot be written.
        """
        create(Path(directory), profile, {"account": account} if account else {}, preset, force=force)
        return cls.open(directory)

    def submit(
        self,
        settings: Values | None = None,
        *,
        resources: Values | None = None,
        profile: str | None = None,
        name: str | None = None,
        task: str | None = None,
        continues: str | None = None,
        evaluate: bool = False,
        agree: "Agree | None" = None,
    ) -> Submission:
        """Submit one run. A run with the same settings is the same run, and is not submitted twice.

        Args:
            settings: Keys of [train] that override study.toml, such as {"learning_rate": 1e-4}.
            resources: Keys of [resources] that override study.toml.
            profile: The cluster profile; None: that of study.toml.
            name: The run's name; None: made from its settings.
            task: A function of your own, "package.module:function"; None: the task of [train] in study.toml.
            continues: A completed run to train on from. The run has its settings where `settings` say nothing, and
                `steps` counts its steps, too.
            evaluate: Forecast and score the held-out series after training (bundled training only).
            agree: If the budget refuses, called with the proposal that fits; returns whether to submit that instead.

        Raises:
            OverBudget: The budget refuses, and `agree` is None.
            UsageError: The run cannot be submitted. Nothing was submitted.

        Example:
            >>> study.submit({"steps": 500}, name="short", agree=lambda proposal: True).outcome
            'submitted'
        """
        from lvjobs.api.submit import prepare_run

        wanted = given(settings, resources, profile)
        return prepare_run(self, wanted, name, task, continues=continues, evaluate=evaluate).submit(agree)

    def preview(
        self,
        settings: Values | None = None,
        *,
        resources: Values | None = None,
        profile: str | None = None,
        name: str | None = None,
        task: str | None = None,
        continues: str | None = None,
        evaluate: bool = False,
        fit: bool = False,
    ) -> Preview:
        """Return a run's batch script, its cost, and with `fit` a proposal that fits; submit nothing. See `submit`."""
        from lvjobs.api.submit import prepare_run

        wanted = given(settings, resources, profile)
        return prepare_run(self, wanted, name, task, continues=continues, evaluate=evaluate).preview(fit=fit)

    def sweep(
        self,
        stage: str = "all",
        settings: Values | None = None,
        *,
        resources: Values | None = None,
        profile: str | None = None,
        agree: "Agree | None" = None,
    ) -> Submission:
        """Submit a stage of study.toml, or all stages. Later passes submit runs that wait for an earlier stage.

        Args:
            stage: The stage's name, or "all".
            settings: Keys of [train] that override study.toml, for every run.
            resources: Keys of [resources] that override study.toml.
            profile: The cluster profile; None: that of study.toml.
            agree: As for `submit`, for one stage whose runs are known.

        Returns:
            The submission. Its `outcome` is "requested" if passes submit the runs later.

        Raises:
            UsageError: The stage cannot be submitted, or the budget has no room for it. Nothing was submitted.
        """
        from lvjobs.api.sweep import PreparedStages, prepare_stages

        prepared = prepare_stages(self._now(), stage, given(settings, resources, profile), fit=agree is not None)
        return prepared.submit() if isinstance(prepared, PreparedStages) else prepared.submit(agree)

    def evaluate(
        self,
        *runs: str,
        zero_shot: "PromptName | None" = None,
        adapter: Path | None = None,
        origins: "Sequence[int]" = (),
        baselines: "Sequence[str] | None" = None,
        settings: Values | None = None,
        resources: Values | None = None,
        profile: str | None = None,
        **trial: Any,
    ) -> Submission:
        """Submit evaluations, which forecast and score held-out series. Existing ones are not submitted again.

        Args:
            *runs: Names of runs. Without any, give `zero_shot` or `adapter`.
            zero_shot: Evaluate the base model with this prompt: "raw" or "instruct".
            adapter: Directory of a PEFT adapter, or a training checkpoint.
            origins: The numbers of observed steps to forecast from, each an evaluation. None: the training's own.
            baselines: Names of extra baselines, such as "auto-theta" (docs/evaluate.md). None: those of [evaluation].
            settings: Keys of [train] that override study.toml: the model and the data, if no run is named.
            resources: Keys of [resources] that override study.toml.
            profile: The cluster profile; None: that of study.toml.
            **trial: Settings of the forecasts: `series` (their number), `split`, `samples`, `temperature`, `top_p`,
                `seed`, `batch`, `likelihood`.

        Raises:
            UsageError: Not exactly one kind of model is given, or a run or the adapter does not exist. Nothing was
                submitted.
        """
        from lvjobs.api.evaluate import make_trial, prepare_evaluations

        return prepare_evaluations(
            self, given(settings, resources, profile), make_trial(**trial), runs, zero_shot, adapter, origins, baselines
        ).submit()

    def reconcile(self) -> Status:
        """Ask the cluster, act on its answer, and return the study's status with the changes that were made.

        Raises:
            LeaseTaken: Another process has been updating the study for a minute.
        """
        return updates.update(self)

    def set_budget(self, limit: str = "", because: str = "", gpu_hours: str = "") -> Status:
        """Change the limit in FLOPs, in GPU-hours, or both, in the ledger and in study.toml.

        Args:
            limit: The limit in FLOPs, as text that study.toml keeps as it is: "1e17". Empty: it stays.
            because: The reason, kept in the ledger. Needed to raise the limit.
            gpu_hours: The limit in GPU-hours, as text: "500". Empty: it stays.

        Raises:
            UsageError: A limit is not a number, or is raised without a reason, or study.toml cannot be written.
        """
        from lvjobs.control.budget.limit import change_limits

        typed = {key: text for key, text in (("limit", limit), ("gpu_hours", gpu_hours)) if text}
        named = {"limit": "LIMIT", "gpu_hours": "--gpu-hours"}
        if not typed:
            raise UsageError("no limit is given: name one in FLOPs (1e17), or in GPU-hours (--gpu-hours 500)")
        limits = {key: getattr(config.validated(Budget, {key: text}, named[key]), key) for key, text in typed.items()}
        with updates.open_session(self) as session:
            change_limits(session.study, session.ledger, limits, typed, because, session.clock())
        return updates.update(self)  # reads study.toml again

    def report(self, out: Path | None = None) -> WrittenFiles:
        """Write the report: one HTML file, and its tables as Markdown and LaTeX. Do not reconcile.

        Args:
            out: The directory; None: report/ in the study.

        Raises:
            UsageError: The directory holds something else.
        """
        from lvjobs.api.publish import write_report

        return write_report(self, out)

    def figures(self, out: Path | None = None) -> WrittenFiles:
        """Draw all figures for which there are data, into `out` (None: figures/ in the study).

        Raises:
            UsageError: The directory holds something else, or the ledger cannot be read.
        """
        from lvjobs.api.publish import write_figures

        return write_figures(self, out)
