"""The methods of `lvjobs.Study` that decide, retry and stop stages which were requested."""

from dataclasses import dataclass

from lvjobs.api import updates
from lvjobs.api.results import Status
from lvjobs.api.runs import StudyRuns


@dataclass(frozen=True)
class StudyStages(StudyRuns):
    """Decisions about stages that were requested with `Study.sweep`. Each method reconciles first."""

    def choose_winner(self, stage: str, run: str, because: str) -> Status:
        """Make a run the winner of a stage, independent of the stage's rule. The reason `because` is kept with it.

        Raises:
            UsageError: There is no reason, the stage has no such run, or a later stage began with another winner.
        """
        from lvjobs.control.stages.requests import choose

        return updates.update(self, lambda session: choose(session, stage, run, because))

    def decide_without_held(self, stage: str, quorum: int | None = None) -> Status:
        """Decide a stage without its held runs, once `quorum` candidates (None: 1) are done.

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
        """Pause the open runs of a stage, or of "all"; `sweep` resumes them. Raises UsageError for no such stage."""
        from lvjobs.control.stages.requests import stop

        return updates.update(self, lambda session: stop(session, stage))
