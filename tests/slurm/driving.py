"""Drives a study as a user would: the command line, in processes of its own, against whatever SLURM_CONF names."""

import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import faults
from click.testing import CliRunner

from lvjobs.api.updates import READ_WAIT_SECONDS
from lvjobs.cli import cli
from lvjobs.control.reconcile.observe import read_claims
from lvjobs.control.summary_file import read_summary
from lvjobs.lab import LabError
from lvjobs.study.layout import RunLayout

STUDY_TOML = """\
profile = "{profile}"
local_slots = 2

[resources]
{resources}

[train]
steps = 1000
checkpoint_every = 250
{train}
[driver]
job = {driver}

[policy]
backoff_seconds = 1
unclear_seconds = 3
lost_seconds = 5
"""

TOY = """\
task = "toy_task:priced"
seconds = 0.005
width = 4
learning_rate = 1e-2
"""

FORECASTING = """\
data = {data}
context_length = 64
batch_size = 1
lora_rank = 4
lora_dropout = 0.05
learning_rate = 1e-3
schedule = "cosine"
validation_limit = 2
"""


SHORT = ("--steps", "240", "--checkpoint-every", "60")
"""The length of a bundled training that is compared bit for bit: each of its steps is dear."""

TESTS = Path(__file__).parent.parent

BUSY = ("is updating this study", "took over this study")
"""What a command says that has waited for another one, or slept, on a machine that stalls: to be typed again."""


def until(condition, seconds=300):
    """Wait for the condition, and return what it came to."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return value


@contextmanager
def closed_partition(lab):
    """Inside, the partition takes jobs and starts none."""
    lab.run("scontrol", "update", "partitionname=low", "state=down")
    try:
        yield
    finally:
        lab.run("scontrol", "update", "partitionname=low", "state=up")


def wait_until_saved(lab, job_id):
    """Wait until the controller has saved this job: what it has not, it forgets when it is killed.

    It saves, every few seconds, where something has changed: the job's comment, by which its file is known.
    """
    mark = f"saved-{secrets.token_hex(6)}"
    lab.run("scontrol", "update", f"jobid={job_id}", f"comment={mark}")

    def is_saved():
        with suppress(FileNotFoundError):  # while Slurm puts a new file in its place
            return mark.encode() in (lab.layout.state / "job_state").read_bytes()
        return False

    until(is_saved)


LIMITS = ("scontrol", "show", "assoc_mgr", "qos=normal", "flags=qos")


def limit_jobs(lab, most):
    """Let a user have so many jobs in the queue; wait until that is in force and Slurm counts none of the jobs before.

    Once that did not come about in five minutes, with an empty queue. slurmctld asks and counts anew when it starts.
    """
    lab.run("sbatch", "-o", "/dev/null", "--wrap=true")  # until a user had a job, Slurm shows no limits of users
    lab.run("sacctmgr", "-i", "-Q", "modify", "qos", "normal", "set", f"MaxSubmitJobsPerUser={most}")
    begun, told, has_restarted = time.monotonic(), "", False
    while f"MaxSubmitJobsPU={most}(0)" not in (told := lab.run(*LIMITS)):
        if not has_restarted and time.monotonic() > begun + 120:
            lab.kill_controller()
            lab.start_controller()
            with suppress(LabError):  # refused: a job is counted still, so that limits are shown
                lab.run("sbatch", "-o", "/dev/null", "--wrap=true")
            has_restarted = True
        assert time.monotonic() < begun + 420, told
        time.sleep(0.1)


def was_kept_waiting(code, said, begun):
    """Return whether a command that was begun then is to be typed again, for it waited for another one, or slept."""
    return code == 1 and (BUSY[1] in said or (BUSY[0] in said and time.monotonic() - begun > READ_WAIT_SECONDS))


def kill_worker(claim):
    """SIGKILL to the process that made the claim."""
    os.kill(claim["pid"], signal.SIGKILL)


class Study:
    """One study directory and the commands typed in it.

    It trains `toy_task`, or where there is `data` (an HDF5 file of series) the bundled forecasting, which loads torch.
    """

    python = sys.executable
    """Runs the commands that are typed."""

    def __init__(
        self, root: Path, data: Path | None = None, *, profile="lab", resources="", environment=None, driver=False
    ):
        self.root = root
        self.submits = "run" if data is None else "train"
        self.backend = {"lab": "Slurm", "local": "embedded"}[profile]
        self.environment = environment or {}
        root.mkdir(parents=True, exist_ok=True)
        train = TOY if data is None else FORECASTING.format(data=json.dumps(str(data)))
        text = STUDY_TOML.format(profile=profile, resources=resources, train=train, driver=json.dumps(driver))
        (root / "study.toml").write_text(text)
        if data is None:
            shutil.copy(TESTS / "unit" / "toy_task.py", root)

    def start(self, *arguments, **kwargs):
        """Begin a command; its output goes to pipes unless `kwargs` of `Popen` say otherwise."""
        process = subprocess.Popen(
            [self.python, "-m", "lvjobs", *arguments],
            cwd=self.root,
            env={**os.environ, **self.environment},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs},
        )
        process.begun = time.monotonic()
        return process

    def type(self, *arguments, code=0, timeout=600):
        """A command, ended; its output and errors together."""
        out, err, ended = self.outcome(self.start(*arguments), *arguments, timeout=timeout)
        assert ended == code, f"lvjobs {' '.join(arguments)} -> {ended}\n{out}{err}"
        return out + err

    def outcome(self, process, *arguments, timeout=600):
        """Output, errors and exit code of a command that was begun with these arguments."""
        out, err = process.communicate(timeout=timeout)
        if was_kept_waiting(process.returncode, err, process.begun):
            return self.outcome(self.start(*arguments), *arguments, timeout=timeout)
        return out, err, process.returncode

    def submit(self, name, *arguments):
        return self.type("submit", self.submits, "--name", name, *arguments)

    def run(self, name):
        """The run's row after a pass."""
        return self.runs()[name]

    def runs(self):
        """The rows after a pass: in this process, as tests make many, save where commands are to find other programs."""
        words = ("resume", "--json")
        if self.environment:
            output, err, code = self.outcome(self.start(*words), *words)
            assert code == 0, output + err
        else:
            begun = time.monotonic()
            ran = CliRunner().invoke(cli, [*words, "--study", str(self.root)], catch_exceptions=False)
            if was_kept_waiting(ran.exit_code, ran.output, begun):
                return self.runs()
            assert ran.exit_code == 0, ran.output
            output = ran.stdout
        return {run["name"]: run for run in json.loads(output)["runs"]}

    def until(self, name, *states, timeout=600):
        """Pass after pass until the run is in one of `states`; returns its row."""
        deadline = time.monotonic() + timeout
        while True:
            run = self.run(name)
            if run["state"] in states:
                return run
            assert time.monotonic() < deadline, f"not {states} after {timeout} s: {run}\n{self.story(name)}"
            time.sleep(1)

    def keep_requeueable(self, directory: Path):
        """From now on workers cannot forbid Slurm to run a finished job again: their `scontrol` does not do that."""
        directory.mkdir()
        script = directory / "scontrol"
        script.write_text(
            f'#!/bin/sh\ncase "$*" in *requeue=0*) exit 0 ;; esac\nexec "{shutil.which("scontrol")}" "$@"\n'
        )
        script.chmod(0o755)
        self.prepend_path(directory)

    def mute_scontrol(self, directory: Path):
        """Make `scontrol` fail in jobs from now on, so that no worker can ask Slurm why it was signalled."""
        directory.mkdir()
        script = directory / "scontrol"
        script.write_text(
            '#!/bin/sh\ncase "$PYTHONPATH" in */.lvjobs/code/*) echo "Unable to contact slurm controller" >&2; exit 1 ;; esac\n'
            f'exec "{shutil.which("scontrol")}" "$@"\n'
        )
        script.chmod(0o755)
        self.prepend_path(directory)

    def prepend_path(self, directory: Path):
        """Its commands, and their jobs, find programs there first."""
        self.environment["PATH"] = f"{directory}:{self.environment.get('PATH') or os.environ['PATH']}"

    def summary(self):
        """Return the last pass's summary, whoever made it."""
        return read_summary(self.root / ".lvjobs" / "summary.json")

    def stands(self):
        """Each stage's state, by the last pass."""
        return {stage["name"]: stage["state"] for stage in self.summary()["stages"]}

    # -- what the worker left -------------------------------------------------------------------------------------

    def files(self, name):
        return self.root / "checkpoints" / name

    def journal(self, name, generation=None):
        """All complete lines of all the run's journals, or of one generation's, in order of generation."""
        lines = []
        which = "*" if generation is None else f"{generation:06d}"
        for path in sorted(RunLayout(self.files(name)).journals.glob(f"{which}.jsonl")):
            whole = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            lines += [line for line in whole if line["kind"] != "claim"]
        return lines

    def executed(self, name, generation=None):
        return [line["step"] for line in self.journal(name, generation) if line["kind"] == "step"]

    def claims(self, name):
        return [asdict(claim) for claim in read_claims(RunLayout(self.files(name)), known=frozenset())]

    def reach(self, name, step, *, generation=None, timeout=420):
        """Wait until the run has executed `step`; with `generation`, until that one or a later one has, itself."""
        deadline = time.monotonic() + timeout
        while True:
            claims = self.claims(name)
            executed = self.executed(name, None if generation is None else len(claims))
            if len(claims) >= (generation or 1) and max(executed, default=0) >= step:
                return claims[-1]
            assert time.monotonic() < deadline, f"step {step} not reached\n{self.story(name)}"
            time.sleep(0.2)

    # -- gates: a run stands still until the test has done what it has to do meanwhile --------------------------------

    def gate(self, name, *steps, generation=1):
        """Let the run wait within each of these steps of its `generation`, before it journals the step.

        It waits until the gates are opened, or it is killed or asked to leave. Close the gates before the run can be
        there. `name` may be "any": each run of the study.
        """
        directory = self.root / "gates" / name
        directory.mkdir(parents=True, exist_ok=True)
        for step in steps:
            (directory / f"{generation}-{step}").touch()
        if self.submits == "train":
            self.let_training_wait()

    def let_training_wait(self):
        """From now on workers find tests/slurm/gated behind the code that was submitted."""
        directory = self.root / "gates" / "bin"
        if directory.exists():
            return
        directory.mkdir()
        script = directory / "srun"
        path = f"$PYTHONPATH:{TESTS / 'slurm' / 'gated'}"
        script.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{shutil.which("srun")}" "$@"\n')
        script.chmod(0o755)
        self.prepend_path(directory)

    def halt(self, name, step, *, generation=1, timeout=420):
        """Wait until the run waits at that gate; return its claim."""
        deadline = time.monotonic() + timeout
        while not self.is_at_gate(name, step, generation=generation):
            assert time.monotonic() < deadline, f"step {step} not reached\n{self.story(name)}"
            time.sleep(0.05)
        return self.claims(name)[generation - 1]

    def is_at_gate(self, name, step, *, generation=1):
        """Return whether the run has come to that gate."""
        return (self.root / "gates" / name / f"{generation}-{step}.reached").exists()

    def open_gates(self, name, *steps, generation=1):
        """Let the run go on at these steps; none named: at all of its gates."""
        directory = self.root / "gates" / name
        names = [f"{generation}-{step}" for step in steps] or [path.stem for path in directory.iterdir()]
        for each in names:
            (directory / each).unlink(missing_ok=True)

    @property
    def program_gates(self):
        """The directory of the gates of a program of tests/programs, for its option."""
        return self.root / "gates" / "program"

    def gate_program(self, *steps):
        """Let the program wait after each of these steps, which it has printed, until `open_program` or its end."""
        self.program_gates.mkdir(parents=True, exist_ok=True)
        for step in steps:
            (self.program_gates / str(step)).touch()

    def open_program(self, step):
        """Let the program go on after this step. It removes the gate: a later attempt does not wait there."""
        (self.program_gates / str(step)).unlink()

    @contextmanager
    def held_up(self, name, step):
        """Inside, the run waits at that gate (of its first generation); at the end the gate is opened."""
        try:
            yield self.halt(name, step)
        finally:
            self.open_gates(name, step)

    def weights(self, name):
        """SHA-256 of the final weights."""
        (path,) = (path for path in (self.files(name) / "final").glob("*/*") if path.suffix in {".npy", ".safetensors"})
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def tally(self):
        """Return the cost of a fault to this study, for the table of faults."""
        self.type("ledger", "check")
        return faults.tally(self.root, self.known_jobs() if self.backend == "Slurm" else ())

    def known_jobs(self):
        """The jobs of this study's runs that Slurm knows of, each with the token in its name."""
        listings = [["squeue", "-h", "-a", "-t", "all", "-o", "%F %j"]]
        if shutil.which("sacct"):
            listings.append(
                ["sacct", "-a", "-X", "-n", "-P", "-S", "now-1hour", "-o", "JobID,JobName", "--delimiter= "]
            )
        for command in listings:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            for line in done.stdout.splitlines():  # sacct has none where accounting is off
                job_id, _, name = line.partition(" ")
                run, _, token = name.rpartition(".")
                if run != "driver" and token and (self.root / ".lvjobs" / "submissions" / token).exists():
                    yield job_id.partition("_")[0], token

    def story(self, name):
        """All there is to see of a run that did not do what a test expected."""
        lines = [line for line in self.journal(name) if line["kind"] != "step"]
        logs = [f"{path.name}: {path.read_text()[-1500:]}" for path in self.root.glob("logs/*/*.out")]
        told = self.start("status", name, "--no-pass").communicate(timeout=60)
        return "\n".join([*told, *map(json.dumps, lines), *logs])
