"""Foreign text: no secret of the environment, and nothing that a terminal obeys, gets from it into what lvjobs keeps.

`PLACES` has each module where such text enters; each is driven with a token and an escape sequence in the text.
"""

import ast
import email.message
import io
import json
import os
import subprocess
import sys
import time
import urllib.error
from dataclasses import replace
from pathlib import Path

import pytest
from control_scenes import Scene, begun, make_haste
from rich.console import Console
from stage_scenes import FIRST, Sweep

import lvjobs
from lvjobs.cluster import inside, local
from lvjobs.cluster.profiles import load_profile
from lvjobs.cluster.protocol import ClusterError
from lvjobs.cluster.slurm import SlurmCluster
from lvjobs.control.inspect.why import why
from lvjobs.control.submission import declare
from lvjobs.doctor import errand
from lvjobs.errors import UsageError
from lvjobs.foreign import cleaned, hide, secrets_in
from lvjobs.records.journal import Entry
from lvjobs.records.node import NodeReport
from lvjobs.records.run_files import Claim, Done
from lvjobs.rehearsal.differences import RunResult, differences
from lvjobs.rehearsal.escapes import EscapeWatch
from lvjobs.report.terminal.run_lines import print_why
from lvjobs.study.layout import RunLayout
from lvjobs.study.notify import Notify
from lvjobs.study.program.container import ContainerConfig
from lvjobs.study.run import RunConfig
from lvjobs.tasks import registry
from lvjobs.tasks.packages import Unlisted, list_packages
from lvjobs.tasks.working_copy import find_files
from lvjobs.worker import container_probe, follower, node_probe, runner
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.program.process import Program, Start

TOKEN = "hf_0123456789abcdef"
ESCAPE = "\x1b[2J\x1b]0;owned\x07"
TEXT = f"401 for https://user:{TOKEN}@hub/model {ESCAPE}"


class World:
    """A study, and all that may come out of it: what is posted to a webhook, and what is printed."""

    def __init__(self, root, patch, typed, capsys):
        self.root, self.patch, self.typed, self.capsys = root, patch, typed, capsys
        self.posted, self.printed = [], []
        self.answer = None

    def post(self, request, timeout):
        self.posted.append(request.data.decode())
        if self.answer is not None:
            raise self.answer
        return io.BytesIO()

    def scene(self, kind=Scene, *arguments):
        made = kind(self.root / "study", *arguments)
        config = made.study.config.model_copy(update={"notify": Notify(webhook="https://chat.example/hook")})
        made.study = replace(made.study, config=config)
        return made

    def show(self, scene):
        """Print a pass, `status` and `why`."""
        with scene.session() as session:
            summary = session.make_pass()
            self.printed += [*summary["did"], *summary["problems"]]
            for row in summary["runs"]:
                stream = io.StringIO()
                answer = {"run": row, **why(session, row).to_dict()}
                print_why(answer, Console(file=stream, width=200, force_terminal=True, color_system=None))
                self.printed.append(stream.getvalue())
        for words in (["status"], *(["status", row["name"]] for row in summary["runs"])):
            code, out, err = self.typed(*words, "--no-pass", "--study", scene.root)
            assert code == 0, err
            self.printed += [out, err]

    def script(self, name, text):
        """A program of this name comes first on the path: it prints `text` on stderr, and fails."""
        (self.root / "bin").mkdir(exist_ok=True)
        (self.root / "bin" / "text").write_text(text)
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\ncat '{self.root}/bin/text' >&2\nexit 1\n")
        path.chmod(0o700)
        self.patch.setenv("PATH", f"{self.root / 'bin'}:{os.environ['PATH']}")


@pytest.fixture
def world(tmp_path, monkeypatch, typed, capsys):
    make_haste(monkeypatch)
    (tmp_path / "study").mkdir()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    made = World(tmp_path, monkeypatch, typed, capsys)
    monkeypatch.setattr("urllib.request.urlopen", made.post)
    return made


# -- the places: each drives its module, and returns the scene whose study is then shown, if there is one -----------------


def first_step(world):
    """A task that fails in its first step, tried when a stage begins in a pass: nobody is there."""
    (world.root / "broken.py").write_text(f"import sys\nsys.stderr.write({TEXT!r})\nraise ValueError({TEXT!r})\n")
    world.patch.syspath_prepend(world.root)
    world.patch.setattr(declare, "rates_of", lambda _: registry.rates_of(RunConfig(task="broken:train", steps=1)))
    scene = world.scene(Sweep, FIRST)
    world.printed += scene.ask()
    assert scene.stage("first")["state"] == "held"
    assert len(world.posted) == 1
    return scene


def journal(world):
    """A worker of another release, or in another environment, that wrote it down as it was."""
    scene = begun(world.scene())
    (path,) = scene.files().journals.glob("*.jsonl")
    fields = {"kind": "error", "time": 1.0, "type": "OSError", "message": TEXT, "traceback": f"a\n{TEXT}", "step": 6}
    path.write_text(path.read_text() + json.dumps(fields) + "\n")
    raw = path.read_text()
    scene.cluster.kill(scene.job().id)
    scene.one_pass()
    assert scene.state() == "held"
    assert len(world.posted) == 1
    path.write_text(raw.replace(TOKEN, "").replace("\\u001b", ""))  # what is in this file is not lvjobs' doing
    return scene


def records(world):
    claim = Claim(1, "0" * 12, "7", 0, TEXT, 1, 1.0)
    world.printed.append(Claim.from_json(json.dumps(claim.__dict__)).host)
    values = {"generation": 1, "step": 1, "checkpoint": TEXT, "time": 1.0, "metrics": {}}
    world.printed.append(Done.from_json(json.dumps(values)).checkpoint)
    report = NodeReport(host="n", torch=None, gpu_problem=TEXT, paths={"/data": TEXT}, gpus=(TEXT,))
    found = NodeReport.from_json(report.to_json())
    world.printed += [found.gpu_problem, *found.paths.values(), *found.gpus]


def commands(world):
    """squeue complains, while jobs are waited for."""
    scene = begun(world.scene())
    world.script("squeue", f"squeue: error: {TEXT}\n")
    scene.shown = SlurmCluster(load_profile("lab"), scene.study.layout.submissions)
    with scene.session() as session:
        world.printed += session.make_pass()["problems"]


def sbatch(world):
    """sbatch refuses."""
    scene = world.scene()
    world.script("srun", "")
    world.script("sbatch", f"sbatch: error: Invalid account: {TEXT}\n")
    scene.shown = SlurmCluster(load_profile("lab"), scene.study.layout.submissions)
    with pytest.raises(UsageError) as error:
        scene.enter("one")
    world.printed.append(str(error.value))


def within_a_job(world):
    world.script("scontrol", TEXT)
    world.script("sbatch", TEXT)
    with pytest.raises(ClusterError) as error:
        inside.requeue_self("7")
    world.printed += [str(error.value), inside.would_refuse(world.root / "script")]


def local_log(world):
    (world.root / "wrapper.log").write_text(f"first\n{TEXT}\n")
    world.printed.append(local._last_line(world.root / "wrapper.log"))


def log_tails(world):
    """`why` and `logs` show the end of what a job printed: the file is as the job wrote it."""
    scene = begun(world.scene())
    path = scene.study.layout.log_directory("one") / f"{scene.job().id}.out"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{TEXT}\n")
    scene.cluster.kill(scene.job().id)
    scene.one_pass()
    world.show(scene)
    code, out, err = world.typed("logs", "one", "--study", scene.root)
    assert code == 0, err
    world.printed.append(out)
    path.unlink()


def errors(world):
    """Whatever the command line says at its end."""
    (world.root / "study" / "study.toml").write_text(f"[train]\nsteps = {json.dumps(TEXT)}\n")
    code, out, err = world.typed("status", "--study", world.root / "study")
    assert code == 2
    world.printed += [out, err]
    (world.root / "study" / "study.toml").unlink()


def webhook(world):
    """A server's answer."""
    headers = email.message.Message()
    world.answer = urllib.error.HTTPError("https://chat.example/hook", 500, TEXT, headers, None)
    scene = begun(world.scene())
    scene.cluster.advance(120)
    return scene


def doctors_log(world):
    (world.root / "7.out").write_text(TEXT)
    world.printed.append(errand._log(world.root))


def looking(world):
    (world.root / node_probe.ORDER).write_text('{"paths": {}}')
    world.patch.setattr(node_probe, "_gpus", lambda: ([TEXT], TEXT))
    world.patch.setattr(node_probe, "_torch", lambda: node_probe.Torch(problem=TEXT))
    world.patch.setattr(node_probe.signals, "deafen", lambda: None)
    node_probe.probe_node(world.root, node_probe.JobEnvironment(backend="local", token="", job_id="L1"))
    world.printed.append((world.root / node_probe.REPORT).read_text())


def looking_into_a_container(world):
    """The engine is replaced, as its own words are the ones that count."""
    engine = world.root / "apptainer"
    engine.write_text("#!/bin/sh\nprintenv TEXT >&2\nexit 1\n")
    engine.chmod(0o700)
    world.patch.setenv("PATH", f"{world.root}:{os.environ['PATH']}")
    world.patch.setenv("TEXT", TEXT)
    container = ContainerConfig(image="docker://python", engine="apptainer")
    inside = container_probe.probe_container(container, world.root, world.root)
    world.printed.append(f"{inside.problem} {inside.problem!r}")


def workers_journal(world):
    writer = JournalWriter(world.root / "journals" / "000001.jsonl")
    writer.write("leave", cause="timeout", detail=TEXT, nested={"a": [TEXT]})
    writer.close()
    world.printed.append(writer.path.read_text())


def workers_log(world):
    runner._complain(TEXT)
    world.printed.append(world.capsys.readouterr().err)


def followers_report(world):
    place = follower.Assignment(str(world.root), 1, 2, 1, 2, str(world.root))

    def fail(_place):
        raise OSError(TEXT)

    def end(_code):
        raise SystemExit

    world.patch.setattr(follower, "follow", fail)
    world.patch.setattr(follower, "_end_with_parent", lambda *_: None)
    world.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    world.patch.setattr(os, "_exit", end)
    with pytest.raises(SystemExit):
        follower.main(json.dumps(vars(place)))
    world.printed += [follower.report_of(world.root, 1).read_text(), world.capsys.readouterr().err]


def git_fails(world):
    """A repository's directory is copied although git lists no files: the reason is git's."""
    world.script("git", f"fatal: {TEXT}")
    (world.root / "program" / ".git").mkdir(parents=True)
    world.printed.append(find_files(world.root / "program").problem)


def working_directory(world):
    """A name in study.toml, and the name of a link in the working directory."""
    (world.root / "program").mkdir()
    (world.root / "program" / f"{TOKEN} {ESCAPE.replace('/', '')}").symlink_to("nowhere")
    world.printed += find_files(world.root / "program").left_out
    with pytest.raises(UsageError) as error:
        find_files(world.root / "program", [TEXT])
    world.printed.append(str(error.value))


def program_prints(world):
    """The last lines of a program that failed; its log has them too, as the program printed them."""
    world.patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    program = Program([Start(0, [sys.executable, "-c", f"print({TEXT!r})"], os.environ)], world.root)
    until_ended(program)
    (end,) = program.end()
    world.printed += [*end.tail, *(line for _, line in program.lines())]


def until_ended(program):
    while not program.has_ended:
        time.sleep(0.01)


def python_fails(world):
    """A Python that cannot list its packages, and says so."""
    path = world.root / "python"
    path.write_text(f"#!{sys.executable}\nimport sys\nsys.exit({TEXT!r})\n")
    path.chmod(0o755)
    with pytest.raises(Unlisted) as error:
        list_packages(path, os.environ)
    world.printed.append(str(error.value))


def batch_script(world):
    """Return the report of `init --from` about a script's lines."""
    (world.root / "job.sh").write_text(f"source '{TEXT}'\npython train.py\n", encoding="utf-8")
    code, out, err = world.typed("init", "--study", world.root / "new", "--from", world.root / "job.sh")
    assert code == 0, err
    world.printed += [out, err]


def typed_program(world):
    """A command that study.toml cannot hold, because it is not UTF-8."""
    code, out, err = world.typed("init", "--study", world.root / "new", "--", "python", f"{TEXT}\udcff")
    assert code == 2
    world.printed += [out, err]


def rehearsed(world):
    """A file's name, and the words of a process that a program left behind."""
    run = RunLayout(world.root / "study" / "checkpoints" / "run")
    work = run.root / "000001.work"
    for path in (work, run.final, run.generations, run.journals):
        path.mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        run.generation(number).touch()
        run.journal(number).write_text(Entry("software", 1.0, {}).to_line())
    words = [sys.executable, "-c", "print('open', flush=True); import time; time.sleep(600)", TEXT]
    with subprocess.Popen(words, cwd=work, stdout=subprocess.PIPE) as left:
        assert left.stdout.readline() == b"open\n"
        watch = EscapeWatch(run)
        watch.close()
    (run.final / f"{ESCAPE.replace('/', '')}{TOKEN}").touch()
    nothing = RunResult(RunLayout(world.root / "other" / "checkpoints" / "run"))
    found, _ = differences(RunResult(run), nothing, is_program=False)
    assert len(found) == 1
    world.printed += [*watch.breaches, *map(str, found)]


PLACES = {
    "rehearsal.escapes": rehearsed,
    "rehearsal.differences": rehearsed,
    "cli.init": batch_script,
    "api.program_questions": typed_program,
    "worker.program.process": program_prints,
    "tasks.git": git_fails,
    "tasks.copy_limits": working_directory,
    "tasks.ask_process": first_step,
    "tasks.packages": python_fails,
    "control.driver.notify": webhook,
    "control.inspect.logs": log_tails,
    "cli.log_bar": log_tails,
    "doctor.bundle": log_tails,
    "cli": errors,
    "records.journal": journal,
    "records.run_files": records,
    "cluster.commands": commands,
    "cluster.sbatch": sbatch,
    "cluster.local": local_log,
    "doctor.errand": doctors_log,
    "worker.node_probe": looking,
    "worker.container_probe": looking_into_a_container,
    "worker.journal": workers_journal,
    "worker.runner": workers_log,
    "records.failure": followers_report,
}


@pytest.mark.parametrize("place", [*dict.fromkeys(PLACES.values()), within_a_job], ids=lambda place: place.__name__)
def test_foreign_text_brings_neither_a_secret_nor_an_escape_into_what_is_kept_and_shown(world, place):
    scene = place(world)
    if scene is not None:
        world.show(scene)
    shown = "\n".join([*world.printed, *world.posted])
    assert "401 for https://user:***@hub/model" in shown, "the text did not get there"
    assert TOKEN not in shown
    assert "\x1b" not in shown
    files = {path: path.read_bytes() for path in (world.root / "study").rglob("*") if path.is_file()}
    assert [path for path, data in files.items() if TOKEN.encode() in data] == []
    assert [path for path, data in files.items() if ESCAPE[:4].encode() in data] == []


def names_of(path):
    return {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}


CAPTURES = {"capture_output", "PIPE"}
WITHOUT_WORDS = {
    "worker.ranks": "only its standard input is a pipe",
    "cli.pull": "it reads a list of files, and their content",
}
"""Modules that start programs with a pipe, and keep no word of what these print; and why."""


def test_each_module_where_foreign_text_enters_is_in_the_table():
    package = Path(lvjobs.__file__).parent
    cleaning, capturing = set(), set()
    for path in package.rglob("*.py"):
        module = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        if module.startswith("lab"):
            continue  # a cluster of one's own, whose words are for its owner's terminal
        if "lvjobs.foreign" in path.read_text() and names_of(path) & {"clean", "cleaned"}:
            cleaning.add(module)
        if any(f"{word}=" in path.read_text() or f".{word}" in path.read_text() for word in CAPTURES):
            capturing.add(module)
    assert cleaning == set(PLACES)
    assert capturing - cleaning == set(WITHOUT_WORDS)


def test_what_counts_as_a_secret():
    environ = {
        "HF_TOKEN": "hf_abcdefgh",
        "AWS_SECRET_ACCESS_KEY": "xxxxxxxxyyyy",
        "SLURM_JWT": "jwt-of-slurm",
        "HF_TOKEN_PATH": "/home/me/token",
        "LVJOBS_TOKEN": "0123456789ab",
        "SHORT_TOKEN": "a",
        "HOME": "/home/user",
    }
    assert set(secrets_in(environ)) == {"hf_abcdefgh", "xxxxxxxxyyyy", "jwt-of-slurm"}
    assert hide("a hf_abcdefgh b jwt-of-slurm a", environ) == "a *** b *** a"


def test_a_secret_is_found_as_an_address_has_it_and_line_by_line():
    environ = {"MY_PASSWORD": "correct horse/battery", "PRIVATE_KEY": "first-line\nsecond-line\n"}
    assert hide("https://me:correct%20horse%2Fbattery@host", environ) == "https://me:***@host"
    assert hide("the key is\n  second-line", environ) == "the key is\n  ***"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\tb\nc\r\nd", "a\tb\nc\nd"),
        ("\x1b[31mred\x9b0m", "red\\x9b0m"),
        ("a\rb\x00\x7f", "a\\rb\\x00\\x7f"),
        ("\u202etxt.exe \ud800 été ☃", "\\u202etxt.exe \\ud800 été ☃"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text, said):
    assert cleaned(text) == said


def test_colours_are_left_out_and_other_escapes_are_written_out():
    assert cleaned("\x1b[1;31mred\x1b[0m \x1b]0;title\x07") == r"red \x1b]0;title\x07"
