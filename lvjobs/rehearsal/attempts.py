"""The attempts of a rehearsed run, as its files show them."""

from lvjobs.records.journal import Entry, parse_entries
from lvjobs.records.run_files import parse_generation
from lvjobs.study.layout import RunLayout

_NOT_TAKEN = "lvjobs worker: a checkpoint was not taken: "


def entries_of(run: RunLayout, generation: int) -> list[Entry]:
    """Return the lines of a generation's journal; none if it was killed before it began one."""
    journal = run.journal(generation)
    return parse_entries(journal.read_bytes())[0] if journal.exists() else []


def generations(run: RunLayout) -> list[int]:
    """Return the numbers of the attempts that claimed the run."""
    return [number for path in run.generations.glob("*") if (number := parse_generation(path.name))]


def checkpoints(run: RunLayout) -> int:
    """Return how many checkpoints the run published."""
    return sum(entry.kind == "checkpoint" for number in generations(run) for entry in entries_of(run, number))


def problem(run: RunLayout) -> str:
    """Return why no checkpoint was taken, from the run's log, in brackets; empty where nothing says it."""
    logs = sorted(run.study.log_directory(run.root.name).glob("*"))
    lines = [line for log in logs for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    found = [line.removeprefix(_NOT_TAKEN) for line in lines if line.startswith(_NOT_TAKEN)]
    return f" ({found[-1]})" if found else ": nothing matches `checkpoint` of [train]"
