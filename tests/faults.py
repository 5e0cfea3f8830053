"""The table of faults: a test that provokes one says so with the fixture `fault`, and what came of it is counted here.

What is counted comes from the files a study leaves and from the jobs its cluster knows, read with nothing of lvjobs but
the names of files: what is lost, double or not accounted for fails the test. A whole run of the suite with
`--storm --faults docs/faults.md` writes the table; `FAULTS` is all that it must meet.
"""

import json
import sqlite3
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from lvjobs.study.layout import RunLayout

FAULTS: Mapping[str, Mapping[str, str]] = {
    "The job": {
        "preempted": "preempted: SIGTERM to the job's steps, then Slurm's requeue",
        "preempted_signal": "preempted: the job's own signal (`send_user_signal`)",
        "preempted_no_grace": "preempted with no grace",
        "preempted_qos": "preempted by QOS",
        "preempted_cancel": "preempted on a site that cancels (`PreemptMode=CANCEL`)",
        "preempted_writing": "asked to leave at each sync of a checkpoint's writing",
        "preempted_loading": "preempted while the model loads",
        "preempted_often": "preempted five times, twice within a minute and more",
        "preempted_long_step": "killed at the end of its grace, in the midst of a long step",
        "time_limit": "time limit, again and again",
        "killed_writing": "SIGKILL at every sync of a checkpoint's writing and of finishing",
        "killed_anywhere": "SIGKILL at random instants",
        "killed": "SIGKILL, three times, each after a new checkpoint",
        "no_progress": "SIGKILL, three times, with no new checkpoint",
        "out_of_memory": "more memory than asked for, ended by Slurm (`OverMemoryKill`)",
        "code_error": "an error in the training code",
        "hung": "shows no life for longer than a bound",
        "node_fail": "node failure, and its orphan lives on",
        "launch_failed": "launch failed, requeued, held",
        "device_error": "a broken device on one node, again and again",
        "suspended": "suspended or stopped by the site, for longer than a run may be silent",
        "pack": "a job that runs share is preempted, and one of them killed",
        "storm": "all of these at random, every ten seconds on average, until the study ends, or two minutes are over and three have happened, with nobody there",
    },
    "The scheduler": {
        "reply_lost": "sbatch's answer lost (slurmctld frozen)",
        "controller_dead": "slurmctld dead at a submission",
        "controller_restarted": "slurmctld killed and started again while a run trains",
        "state_lost": "slurmctld loses its state, and begins again with job 1",
        "silent": "the scheduler says nothing, for as long as it likes",
        "accounting_dead": "slurmdbd dead",
        "accounting_off": "accounting disabled",
        "accounting_late": "sacct late, and later still says RUNNING",
        "job_id_reused": "a job id that was used before",
        "no_requeue_site": "a site that requeues nothing (`JobRequeue=0`)",
        "no_requeue_job": "a job submitted with `--no-requeue`",
        "submit_limit": "four jobs may be queued, and 27 are wanted",
        "drained": "partition down",
        "account_expired": "account taken away while runs wait",
        "reservation": "a maintenance reservation on every node",
        "forgetful": "slurmctld forgets a job as soon as it ended (`MinJobAge` 2, no accounting)",
        "phantom": "a finished job that Slurm runs again",
        "late_job": "a job that turns up after its run went on elsewhere",
        "refused": "refused by the site",
        "absent": "commands on a host without Slurm's programs",
        "unknown_state": "a job in a state that lvjobs does not know (`RESV_DEL_HOLD`)",
    },
    "The disk": {
        "full_checkpoint": "full at a checkpoint",
        "full_journal": "full at a journal line",
        "full_ledger": "full at the ledger, before, in and after its journal",
        "read_only": "became read-only",
        "torn_line": "the journal's last line is torn",
        "bytes_flipped": "a checkpoint's bytes flipped, cut off or gone, anywhere",
        "checkpoint_gone": "a checkpoint deleted",
        "network_files": "a network file system whose clients remember names for 20 s (sshfs): a node fails, and its orphan trains on",
        "ledger_gone": "`runs.db` deleted while runs train and an answer is missing",
        "ledger_copied": "`runs.db` copied while it is written",
        "old_schema": "an older release's `runs.db`, each that was released",
    },
    "The study": {
        "copied": "copied (`cp -r`) while its runs train, with commands in both",
        "moved": "moved (`mv`) while its jobs wait or train",
        "original_deleted": "copied, and the original deleted while its job waits",
        "profile_gone": "the file of a run's profile deleted",
    },
    "The program": {
        "program_preempted": "a program that knows nothing of lvjobs is preempted; Slurm's SIGTERM ends it",
        "program_time_limit": "time limit, again and again; the program is deaf to signals",
        "program_both": "each of eight programs is preempted, and meets its time limit at the next attempt",
        "program_node_lost": "its node fails, and the program runs on there",
        "program_killed": "a program in C is preempted, and its worker is killed",
        "program_in_container": "a program in a container (charliecloud) is preempted, and its worker is killed",
        "program_in_containers": "one of four ranks, each in a container (charliecloud) on one of two nodes, is killed",
    },
    "The command": {
        "killed_submitting": "`submit` killed between any two durable writes",
        "killed_passing": "a pass killed between any two durable writes",
        "killed_cancelling": "`cancel` killed between any two durable writes",
        "killed_sweeping": "`sweep` killed between any two durable writes",
        "killed_driving": "the driver killed between any two durable writes",
        "killed_at_sbatch": "killed before or after sbatch did its work",
        "at_once": "ten commands at once",
        "lease_elsewhere": "the lease's holder died on another host",
        "lease_slept": "a pass that slept through its lease",
        "clock": "this host's clock an hour off, before or behind",
        "interrupted": "Ctrl-C at any moment",
        "gone": "the terminal goes away (SIGHUP)",
    },
    "The code": {
        "edited": "edited between submit and start, and between requeues",
        "versions": "another version of a package at the next attempt",
        "device_changed": "another GPU type at the next attempt",
    },
}
"""Group by group, and in each in order: a key that tests use, and the fault in words."""

WORDS = {key: words for group in FAULTS.values() for key, words in group.items()}
OPEN = ("planned", "submitting", "queued", "running", "interrupted")


@dataclass(frozen=True)
class Tally:
    """The cost of a fault. None where the test has nothing that could tell: a worker alone has no ledger, and no jobs.

    `redone`: steps executed again. `lost`: runs that neither go on nor ended nor say why not. `double`: jobs for one
    submission beyond the first, and jobs that nobody's ledger knows. `unaccounted`: FLOPs executed and not charged.
    """

    redone: int | None = None
    lost: int | None = None
    double: int | None = None
    unaccounted: int | None = None


@dataclass(frozen=True)
class Row:
    """One telling of one test."""

    key: str
    backend: str
    times: int
    saw: str
    same_bits: bool | None
    tally: Tally


def tally(root: Path, jobs: Iterable[tuple[str, str]]) -> Tally:
    """Return the tally of a study's files; `jobs` are the cluster's, each with the token in its name."""
    with closing(sqlite3.connect(root / "runs.db")) as database:
        database.row_factory = sqlite3.Row
        rows = {
            name: [dict(row) for row in database.execute(f"SELECT * FROM {name}")]
            for name in ("runs", "charges", "submissions")
        }
    charged: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows["charges"]:
        charged[row["run_id"]][row["kind"]] += row["units"] - row["estimated"]
    unaccounted = 0
    for run in rows["runs"]:
        mine, ran = charged[run["id"]], executed(root / "checkpoints" / run["name"])
        rates = json.loads(run["rates"]).get("official", {})
        training = len(ran["step"]) - mine["useful"] - mine["replayed"]
        unaccounted += abs(training) * rates.get("training", 1)
        for kind in ("validation", "generation"):
            unaccounted += abs(sum(ran[kind]) - mine[kind]) * rates.get(kind, 1)
    known = {row["token"] for row in rows["submissions"]}
    by_token: dict[str, set[str]] = defaultdict(set)
    for job_id, token in jobs:
        by_token[token].add(job_id)
    return Tally(
        redone=sum(charges["replayed"] for charges in charged.values()),
        lost=sum(run["state"] in OPEN for run in rows["runs"]),
        double=sum(len(ids) - 1 if token in known else len(ids) for token, ids in by_token.items()),
        unaccounted=unaccounted,
    )


def executed(run: Path) -> dict[str, list[int]]:
    """Return the work in a run's journals: steps, windows of each validation, series of each forecast."""
    found: dict[str, list[int]] = {"step": [], "validation": [], "generation": []}
    amount = {"step": "step", "validation": "windows", "generation": "series"}
    for path in sorted(RunLayout(run).journals.glob("*.jsonl")):
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                continue
            try:
                entry = json.loads(line)
            except ValueError:  # torn, and a later line follows it
                continue
            if entry["kind"] in found:
                several = entry.get("steps", 1) if entry["kind"] == "step" else 1  # a program reports many at once
                found[entry["kind"]] += several * [entry.get(amount[entry["kind"]], entry.get("batches", 0))]
    return found


def seen(root: Path) -> str:
    """Return a user's view of the runs: how they stand, after which deaths, and why."""
    with closing(sqlite3.connect(root / "runs.db")) as database:
        runs = database.execute("SELECT id, state, reason FROM runs").fetchall()
        causes = database.execute("SELECT cause FROM attempts WHERE cause IS NOT NULL ORDER BY id").fetchall()
    states = Counter(state for _, state, _ in runs)
    deaths = Counter(cause for (cause,) in causes if cause not in ("completed", "cancelled"))
    text = ", ".join(f"{state}" + (f" ({count} runs)" if count > 1 else "") for state, count in states.items())
    if deaths:
        text += " after " + ", ".join(
            cause + (f" ({count} times)" if count > 1 else "") for cause, count in deaths.items()
        )
    reasons = sorted({reason for _, state, reason in runs if state == "held"})
    return text + "".join(f": {reason}" for reason in reasons)


class Faults:
    """The fixture: `fault(key, subject)` counts what became of `subject` and notes it for the table.

    `subject` is whatever has `tally()`, and `backend`, and `root`; or the directory of a run that a worker trained with
    nothing around it; or None, where no run is concerned.
    """

    def __init__(self, properties: list[tuple[str, object]]):
        self._properties = properties

    def __call__(
        self, key: str, subject: Any, *, saw: str = "", times: int = 1, same_bits: bool | None = None, backend: str = ""
    ) -> None:
        assert key in WORDS, f"tests/faults.py has no fault {key!r}"
        assert same_bits in (True, None), f"{key}: other weights than those of an undisturbed run"
        if subject is None:
            found, where, text = Tally(), backend or "files", saw
        elif isinstance(subject, Path):
            steps = executed(subject)["step"]
            found, where, text = Tally(redone=len(steps) - len(set(steps))), backend or "a worker alone", saw
        else:
            found, where, text = subject.tally(), backend or subject.backend, saw or seen(Path(subject.root))
        for name in ("lost", "double", "unaccounted"):
            assert not getattr(found, name), f"{key}: {name}: {found}"
        row = Row(key, where, times, text, same_bits, found)
        self._properties.append(("fault", json.dumps(asdict(row))))


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Faults:
    """Tells the table of a fault that the test provoked."""
    return Faults(request.node.user_properties)


# -- gathered over a whole run --------------------------------------------------------------------------------------


class Gathered:
    """A plugin of the process that pytest was started as: takes the rows of every test that passed, and writes the page."""

    def __init__(self, path: Path):
        self.path, self.rows = path, list[Row]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One test's call ended."""
        if report.when == "call" and report.passed:
            self.rows += [parse_row(str(value)) for name, value in report.user_properties if name == "fault"]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Write it, and say what it lacks."""
        self.path.write_text(page(self.rows, _version()), encoding="utf-8")
        terminalreporter.write_line(f"{self.path}: {len({row.key for row in self.rows})} of {len(WORDS)} faults")
        if missing := [key for key in WORDS if key not in {row.key for row in self.rows}]:
            terminalreporter.write_line(f"not met in this run: {', '.join(missing)}", red=True)


def _version() -> str:
    """Return the version of Slurm."""
    try:
        done = subprocess.run(["slurmd", "-V"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        return "There was no Slurm."
    return f"Slurm is {done.stdout.split()[-1]}, on one machine (`lvjobs lab`)."


# -- the page -------------------------------------------------------------------------------------------------------


def parse_row(text: str) -> Row:
    """A row as the fixture noted it."""
    fields = json.loads(text)
    return Row(**{**fields, "tally": Tally(**fields["tally"])})


def page(rows: Sequence[Row], version: str) -> str:
    """docs/faults.md: one line for each fault and each backend on which it was met."""
    lines = [_HEAD.format(version=version)]
    for group, faults in FAULTS.items():
        lines += [f"## {group}\n", _COLUMNS, "|---|---|--:|---|--:|--:|--:|--:|---|"]
        for key, words in faults.items():
            met: dict[str, list[Row]] = defaultdict(list)
            for row in rows:
                if row.key == key:
                    met[row.backend].append(row)
            for number, (backend, mine) in enumerate(sorted(met.items())):
                lines.append(_line("" if number else words, backend, mine))
        lines.append("")
    return "\n".join([*lines, _FOOT])


_COLUMNS = "| fault | met on | times | what the user sees | redone | lost | double | unaccounted | bits |"
_HEAD = """\
# Faults, and what comes of them

Written by the test suite (`scripts/test --storm --faults=docs/faults.md`): each line was counted in the tests that provoke the
fault, from journals, ledger and the cluster's own list of jobs. {version}

*redone*: steps that were executed again, the most in one test. *lost*: runs that neither go on nor ended nor say why.
*double*: jobs beyond one for each submission. *unaccounted*: FLOPs that were executed and are not charged. *bits*: the
weights are, bit for bit, those of a run that was left alone. A dot: nothing in that test could tell (a worker alone has
no ledger and no cluster; a run that is held has no final weights).
"""

_FOOT = """\
## What could not be provoked here

- **NFS and Lustre.** The network file system of the tests is sshfs over the loopback, with names, missing names and
  attributes cached for 20 s. Nothing rests on locks, nor on one host's seeing at once that a name is *not* there: claims
  and leases are won by `link` and `O_EXCL`, checkpoints are published by `rename` under names that hold generation and
  step. Workers never open `runs.db`. What remains is an orphan on another host that publishes within the instant between
  its look and its rename: under its own generation's name, which is never the newest.
- **GPUs.** That a device is to blame is told from the words of CUDA, its driver and NVML alone (tables of real messages),
  and another type of GPU from the files of NVIDIA's driver. That a resumed run is the same bit for bit was seen on CPUs.
- **Several hosts.** The lab's nodes are processes of one machine. A holder of the lease on another host is a claim that
  carries another host's name; another host's clock is this one's, set.
- **A quota** is the same error to a process as a full disk, under another number; only the full disk was mounted.
- **Months.** Accounting that is days behind is simulated, with minutes.
"""


def _line(words: str, backend: str, rows: Sequence[Row]) -> str:
    def most(name: str) -> str:
        values = [value for row in rows if (value := getattr(row.tally, name)) is not None]
        return str(max(values)) if values else "·"

    saw = next((row.saw for row in rows if row.saw), "·").replace("|", "\\|").replace("\n", " ")
    bits = "same" if any(row.same_bits for row in rows) else "·"
    numbers = " | ".join(most(name) for name in ("redone", "lost", "double", "unaccounted"))
    return f"| {words} | {backend} | {sum(row.times for row in rows)} | {saw} | {numbers} | {bits} |"
