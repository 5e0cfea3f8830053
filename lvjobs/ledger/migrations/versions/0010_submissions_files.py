"""The files of workers: a submission has one, and a claim begins its journal.

No table changes. The revision keeps older releases away from the study: they would find no claim of a run that this
release submitted, and submit the run again.
"""

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Migrate forward: run directories keep the form in which they were made (`lvjobs.study.layout`)."""
