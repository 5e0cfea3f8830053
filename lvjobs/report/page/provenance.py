"""The origin of each result: configuration, code, data, seed, attempt and checkpoint; and the machines."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lvjobs import remedies
from lvjobs.ledger.records import RunRecord
from lvjobs.records.journal import parse_line
from lvjobs.records.run_files import Done
from lvjobs.report.evaluated import read_scores
from lvjobs.report.figures.attempts import Spans
from lvjobs.report.table import Table
from lvjobs.study.layout import StudyLayout
from lvjobs.tasks.registry import task_of

_SHORT = 8
"""The digits of a hash that are shown: enough to tell it from others."""


@dataclass(frozen=True)
class Origin:
    """The origin of a run's result by its files; fields are empty if the files have no record.

    `checkpoint` is the source of the final weights, made by the attempt of that `generation`. `versions` maps (package
    or device, version) to how many of the run's attempts had it.
    """

    generation: int = 0
    checkpoint: str = ""
    adapter: str = ""
    versions: Mapping[tuple[str, str], int] | None = None


def read_origin(layout: StudyLayout, run: RunRecord) -> Origin:
    """Read the origin of one run."""
    files = layout.run(run.name)
    versions: Counter[tuple[str, str]] = Counter()
    for path in sorted(files.journals.glob("*.jsonl")):
        with path.open(encoding="utf-8", errors="replace") as journal:
            entry = parse_line(journal.readline())
        if entry is not None and entry.kind == "start":
            versions.update({(str(name), str(found)) for name, found in (entry.fields.get("versions") or {}).items()})
            if entry.fields.get("python_path"):
                versions["PYTHONPATH", str(entry.fields["python_path"])] += 1
    adapter = ""
    if task_of(run.config).is_evaluation and (scores := read_scores(files)):
        adapter = str(scores.get("adapter_sha256") or "")
    try:
        done = Done.from_json(files.done.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return Origin(adapter=adapter, versions=versions)
    return Origin(done.generation, done.checkpoint, adapter, versions)


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
                run.code[:_SHORT],
                data[:_SHORT],
                origin.adapter[:_SHORT],
            ]
        )
    headers = ["run", "attempt", "checkpoint", "job", "seed", "configuration", "code", "data", "adapter scored"]
    notes = [
        "Attempt: the generation whose journal ends the run. Checkpoint: generation and step of its last weights.",
        (
            "The rest are the first digits of SHA-256: of the configuration (run.json has it all), of the code that "
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
    missing = "" if rows else "no attempt has begun, so no journal says what it ran with"
    notes = [
        "Two versions of one package, or two devices, are another arithmetic: runs may then differ in the last bits."
    ]
    return Table("Packages, devices and hosts", ["", "version or name", "attempts"], rows, notes,
                 id="machines", missing=missing, words=2)  # fmt: skip
