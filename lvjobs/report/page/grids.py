"""The tables of a page: stages, runs, machines, the origin of each result, and Tables 1 to 4 of the published study.

Tables 1 to 4 are written as Markdown and LaTeX too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lvjobs import remedies
from lvjobs.ledger.records import RunRecord
from lvjobs.records.run_files import Done
from lvjobs.records.software import KIND, commit_words, record_of
from lvjobs.records.summary import RunStatus, Summary
from lvjobs.report.evaluated import read_scores
from lvjobs.report.figures.attempts import NOTHING_RAN, Spans
from lvjobs.report.numbers import percent
from lvjobs.report.study_tables import TABLE_2, TABLE_3, TABLE_4, TITLES, budget_table
from lvjobs.report.table import FILE_STYLES, Table
from lvjobs.report.terminal.stage_lines import candidates
from lvjobs.study.layout import StudyLayout
from lvjobs.tasks.origin import first_lines
from lvjobs.tasks.registry import task_of

_NUMERIC = "n: of a numeric head, over a series' characters alone; not comparable with the others."
_MOST_REASONS = 10
TABLE_1 = "table-1-flops-of-a-step"
_SHORT = 8
"""The digits of a hash that are shown: enough to tell it from others."""


def published_tables(
    step: Mapping[str, Any], summary: Summary, made: Sequence[Table]
) -> tuple[list[Table], dict[str, str]]:
    """Return Tables 1 to 4 for the page, and their files' contents by name; a table that is missing has no file."""
    evaluate = remedies.EVALUATE(runs="RUN")
    reasons = {
        TABLE_2: f"no two evaluated runs differ in rank or learning rate alone; type: {evaluate}",
        TABLE_3: f"nothing else was evaluated; type: {evaluate}",
    }
    four = budget_table(summary.budget, summary.runs)
    found = {
        TABLE_1: [_table_1(step)],
        **{identity: [each for each in made if each.id == identity] for identity in reasons},
        TABLE_4: [four if summary.runs else replace(four, missing=NOTHING_RAN)],
    }
    placed: list[Table] = []
    files: dict[str, str] = {}
    for identity, tables in found.items():
        own = tables or [Table(TITLES[identity], missing=reasons[identity])]
        of_page, of_files = with_files([replace(each, id=identity) for each in own])
        placed += of_page
        files |= of_files
    return placed, files


def with_files(own: Sequence[Table]) -> tuple[list[Table], dict[str, str]]:
    """Return tables of one id as the page shows them, and the contents of the files that hold all of them, by name."""
    identity = own[0].id
    names = {} if own[0].missing else {f"{identity}.{suffix}": style for suffix, style in FILE_STYLES.items()}
    files = {name: "\n\n".join(each.render(style) for each in own) + "\n" for name, style in names.items()}
    placed = []
    for place, each in enumerate(own, 1):
        notes = (f"{each.circumstances}.", *each.notes) if each.circumstances else each.notes
        anchor = identity if place == 1 else f"{identity}-{place}"
        placed.append(replace(each, id=anchor, notes=notes, files=list(names)))
    return placed, files


def _table_1(step: Mapping[str, Any]) -> Table:
    title = "Table 1: FLOPs of one training step"
    if step["problem"]:
        return Table(title, missing=step["problem"])
    conventions = list(step["parts"])
    parts = [part for part in step["parts"][conventions[0]] if part != "generation"]
    rows = [[part.replace("_", " "), *(f"{step['parts'][name][part]:,}" for name in conventions)] for part in parts]
    adapted = f"LoRA rank {step['lora_rank']} on {step['lora_targets']}"
    several = f"; a step of the run has {step['accumulate']} of these" if step["accumulate"] > 1 else ""
    note = (
        f"{step['batch_size']} x {step['context_length']} tokens, model {step['model']}, {adapted}: those of "
        f"{step['run']}, which cost most{several}. Conventions side by side: docs/flops.md."
    )
    return Table(title, ["FLOPs", *conventions], rows, [note], marked={parts.index("step")})


def stage_table(found: Mapping[str, Any]) -> Table:
    """Return the table of a stage's candidates, the best first."""
    headers, rows = candidates(found, ",")
    reasons = [row["why_not"] or "" for row in found["candidates"]]
    if any(reasons):
        headers = [*headers, "why it does not compare"]
        rows = [[*cells, reason] for cells, reason in zip(rows, reasons, strict=True)]
    notes = [f"Value: {found['rule']}."] if found["rule"] else []
    if found.get("trials"):
        notes.append(f"{found['proposed']} of {found['trials']} trials proposed.")
    return Table(
        f"Runs of {found['stage']}, the best first",
        headers,
        rows,
        notes,
        id=f"ranking-{found['stage']}",
        marked={place for place, row in enumerate(found["candidates"]) if row["won"]},
    )


def runs_table(runs: Sequence[RunStatus]) -> Table:
    """Return the table of all runs and their states."""
    headers = [
        "run",
        "stage",
        "state",
        "last end",
        "step",
        "loss",
        "validation",
        "untrained",
        "repeated",
        "attempts",
        "FLOPs",
    ]
    rows = [
        [
            run.name,
            run.stage,
            run.state,
            "" if run.cause in (None, run.state) else run.cause,
            f"{run.step:,} of {run.steps:,}",
            *(_loss(run, name) for name in ("loss", "validation_loss", "untrained_loss")),
            f"{run.replayed_steps:,}",
            f"{run.attempts:,}",
            f"{run.flops:.3e}" if run.flops else "0",
        ]
        for run in runs
    ]
    numeric = any(run.validation_loss_numeric is not None or run.loss_numeric is not None for run in runs)
    notes = ["Repeated: steps that were lost in a failure and executed again.", *([_NUMERIC] if numeric else [])]
    held: dict[str, list[str]] = {}
    for run in runs:
        if run.state == "held":
            held.setdefault(run.reason or run.error, []).append(run.name)
    for reason, names in list(held.items())[:_MOST_REASONS]:
        others = f" and {len(names) - 1:,} more are" if len(names) > 1 else " is"
        notes.append(f"{names[0]}{others} held: {reason}")
    notes += [f"More are held for other reasons; type: {remedies.STATUS}"] if len(held) > _MOST_REASONS else []
    missing = "" if rows else NOTHING_RAN
    return Table("All runs", headers, rows, notes, id="runs", missing=missing, words=4)


def _loss(run: RunStatus, name: str) -> str:
    numeric, plain = getattr(run, f"{name}_numeric"), getattr(run, name)
    if numeric is not None:
        return f"{numeric:.4g} n"
    return "" if plain is None else f"{plain:.4g}"


def efficiency_table(efficiency: Mapping[str, Any], gpu_hours: Mapping[str, float] | None = None) -> Table:
    """Return the table of how the GPUs were used, stage by stage."""
    headers = ["stage", "executions", "hours", "GPU-hours", "GPU-hours used", "goodput", "ETTR"]
    named = [*efficiency["by_stage"].items(), *([("all", efficiency)] if len(efficiency["by_stage"]) > 1 else [])]
    rows = [
        [
            stage,
            f"{share['attempts']:,}",
            *(f"{share[key]:.3g}" for key in ("allocated_hours", "allocated_gpu_hours", "used_gpu_hours")),
            *(percent(share[key]) for key in ("goodput", "ettr")),
        ]
        for stage, share in named
    ]
    notes = [
        "Goodput: useful step time over allocated time.",
        "ETTR: useful step time over all time since submission, queueing included.",
        "An execution that claimed its run twice is counted once.",
    ]
    if gpu_hours:
        spent, reserved, limit = (f"{gpu_hours[key]:.4g}" for key in ("spent", "reserved", "limit"))
        notes.insert(0, f"GPU-hours: {spent} of the limit of {limit} are spent, and {reserved} reserved.")
    if guessed := efficiency["estimated"]:
        notes.append(
            f"{guessed} of {efficiency['attempts']} are estimated: they run, or accounting does not list them."
        )
    missing = "" if efficiency["attempts"] else NOTHING_RAN
    return Table("How the machines were used", headers, rows, notes, id="efficiency", missing=missing,
                 rule=len(rows) - 1 if len(rows) > 1 else None)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """The origin of a run's result by its files; fields are empty if the files have no record.

    `checkpoint` is the source of the final weights, made by the attempt of that `generation`. `versions` maps (package
    or device, version) to how many of the run's attempts had it. `commit` is that of a program's code, in words.
    """

    generation: int = 0
    checkpoint: str = ""
    adapter: str = ""
    versions: Mapping[tuple[str, str], int] | None = None
    commit: str = ""


def read_origin(layout: StudyLayout, run: RunRecord) -> Origin:
    """Read the origin of one run."""
    files = layout.run(run.name)
    versions: Counter[tuple[str, str]] = Counter()
    commit = ""
    for path in sorted(files.journals.glob("*.jsonl")):
        entries = first_lines(path)
        ran_with: dict[str, str] = {}
        for entry in entries:
            if entry.kind in ("start", KIND):
                paths = {"PYTHONPATH": entry.fields["python_path"]} if entry.fields.get("python_path") else {}
                ran_with |= {**(entry.fields.get("versions") or {}), **paths}
        versions.update((str(name), str(found)) for name, found in ran_with.items())
        commit = commit_words(record_of(entries) or {}) or commit
    adapter = ""
    if task_of(run.config).is_evaluation and (scores := read_scores(files)):
        adapter = str(scores.get("adapter_sha256") or "")
    try:
        done = Done.from_json(files.done.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return Origin(adapter=adapter, versions=versions, commit=commit)
    return Origin(done.generation, done.checkpoint, adapter, versions, commit)


def results(runs: Sequence[RunRecord], origins: Mapping[str, Origin], spans: Spans) -> Table:
    """Return a table of finished runs and the origin of each result."""
    ran = {(span["run"], span["generation"]): span for span in spans}
    rows = []
    for run in runs:
        origin = origins[run.name]
        if not origin.generation:
            continue
        span = ran.get((run.name, origin.generation))
        params = run.config["params"]
        data = params.get("training", params).get("data_sha256") or ""
        rows.append(
            [
                run.name,
                f"{origin.generation}",
                origin.checkpoint,
                f"{span['job']} on {span['host']}" if span else "",
                str(run.config.get("seed", "")),
                run.fingerprint[:_SHORT],
                run.code[:_SHORT] + (f", commit {origin.commit}" if origin.commit else ""),
                data[:_SHORT],
                origin.adapter[:_SHORT],
            ]
        )
    headers = ["run", "attempt", "checkpoint", "job", "seed", "configuration", "code", "data", "adapter scored"]
    notes = [
        "Attempt: the generation whose journal ends the run. Checkpoint: generation and step of its last weights.",
        (
            "The others are the first digits of a SHA-256: of the configuration (run.json has it all), of the code "
            "that "
            "was submitted (.lvjobs/code), of the data file, and of the adapter that an evaluation read."
        ),
    ]
    missing = "" if rows else f"no run is completed yet; type: {remedies.STATUS}"
    return Table("Where each result came from", headers, rows, notes, id="results", missing=missing, words=4)


def machines(origins: Mapping[str, Origin], spans: Spans) -> Table:
    """Return a table of hosts, and of versions in the attempts' journals."""
    versions: Counter[tuple[str, str]] = Counter()
    for origin in origins.values():
        versions.update(origin.versions or {})
    rows = [[name, found, f"{count:,}"] for (name, found), count in sorted(versions.items())]
    hosts = Counter(span["host"] for span in spans if span["host"])
    rows += [["host", host, f"{count:,}"] for host, count in sorted(hosts.items())]
    missing = "" if rows else "no attempt has started, so no journal lists its software"
    notes = ["Two versions of one package, or two devices, compute differently: runs may then differ in the last bits."]
    return Table("Packages, devices and hosts", ["", "version or name", "attempts"], rows, notes,
                 id="machines", missing=missing, words=2)  # fmt: skip
