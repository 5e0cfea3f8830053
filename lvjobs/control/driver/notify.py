"""Notices to the user when a study has ended or something in it is held: by the site's mail, or to a webhook.

Mail needs no installation: a job of one second has `--mail-type=END`, and its name carries the message.
"""

import http.client
import json
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, urlsplit

from lvjobs import remedies
from lvjobs.cluster.backends import backend_of
from lvjobs.cluster.protocol import ClusterError, JobRequest
from lvjobs.control.driver.driver import requested_by, resources
from lvjobs.control.session import Session
from lvjobs.foreign import cleaned
from lvjobs.ledger.records import Event, RunRecord, StageRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext
from lvjobs.study.words import RunState, StageState

_QUIET_SECONDS = 3600.0
"""The time after a notice in which no notice of held runs is sent. What is held meanwhile is reported together."""

_PATIENCE_SECONDS = 10.0
_NAMED = 3
_SECRET_CHARACTERS = 4
"""The least length of a part of an address that is hidden as a secret: a shorter one is an ordinary word."""


@dataclass(frozen=True)
class NoticeRecord:
    """The record of notices: the held runs and stages that were reported, and whether the study's end was.

    `at` is the time of the last notice (seconds since the epoch). `failed` is why some way of sending the last notice
    failed. If every way failed, the next pass tries again.
    """

    held: Sequence[str] = ()
    ended: bool = False
    at: float = 0.0
    failed: str = ""


@dataclass(frozen=True)
class Notice:
    """One notice: `subject` is short enough for a job's name, `text` is the message."""

    subject: str
    text: str
    event: str
    held: Sequence[str] = ()


def due(
    before: NoticeRecord, runs: Sequence[RunRecord], stages: Sequence[StageRecord], now: float
) -> tuple[Notice | None, NoticeRecord]:
    """Return the notice that is due (None: none is), and the record as it is once the notice is sent. Pure.

    What is no longer held is removed from the record, so that it is reported when it is held again.
    """
    held = [run.name for run in runs if run.state is RunState.HELD]
    held += [f"stage {stage.name}" for stage in stages if stage.state is StageState.HELD]
    is_open = any(not run.state.is_at_rest for run in runs)
    is_open |= any(stage.state in (StageState.ASKED, StageState.RUNNING) for stage in stages)
    ended = bool(runs) and not is_open and not held
    new = [name for name in held if name not in before.held]
    after = replace(before, held=held, ended=ended)
    if ended and not before.ended:
        return _of_the_end(runs, stages), replace(after, at=now)
    if new:
        if is_open and 0 <= now - before.at < _QUIET_SECONDS:
            return None, replace(after, held=[name for name in held if name in before.held])
        return _of_held(new, runs, stages), replace(after, at=now)
    return None, after


BUSY = (StageState.ASKED, StageState.RUNNING, StageState.HELD)


def count_as_sent(transaction: Transaction) -> None:
    """Record all held runs and the study's end as reported, for a copy: its original has reported them."""
    held = [run.name for run in transaction.unclosed() if run.state is RunState.HELD]
    transaction.set_rows("notices", [NoticeRecord(held, ended=True)])


def _of_the_end(runs: Sequence[RunRecord], stages: Sequence[StageRecord]) -> Notice:
    counted = [(state.value, sum(run.state is state for run in runs)) for state in RunState]
    words = ", ".join(f"{count} {state}" for state, count in counted if count)
    by_id = {run.id: run.name for run in runs}
    won = [f"{stage.name}: {by_id[stage.winner]} ({stage.because})" for stage in stages if stage.winner in by_id]
    text = f"has finished: {words}" + "".join(f"; {each}" for each in won[-1:]) + f"; type: {remedies.REPORT}"
    return Notice("study-ended", text, "ended")


def _of_held(new: Sequence[str], runs: Sequence[RunRecord], stages: Sequence[StageRecord]) -> Notice:
    reasons = {run.name: run.reason for run in runs} | {f"stage {stage.name}": stage.reason for stage in stages}
    shown = [f"{name}: {reasons[name]}" for name in new[:_NAMED]]
    more = [f"and {len(new) - _NAMED} more"] if len(new) > _NAMED else []
    names = {run.name for run in runs}
    details = next((remedies.WHY(run=name) for name in new if name in names), str(remedies.STATUS))
    text = f"has {len(new)} held: {'; '.join([*shown, *more])}; see {details}"
    return Notice(f"{len(new)}-held", text, "held", tuple(new))


@dataclass(frozen=True)
class Notified:
    """The result of `notify`: lines on what was done, and on problems. `is_owed`: a due notice could not be sent."""

    did: Sequence[str] = ()
    problems: Sequence[str] = ()
    is_owed: bool = False


def notify(session: Session) -> Notified:
    """Send the notice that is due, if any, by the ways that [notify] names, and record it."""
    addresses = session.study.config.notify
    wanted = {channel: getattr(addresses, channel) for channel in _CHANNELS if getattr(addresses, channel) is not None}
    if not wanted:
        return Notified()
    now = session.clock()
    with session.ledger.transaction() as transaction:
        before = transaction.row("notices", NoticeRecord) or NoticeRecord()
        runs, stages = transaction.unclosed(), transaction.stages()
        if all(run.state.is_at_rest for run in runs):
            busy = any(run.state is RunState.HELD for run in runs) or any(stage.state in BUSY for stage in stages)
            if before.ended and not busy:
                return Notified()
            runs = transaction.runs()  # the study may have ended: the notice covers all runs
    notice, after = due(before, runs, stages, now)
    did: list[str] = []
    if notice is not None:
        run = runs[-1] if runs else None
        problems = [_CHANNELS[channel](session, address, notice, run) for channel, address in wanted.items()]
        is_sent = "" in problems
        after = replace(after if is_sent else before, failed="; ".join(filter(None, problems)))
        did = [f"notified you: the study {notice.text}"] if is_sent else []
    if after != before:
        with session.ledger.transaction() as transaction:
            transaction.set_rows("notices", [after])
            for line in did:
                transaction.add_event(Event(now, "notice", line))
    is_news = after.failed and after.failed != before.failed
    problems = [f"could not notify you that the study {notice.text}: {after.failed}"] if notice and is_news else []
    return Notified(did, problems, is_owed=notice is not None and not did)


def message(study: StudyContext, notice: Notice) -> dict[str, Any]:
    """Return the JSON that a webhook gets. Chat services show its `text` or its `content`."""
    text = f"lvjobs: study {study.root.name} {notice.text}"
    facts = {"schema": 1, "study": str(study.root), "event": notice.event, "held": list(notice.held)}
    return {"text": text, "content": text, **facts}


def _post(session: Session, address: str, notice: Notice, _run: RunRecord | None) -> str:
    """Post the notice to the address. Return what went wrong, or "". The address may be a secret: no message has it."""
    value = message(session.study, notice)
    request = urllib.request.Request(  # noqa: S310 - its scheme was checked when study.toml was read
        address, json.dumps(value).encode(), {"Content-Type": "application/json", "User-Agent": "lvjobs"}
    )
    host = urlsplit(address).hostname
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS):  # noqa: S310 - as above
            return ""
    except urllib.error.HTTPError as error:
        return f"{host} answered {error.code} {_without_address(str(error.reason), address)}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{host} was not reached ({_without_address(str(getattr(error, 'reason', error)), address)})"


def _without_address(said: str, address: str) -> str:
    """Return an error text about a webhook without the parts of its address that let others post there.

    Errors about a redirect or a malformed address quote the address.
    """
    parts = urlsplit(address)
    path = parts.path.removeprefix("/")
    hidden = [address, path, parts.query, parts.fragment, parts.username or "", parts.password or ""]
    for part in sorted({*hidden, *path.split("/"), *(quote(each, safe="/") for each in hidden)}, key=len, reverse=True):
        said = said.replace(part, "***") if len(part) >= _SECRET_CHARACTERS else said
    return cleaned(said)


def _mail(session: Session, address: str, notice: Notice, run: RunRecord | None) -> str:
    if run is None:
        return "no run exists yet to send mail from: set webhook under [notify]"
    profile = backend_of(run.profile).notice_profile
    if not profile:
        return "mail needs Slurm: set webhook under [notify]"
    study = session.study
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePath(study.root).name) or "study"
    request = JobRequest(
        token=secrets.token_hex(6),
        name=f"{name[:40]}.{notice.subject}",
        run_directories=[study.root],
        log_directory=study.layout.log_directory("notice"),
        code_directory=study.layout.code,
        python="",
        resources={**resources(study, requested_by(study, run)), **({} if address == "me" else {"mail": address})},
    )
    try:
        session.cluster(profile).submit(request)
    except ClusterError as error:
        return f"the mail job was not submitted ({error})"
    return ""


_CHANNELS: Mapping[str, Callable[[Session, str, Notice, RunRecord | None], str]] = {"webhook": _post, "mail": _mail}
"""The ways to send a notice, by their keys in [notify]: each returns what went wrong, or ""."""
