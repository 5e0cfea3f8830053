"""The runs that a caller names: by name, the end of a name, job id, stage or glob."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from lvjobs.control.summary_file import read_summary
from lvjobs.errors import UsageError
from lvjobs.study.config import StudyContext
from lvjobs.study.run import find_name

_GLOB = frozenset("*?[")


def names_of(study: StudyContext, words: Sequence[str]) -> list[str]:
    """Return the names of the runs that `words` name, by the last update's summary.

    A job id, a stage and a glob become names. Any other word, such as a part of a name, is returned as it is.

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
            found |= dict.fromkeys(same or [word])
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


def _array_of(job_id: str | None) -> str:
    """Return the id of the job array that a job is a member of; empty if it is none."""
    array, member, _ = (job_id or "").partition("_")
    return array if member else ""
