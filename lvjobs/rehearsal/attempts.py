"""The attempts of a rehearsed run, as its files show them."""

from lvjobs.records.journal import Entry, parse_entries
from lvjobs.records.run_files import parse_generation
from lvjobs.study.layout import RunLayout

_SHOWN = 6
"""The most files that are named where none is a checkpoint."""

_NOT_TAKEN = "lvjobs worker: a checkpoint was not taken: "


def entries_of(run: RunLayout, generation: int) -> list[Entry]:
    """Return the lines of a generation's journal; none if it was killed before it began one."""
    journal = run.journal(generation)
    return parse_entries(journal.read_bytes())[0] if journal.exists() else []


def generations_of(run: RunLayout) -> list[int]:
    """Return the numbers of the attempts that claimed the run, in their order."""
    return sorted(number for path in run.generations.glob("*") if (number := parse_generation(path.name)))


def checkpoints_of(run: RunLayout) -> list[int]:
    """Return the steps of the checkpoints that the run published."""
    entries = (entry for number in generations_of(run) for entry in entries_of(run, number))
    return [int(entry.fields["step"]) for entry in entries if entry.kind == "checkpoint"]


def problem_of(run: RunLayout) -> str:
    """Return why no checkpoint was taken: by the run's log, else by the names of its files."""
    logs = sorted(run.study.log_directory(run.root.name).glob("*"))
    lines = [line for log in logs for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    if found := [line.removeprefix(_NOT_TAKEN) for line in lines if line.startswith(_NOT_TAKEN)]:
        return f" ({found[-1]})"
    names = sorted(str(path.relative_to(run.final)) for path in run.final.rglob("*") if path.is_file())
    there = f"it left {', '.join(names[:_SHOWN])}" if names else "it left no files"
    return f": nothing matches `checkpoint` of [train] ({there})"
