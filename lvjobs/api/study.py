"""The public class `lvjobs.Study`. What it needs is imported when it is called, so that opening a study is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lvjobs import remedies
from lvjobs.api import costs, create, updates
from lvjobs.api.results import Preview, Status, Submission, WrittenFiles
from lvjobs.api.view import StudyView, Values, given
from lvjobs.errors import UsageError
from lvjobs.study import config

if TYPE_CHECKING:
    from lvjobs.api.submit import Agree, PreparedRuns
    from lvjobs.study.evaluation import PromptName


@dataclass(frozen=True)
class Study(StudyView):
    """A study: one directory with study.toml, runs.db, checkpoints and logs, and everything that commands do with it.

    Most methods first reconcile: they ask the cluster, act on what they find, and return how the study stands then.
    Of study.toml, [budget] is read anew by each call; open the study again after a change of anything else.
    Errors are `lvjobs.errors.LvjobsError`, and `UsageError` where an argument cannot be used; nothing was changed then.

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
            directory: Where its study.toml is.
            new: The directory may hold no study yet; every setting has its default then.

        Raises:
            UsageError: There is no study, or study.toml cannot be used; names the key.
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
            directory: Where; made where it is missing.
            profile: How the cluster is used: "local", or a file of slurm_templates.
            account: The Slurm account that pays.
            preset: The stages, and what they train: "published", "study-tiny" or another that `lvjobs init` lists.
            force: Write over a study.toml that exists.

        Raises:
            UsageError: A study.toml exists, or the directory cannot be written.
        """
        create.create(Path(directory), profile, account, preset, force=force)
        return cls.open(directory)

    def submit(
        self,
        settings: Values | None = None,
        *,
        resources: Values | None = None,
        profile: str | None = None,
        name: str | None = None,
        task: str | None = None,
        evaluate: bool = False,
        agree: "Agree | None" = None,
    ) -> Submission:
        """Submit one run. The same settings again are the same run: it is not submitted twice.

        Args:
            settings: Keys of [train] over those of study.toml, such as {"learning_rate": 1e-4}.
            resources: Keys of [resources] over those of study.toml.
            profile: How the cluster is used; None: as study.toml has it.
            name: The run's name; None: made from its settings.
            task: A function of your own, "package.module:function"; None: what [train] of study.toml trains.
            evaluate: Forecast and score the held-out series once it is trained (bundled training alone).
            agree: Called with what would fit where the budget refuses; returns whether to submit that instead.

        Raises:
            OverBudget: The budget refuses, and `agree` is None.
            UsageError: The run cannot be submitted; nothing was.

        Example:
            >>> study.submit({"steps": 500}, name="short", agree=lambda proposal: True).outcome
            'submitted'
        """
        return self._prepared(settings, resources, profile, name, task, evaluate=evaluate).submit(agree)

    def preview(
        self,
        settings: Values | None = None,
        *,
        resources: Values | None = None,
        profile: str | None = None,
        name: str | None = None,
        task: str | None = None,
        evaluate: bool = False,
        fit: bool = False,
    ) -> Preview:
        """Return the batch script of a run, its cost, and with `fit` what would fit; submit nothing. See `submit`."""
        return self._prepared(settings, resources, profile, name, task, evaluate=evaluate).preview(fit=fit)

    def _prepared(
        self,
        settings: Values | None,
        resources: Values | None,
        profile: str | None,
        name: str | None,
        task: str | None,
        *,
        evaluate: bool,
    ) -> "PreparedRuns":
        from lvjobs.api.submit import prepare

        return prepare(self, given(settings, resources, profile), name, task, evaluate=evaluate)

    def sweep(
        self,
        stage: str = "all",
        settings: Values | None = None,
        *,
        resources: Values | None = None,
        profile: str | None = None,
        agree: "Agree | None" = None,
    ) -> Submission:
        """Submit a stage of study.toml, or all; what waits for an earlier stage is submitted by later passes.

        Args:
            stage: The stage's name, or "all".
            settings: Keys of [train] over those of study.toml, for every run.
            resources: Keys of [resources] over those of study.toml.
            profile: How the cluster is used; None: as study.toml has it.
            agree: As for `submit`; for one stage whose runs are known.

        Returns:
            The submission; its `outcome` is "requested" where passes submit the runs in their turn.

        Raises:
            UsageError: The stage cannot be submitted, or the budget has no room for it; nothing was submitted.
        """
        from lvjobs.api.sweep import PreparedStages, prepare_stages

        prepared = prepare_stages(self._now(), stage, given(settings, resources, profile), fit=agree is not None)
        return prepared.submit() if isinstance(prepared, PreparedStages) else prepared.submit(agree)

    def evaluate(
        self,
        *runs: str,
        zero_shot: "PromptName | None" = None,
        adapter: Path | None = None,
        settings: Values | None = None,
        resources: Values | None = None,
        profile: str | None = None,
        **trial: Any,
    ) -> Submission:
        """Submit evaluations: held-out series are forecast and scored. Those that exist are not submitted again.

        Args:
            *runs: Names of runs; or else give one of the two that follow.
            zero_shot: The base model as it is, with the prompt "raw" or "instruct".
            adapter: An adapter's directory, in PEFT's format.
            settings: Keys of [train] over those of study.toml: the model and the data, where no run is named.
            resources: Keys of [resources] over those of study.toml.
            profile: How the cluster is used; None: as study.toml has it.
            **trial: How forecasts are made: `series` (how many), `split`, `samples`, `temperature`, `top_p`, `seed`,
                `batch`, `likelihood`.

        Raises:
            UsageError: Nothing or too much is named, or something that is not there; nothing was submitted.
        """
        from lvjobs.api.evaluate import make_trial, prepare_evaluations

        return prepare_evaluations(
            self, given(settings, resources, profile), make_trial(**trial), runs, zero_shot, adapter
        ).submit()

    def reconcile(self) -> Status:
        """Ask the cluster, act on what it says, and return how the study stands and what was done.

        Raises:
            LeaseTaken: Another process has been updating the study for a minute.
        """
        return updates.update(self)

    def set_budget(self, limit: str, because: str = "") -> Status:
        """Change the limit of FLOPs, here and in study.toml.

        Args:
            limit: FLOPs, as study.toml is to have it: "1e17".
            because: Why; needed to raise the limit, and kept in the ledger.

        Raises:
            UsageError: The limit is no number, or is raised without a reason.
        """
        return costs.set_limit(self, limit, because)

    def resume(
        self,
        *runs: str,
        settings: Values | None = None,
        resources: Values | None = None,
        profile: str | None = None,
    ) -> Status:
        """Resume held and paused runs with the current code and settings, and reconcile.

        Args:
            *runs: Names of runs, or enough of each.
            settings: `checkpoint_every` and `keep_last`, over those of study.toml.
            resources: Keys of [resources] over those of study.toml.
            profile: How the cluster is used; None: as study.toml has it.

        Raises:
            UsageError: A run is not there, or a setting cannot change; nothing was changed.
        """
        return updates.resume(self, runs, given(settings, resources, profile))

    def cancel(self, *runs: str) -> Status:
        """End runs for good; their checkpoints stay. Raises UsageError for a run that is not there."""
        from lvjobs.control.reconcile.run_commands import cancel

        return updates.update(self, lambda session: cancel(session, runs))

    def choose_winner(self, stage: str, run: str, because: str) -> Status:
        """Make a run the winner of a stage, whatever its rule says; `because` stays with the results.

        Raises:
            UsageError: No reason, no such run in the stage, or a later stage began with another winner.
        """
        from lvjobs.control.stages.requests import choose

        return updates.update(self, lambda session: choose(session, stage, run, because))

    def decide_without_held(self, stage: str, quorum: int | None = None) -> Status:
        """Decide a stage without its held runs, once `quorum` candidates (None: one) are done.

        Raises:
            UsageError: The stage has no runs, or a quorum is given for a stage of evaluations.
        """
        from lvjobs.control.stages.requests import go_on_without_held

        return updates.update(self, lambda session: go_on_without_held(session, stage, quorum))

    def retry(self, stage: str) -> Status:
        """Resume all held runs of a stage with the current code. Raises UsageError for a stage without runs."""
        from lvjobs.control.stages.requests import retry_held

        return updates.update(self, lambda session: retry_held(session, stage))

    def stop(self, stage: str) -> Status:
        """Pause the open runs of a stage, or of "all"; swept again, it resumes. Raises UsageError for no such stage."""
        from lvjobs.control.stages.requests import stop

        return updates.update(self, lambda session: stop(session, stage))

    def report(self, out: Path | None = None) -> WrittenFiles:
        """Write the report: one HTML file, and its tables as Markdown and LaTeX. It reconciles nothing.

        Args:
            out: The directory; None: report/ in the study.

        Raises:
            UsageError: The directory holds something else.
        """
        from lvjobs.api.publish import write_report

        return write_report(self, out)

    def figures(self, out: Path | None = None) -> WrittenFiles:
        """Draw all figures that there are data for into `out` (None: figures/ in the study)."""
        from lvjobs.api.publish import write_figures

        return write_figures(self, out)
