"""`lvjobs doctor --bundle`: what somebody who helps needs to see, in one archive, without secrets and without data."""

import io
import json
import platform
import re
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from lvjobs.cluster.enquiry import SECONDS, enquire
from lvjobs.control.inspect.logs import last_lines
from lvjobs.doctor.interface import Diagnosis
from lvjobs.files import write_atomic
from lvjobs.foreign import cleaned
from lvjobs.study.config import StudyContext

_LOG_LINES = 200
_MOST_BYTES = 2_000_000
"""The longest end of a journal that is kept."""
_QUESTIONS = ("config", "partitions", "qos")
_SECRETS = [
    re.compile(pattern)
    for pattern in (
        r"\b(?:hf_|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-|AKIA)[A-Za-z0-9_-]{12,}",  # of well-known services
        r"(?<=Bearer )\S+",
        r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",  # user:password@host
        r"(?i:(?<=password=)|(?<=passwd=)|(?<=api_key=)|(?<=apikey=)|(?<=secret=))\S+",
    )
]

Tables = Mapping[str, Sequence[Mapping[str, object]]]


def without_secrets(text: str, study: StudyContext) -> str:
    """Return a text without secrets of the environment and of study.toml, keys, passwords, and the home's path."""
    hidden = []
    if webhook := study.config.notify.webhook:
        parts = urlsplit(webhook)
        hidden = [webhook, parts.path, parts.query]
    for part in filter(None, hidden):
        text = text.replace(part, "***") if len(part) > 1 else text
    text = cleaned(text)
    for pattern in _SECRETS:
        text = pattern.sub("***", text)
    return text.replace(str(Path.home()), "~")


def contents(study: StudyContext, findings: Sequence[Diagnosis], tables: Tables) -> dict[str, str]:
    """Return the files of the archive by their names, without secrets. `tables` are the ledger's rows by table."""
    found = {
        "doctor.json": json.dumps([asdict(finding) for finding in findings], indent=1),
        "versions.txt": _versions(),
        **{f"ledger/{name}.jsonl": _lines(rows) for name, rows in tables.items()},
        **dict(_site()),
        **dict(_files(study)),
    }
    return {name: without_secrets(text, study) for name, text in found.items()}


def _versions() -> str:
    packages = sorted({f"{each.metadata['Name']} {each.version}" for each in metadata.distributions()}, key=str.lower)
    return "\n".join([f"Python {sys.version}", platform.platform(), "", *packages, ""])


def _lines(rows: Sequence[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _site() -> Iterator[tuple[str, str]]:
    """Yield Slurm's answers about the site."""
    replies = enquire({}, SECONDS)
    if replies.missing:
        return
    for question in _QUESTIONS:
        reply = replies[question]
        yield f"slurm/{question}.txt", reply.text or reply.problem


def _files(study: StudyContext) -> Iterator[tuple[str, str]]:
    """Yield study.toml, the last summary, journals, the ends of logs, and batch scripts."""
    layout = study.layout
    for path in (layout.config, layout.summary):
        if path.is_file():
            yield path.name, _text(path)
    for path in sorted(layout.checkpoints.glob("*/*.jsonl")) + sorted(layout.checkpoints.glob("*/journals/*.jsonl")):
        yield f"journals/{path.relative_to(layout.checkpoints)}", _text(path)
    for path in sorted(layout.logs.glob("*/*.out")):
        yield f"logs/{path.relative_to(layout.logs)}", "\n".join(last_lines(path, _LOG_LINES)) + "\n"
    for path in sorted(layout.submissions.glob("*/*.sh")):
        yield f"scripts/{path.relative_to(layout.submissions)}", _text(path)


def _text(path: Path) -> str:
    """Return a file's text, or its end if it is long; why, if it cannot be read."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(max(0, size - _MOST_BYTES))
            return stream.read().decode("utf-8", "replace")
    except OSError as error:
        return f"cannot be read: {error.strerror}\n"


def write_bundle(path: Path, files: Mapping[str, str]) -> int:
    """Write the files into a compressed archive that only this user can read; return its bytes. May raise OSError."""
    data, name = io.BytesIO(), path.name.removesuffix(".gz").removesuffix(".tar")
    with tarfile.open(fileobj=data, mode="w:gz", encoding="utf-8") as archive:
        for file, text in files.items():
            content = text.encode("utf-8", "replace")
            member = tarfile.TarInfo(f"{name}/{file}")
            member.size, member.mtime, member.mode = len(content), int(time.time()), 0o600
            archive.addfile(member, io.BytesIO(content))
    write_atomic(path, data.getvalue())
    return len(data.getvalue())
