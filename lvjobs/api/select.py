"""The runs that a caller names or chooses: by name, job id, stage, glob, tag, state and time; and their order."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from lvjobs import remedies
from lvjobs.control.summary_file import read_summary
from lvjobs.errors import UsageError
from lvjobs.study.config import StudyContext
from lvjobs.study.run_names import find_name
from lvjobs.study.words import RunState

_GLOB = frozenset("*?[")

SORTS: Mapping[str, tuple[str, bool]] = {
    "name": ("name", False),
    "state": ("state", False),
    "newest": ("created", True),
    "step": ("step", True),
    "validation": ("validation_loss", False),
    "loss": ("loss", False),
    "attempts": ("attempts", True),
    "flops": ("flops", True),
}
"""The orders of runs by name: the field, and whether the greatest comes first."""


def names_of(study: StudyContext, words: Sequence[str]) -> list[str]:
    """Return the names of the runs that `words` name, by the last update's summary.

    A job id, a stage and a glob become names. The ledger knows the ids of earlier jobs. Any other word, such as a part
    of a name, is returned as it is.

    Raises:
        UsageError: A glob matches no run.
    """
    rows: Sequence[Mapping[str, Any]] = (read_summary(study.layout.summary) or {"runs": []})["runs"]
    names = {row["name"] for row in rows}
    found: dict[str, None] = {}
    for word in words:
        if word in names:
            found[word] = None
        elif _GLOB.intersection(word):
            matching = [row["name"] for row in rows if fnmatchcase(row["name"], word)]
            if not matching:
                raise UsageError(f"no run matches {word!r}; quote a glob, so that the shell does not expand it")
            found |= dict.fromkeys(matching)
        else:
            same = [row["name"] for row in rows if word in (row["stage"], row["job_id"], _array_of(row["job_id"]))]
            found |= dict.fromkeys(same or _of_earlier_job(study, word, names) or [word])
    return list(found)


def full_names(study: StudyContext, words: Sequence[str]) -> list[str]:
    """Return the whole names of the runs that `words` name, by the last update's summary. See `names_of`.

    Raises:
        UsageError: A word names no run, or may be several.
    """
    rows: Sequence[Mapping[str, Any]] = (read_summary(study.layout.summary) or {"runs": []})["runs"]
    by_id = {row["id"]: row["name"] for row in rows}
    names = [row["name"] for row in rows]
    return [by_id.get(word) or find_name(word, names, study.where) for word in names_of(study, words)]


def tagged(study: StudyContext, tag: str) -> list[str]:
    """Return the names of the runs with a tag, by the last update's summary. Raises UsageError if there is none."""
    rows: Sequence[Mapping[str, Any]] = (read_summary(study.layout.summary) or {"runs": []})["runs"]
    names = [row["name"] for row in rows if tag in (row.get("tags") or ())]
    if not names:
        known = sorted({each for row in rows for each in row.get("tags") or ()})
        shown = f"the tags are: {', '.join(known)}" if known else f"add it with: {remedies.TAG(*study.where, tag=tag)}"
        raise UsageError(f"no run has the tag {tag!r}; {shown}")
    return names


@dataclass(frozen=True)
class RunFilter:
    """The runs that a caller wants to see: of a stage, in one of these states, with a tag, active `since` then.

    `since` is in seconds since the epoch: runs that are open, or that were declared or ended after it. `sort` is a key
    of `SORTS`; empty: the order of declaration.
    """

    stage: str = ""
    states: Collection[str] = ()
    tag: str = ""
    since: float | None = None
    sort: str = ""

    def apply(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the chosen rows of a summary, in order."""
        chosen = [row for row in rows if self._has(row)]
        if not self.sort:
            return chosen
        key, greatest_first = SORTS[self.sort]
        known = [row for row in chosen if row.get(key) is not None]
        unknown = [row for row in chosen if row.get(key) is None]
        return sorted(known, key=lambda row: row[key], reverse=greatest_first) + unknown

    def _has(self, row: Mapping[str, Any]) -> bool:
        return (
            self.stage in ("", row["stage"])
            and (not self.states or row["state"] in self.states)
            and (not self.tag or self.tag in (row.get("tags") or ()))
            and (self.since is None or self._is_since(row, self.since))
        )

    def _is_since(self, row: Mapping[str, Any], since: float) -> bool:
        times = [time for time in (row.get("created"), row.get("ended")) if time is not None]
        return not RunState(row["state"]).is_final or max(times, default=0.0) >= since


def is_stage(study: StudyContext, word: str) -> bool:
    """Return whether `word` names a stage. A stage of one run is that run, and a run's own name is no stage's."""
    rows: Sequence[Mapping[str, Any]] = (read_summary(study.layout.summary) or {"runs": []})["runs"]
    stages = {stage.name for stage in study.config.stage} | {row["stage"] for row in rows}
    own = [row["name"] for row in rows if row["stage"] == word]
    return word in stages and len(own) != 1 and not any(word == row["name"] for row in rows)


def name_of(study: StudyContext, word: str) -> str:
    """Return the name of the one run that `word` names. See `names_of`.

    Raises:
        UsageError: The word names several runs.
    """
    names = names_of(study, [word])
    if len(names) > 1:
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")  # noqa: PLR2004
        raise UsageError(f"{word!r} names {len(names)} runs: {shown}; choose one of them")
    return names[0]


def _of_earlier_job(study: StudyContext, word: str, names: Collection[str]) -> list[str]:
    """Return the names of the runs that had attempts in the job `word`; none if the word is a part of a run's name."""
    if any(f"-{word}-" in f"-{name}-" for name in names):
        return []
    from lvjobs.ledger.read_only import runs_of_job  # SQLAlchemy takes its time

    return [name for name in runs_of_job(study.layout.database, word) if name in names]


def _array_of(job_id: str | None) -> str:
    """Return the id of the job array that a job is a member of; empty if it is none."""
    array, member, _ = (job_id or "").partition("_")
    return array if member else ""
