"""The methods of `lvjobs.Study` that change existing runs: resume, submit again, cancel, tag and annotate them."""

from dataclasses import dataclass

from lvjobs.api import updates
from lvjobs.api.results import Status
from lvjobs.api.select import names_of
from lvjobs.api.view import StudyView, Values, given


@dataclass(frozen=True)
class StudyRuns(StudyView):
    """Changes of runs that exist. Runs are named as for commands: names, ends of names, job ids, stages, globs."""

    def resume(
        self,
        *runs: str,
        settings: Values | None = None,
        resources: Values | None = None,
        profile: str | None = None,
        accept_packages: bool = False,
    ) -> Status:
        """Resume held and paused runs with the current code and settings, and reconcile.

        Args:
            *runs: Names of runs, or enough of each name. Without any, only reconcile.
            settings: `checkpoint_every` and `keep_last`, which override study.toml.
            resources: Keys of [resources] that override study.toml.
            profile: The cluster profile; None: that of study.toml.
            accept_packages: Whether a program may continue with other packages than its last attempt had.

        Raises:
            UsageError: A run does not exist, its packages changed, a setting cannot change, or settings are given
                without runs. Nothing was changed.
        """
        return updates.resume(
            self, names_of(self, runs), given(settings, resources, profile), lambda _: accept_packages
        )

    def submit_again(
        self,
        *runs: str,
        settings: Values | None = None,
        resources: Values | None = None,
        profile: str | None = None,
        accept_packages: bool = False,
    ) -> Status:
        """Submit cancelled, held or paused runs again. They continue from their newest checkpoints. See `resume`.

        Each gets a new submission and a new reservation; a cancelled run's evaluations are planned again.
        """
        given_now = given(settings, resources, profile)
        return updates.resume(self, names_of(self, runs), given_now, lambda _: accept_packages, cancelled=True)

    def cancel(self, *runs: str) -> Status:
        """Cancel runs for good, and keep their checkpoints. Raises UsageError for a run that does not exist.

        Args:
            *runs: Names of runs, or enough of each; job ids; stages; globs.
        """
        from lvjobs.control.reconcile.run_commands import cancel

        return updates.update(self, lambda session: cancel(session, names_of(self, runs)))

    def tag(self, tag: str, *runs: str, remove: bool = False) -> Status:
        """Give runs a tag, by which commands choose them; with `remove`, remove it.

        Raises:
            UsageError: The tag is not allowed, a run does not exist, or a run does not have the tag to be removed.
        """
        from lvjobs.control.reconcile.labels import change_tag

        names = names_of(self, runs)
        return updates.update(self, lambda session: change_tag(session, tag, names, remove=remove), hurry=True)

    def archive(self, *runs: str) -> list[str]:
        """Pack the directories of finished runs into one file each; return a line for each. See `unpack`.

        Raises:
            UsageError: A run is not finished, or its files are still needed. Nothing was packed.
        """
        from lvjobs.control.recovery.run_archive import archive_runs

        return self._with_files(lambda session: archive_runs(session, names_of(self, runs)))

    def unpack(self, *runs: str) -> list[str]:
        """Unpack the directories of archived runs; return a line for each.

        Raises:
            UsageError: A run is not archived, or its archive is damaged.
        """
        from lvjobs.control.recovery.run_archive import unpack_runs

        return self._with_files(lambda session: unpack_runs(session, names_of(self, runs)))

    def _with_files(self, act: updates.Act) -> list[str]:
        with updates.open_session(self) as session:
            return list(act(session))

    def note(self, run: str, text: str) -> Status:
        """Add a note to a run's history, which `show` and `status RUN` print.

        Raises:
            UsageError: The note is empty or too long, or no run has this name.
        """
        from lvjobs.api.select import name_of
        from lvjobs.control.reconcile.labels import add_note

        name = name_of(self, run)
        return updates.update(self, lambda session: add_note(session, name, text), hurry=True)
