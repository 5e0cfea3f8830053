"""How runs enter from the command line: dry run, submission, waiting; shared by `submit` and `sweep`."""

from typing import TYPE_CHECKING

import click

from lvjobs.cli.common import print_json, tell
from lvjobs.control.declare import Wanted
from lvjobs.study.config import Study

if TYPE_CHECKING:
    from lvjobs.control.submission import Sent


def enter_runs(study: Study, wanted: Wanted, *, dry_run: bool, wait: bool, as_json: bool, patience: float) -> None:
    """Submit what is wanted (or print the script), say what came of it, and with `wait` see it through."""
    from lvjobs.control.enter import enter, script
    from lvjobs.control.loop import open_session

    with open_session(study, wait=patience) as session:
        if dry_run:
            click.echo(script(session, wanted))
            return
        entered = enter(session, wanted)
        summary = session.make_pass()
    names = [run.name for run in (*entered.existing, *entered.new)]
    if not as_json:
        for run in entered.existing:
            click.echo(f"{run.name}: exists already and is {run.state.value}; not submitted again")
        if entered.sent is not None:
            click.echo(_outcome([run.name for run in entered.new], entered.sent))
        tell(summary)
    if wait:
        from lvjobs.cli.watch import watch_until

        summary = watch_until(study, names, quiet=as_json)
    if as_json:
        rows = [row for row in summary["runs"] if row["name"] in names]
        sent = entered.sent
        print_json(
            {
                "schema": summary["schema"],
                "outcome": sent.outcome if sent else "exists",
                "job_id": sent.job_id if sent else None,
                "token": sent.token if sent else None,
                "said": sent.said if sent else "",
                "runs": rows,
            }
        )


def _outcome(names: list[str], sent: "Sent") -> str:
    what = names[0] if len(names) == 1 else f"{len(names)} runs"
    if sent.outcome == "submitted":
        return f"{what}: submitted as job {sent.job_id}; follow with: lvjobs status"
    if sent.outcome == "deferred":
        return f"{what}: not submitted yet ({sent.said}); kept as planned, the next pass submits: lvjobs resume"
    return (
        f"{what}: the scheduler did not say whether it took the job ({sent.said}); nothing is lost: it carries token "
        f"{sent.token}, and the next pass looks it up and adopts it or submits anew: lvjobs resume"
    )
