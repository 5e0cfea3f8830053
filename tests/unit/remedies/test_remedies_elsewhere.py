"""The commands in messages are about the study that --study names, in whatever directory they are typed."""

import re
import shlex
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import replace
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest
from control_scenes import KILLED_BY_SLURM, begun, killed
from doctor_helpers import CAPTURED, asked_of, facts_of, told
from driver_scenes import Refusing
from rebuild_scenes import as_an_older_release
from remedy_scenes import PRICED, STAGES, typed_scene
from remedy_tasks import beside

from lvjobs.api import updates
from lvjobs.cli import status
from lvjobs.cluster import templates
from lvjobs.cluster.protocol import Site
from lvjobs.control import loop
from lvjobs.doctor.errand import Errand
from lvjobs.doctor.examine import check_site
from lvjobs.doctor.node import check_errand
from lvjobs.forecasting.data import make_dataset
from lvjobs.ledger.database import open_ledger
from lvjobs.ledger.lease import claim_path, newest_claim
from lvjobs.ledger.storage import storage_of
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.node import NodeReport
from lvjobs.study.config import load_study

FORECASTS = 'profile = "lab"\nstage = []\n\n[driver]\njob = false\n'

CHOICES = {
    "RUN": "one",
    "FLOPS": "1e18",
    "MEBIBYTES": "4000",
    "REASON": "a second grant",
    "MODULE": "toy_task",
    "FUNCTION": "priced",
}
"""The reader's choice for each word in CAPITALS."""
STORED = ("runs", "stages", "events", "settings", "driver", "notices")


# -- what there is before the command is typed ----------------------------------------------------------------------


def bare(_scene, _typed):
    """A study in which nothing was submitted."""


def unopened(scene, _typed):
    """A study of which no command has made a ledger yet."""
    scene.study.layout.database.unlink()


def running(scene, _typed):
    begun(scene)


def held(scene, _typed):
    scene.worker.failing["one"] = 3
    begun(scene, taken=1)
    scene.go(60)
    assert scene.state() == "held"
    log = scene.study.layout.log_directory("one") / f"{scene.job().id}.out"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("no such thing")


def out_of_memory(scene, _typed):
    begun(scene)
    killed(scene, KILLED_BY_SLURM)
    assert scene.state() == "held"


def held_for_the_budget(scene, typed):
    begun(scene)
    typed("budget", "set", "700", "--study", scene.root)
    scene.bind(limit=700)
    scene.cluster.kill(scene.job().id)
    scene.go(60)
    assert scene.state() == "held"


def waiting(scene, _typed):
    scene.enter("one")


def forecasting(scene, typed):
    """A run that forecasts, completed."""
    make_dataset(scene.root / "data.h5", systems=20, seed=0)
    typed("submit", "train", "--name", "one", "--steps", 12, "--checkpoint-every", 4, "--study", scene.root)
    scene.go(300)
    assert scene.state() == "completed"


def declared(scene, typed):
    """All stages' runs are in the ledger, and the limit was lowered since."""
    typed("sweep", "all", "--study", scene.root)
    scene.go(2000, every=20)
    assert {run["state"] for run in scene.rows("runs")} == {"completed"}
    typed("budget", "set", "700", "--study", scene.root)


def many(scene, _typed):
    """More runs than the terminal has lines."""
    scene.enter(*(f"run{number}" for number in range(30)))
    scene.make_pass()


def swept(scene, typed):
    scene.enter("one")
    typed("sweep", "first", "--study", scene.root)


def finished(scene, typed):
    swept(scene, typed)
    scene.go(600, every=20)


def half_read(scene, _typed):
    """Runs that are over are missing in what the last pass left."""
    begun(scene)
    scene.go(600, every=20)
    assert scene.state() == "completed"
    (scene.study.layout.internal / "closed_runs.json").unlink()


def unread(scene, _typed):
    """A worker has begun since the last pass."""
    scene.enter("one")
    scene.reach(1)


def overcharged(scene, _typed):
    begun(scene)
    with closing(sqlite3.connect(scene.study.layout.database)) as connection, connection:
        connection.execute("UPDATE charges SET units = units + 5")


def unbound(scene, _typed):
    begun(scene)
    scene.study.layout.submission(scene.job().request.token).unlink()


def stranger(scene, _typed):
    """A run directory of which runs.db knows nothing, as where an older copy was put in its place."""
    begun(scene)
    aside = scene.study.layout.database.read_bytes()
    scene.enter("two")
    scene.reach(1, "two")
    scene.study.layout.database.write_bytes(aside)


def foreign_file(scene, _typed):
    """Something else in the place of runs.db."""
    scene.study.layout.database.write_bytes(b"no ledger" * 1000)


def lost(scene, _typed):
    begun(scene)
    scene.study.layout.database.unlink()


def lost_by_an_older_release(scene, _typed):
    begun(scene)
    as_an_older_release(scene)
    scene.study.layout.database.unlink()


def damaged(scene, _typed):
    begun(scene)
    path = scene.study.layout.database
    with path.open("r+b") as stream:
        stream.seek(-8192, 2)
        stream.write(b"\xff" * 8192)


def without_profile(scene, _typed):
    """A held run, whose profile is a file that is gone."""
    held(scene, _typed)
    mine = scene.root / "mine.sh.j2"
    shutil.copy(templates.shipped("lab"), mine)
    with scene.session() as session, session.ledger.transaction() as transaction:
        transaction.update_runs({run.id: {"profile": str(mine)} for run in transaction.runs()})
    path = scene.root / "study.toml"
    path.write_text(path.read_text().replace('profile = "lab"', 'profile = "mine.sh.j2"'))
    mine.unlink()


def moved(scene, _typed):
    """The study as `mv` leaves it on another disk."""
    begun(scene)
    copy = scene.root.with_name("disk 2")
    shutil.copytree(scene.root, copy)
    shutil.rmtree(scene.root)
    scene.study = load_study(copy)


CASES = {
    # what there is, what is typed, the command that is shown, its exit code
    "no such run, of a summary": (running, "why zebra", "lvjobs status", 0),
    "no such run, of the ledger": (running, "cancel zebra", "lvjobs status", 0),
    "no such run, to forecast with": (running, "evaluate zebra --table", "lvjobs status", 0),
    "no job in the queue": (running, "queue one", "lvjobs status", 0),
    "no log": (running, "logs one", "lvjobs why one", 0),
    "nothing evaluated": (running, "evaluate --table", "lvjobs evaluate RUN", 2),
    "settings for no run": (held, "resume --time-limit 12h", "lvjobs resume RUN --time-limit 12h", 0),
    "a run that a pass leaves held": (held, "resume", "lvjobs resume one", 0),
    "what runs are held for": (held, "resume", "lvjobs status", 0),
    "a profile that is gone": (without_profile, "resume one", "lvjobs resume one", 2),
    "a run that was submitted": (bare, "submit run", "lvjobs status", 0),
    "training of a task of one's own": (bare, "submit train", "lvjobs submit run", 0),
    "no task": (bare, "submit run", "lvjobs submit run MODULE:FUNCTION --config FILE.toml", 0),
    "over the budget": (bare, "submit run", "lvjobs budget", 0),
    "over the budget, raised": (bare, "submit run", 'lvjobs budget set FLOPS --because "REASON"', 0),
    "nothing fits": (bare, "submit run --fit", 'lvjobs budget set FLOPS --because "REASON"', 0),
    "no stage to estimate": (bare, "estimate", "lvjobs plan train", 0),
    "stages that do not fit": (bare, "sweep all", "lvjobs plan", 0),
    "what fits of all stages": (bare, "sweep all --fit", "lvjobs plan", 0),
    "what fits of a later stage": (bare, "sweep second --fit", "lvjobs plan", 0),
    "a stage after one that nobody asked for": (bare, "sweep second", "lvjobs sweep first", 0),
    "all stages": (bare, "sweep second", "lvjobs sweep all", 0),
    "no such stage": (bare, "sweep stop frist", "lvjobs plan", 0),
    "a stage without runs": (bare, "sweep show first", "lvjobs plan", 0),
    "held runs of a stage without runs": (bare, "sweep retry first", "lvjobs sweep first", 0),
    "a winner that is no run of the stage": (
        swept,
        "sweep first --winner one --because better",
        "lvjobs sweep show first",
        0,
    ),
    "why of a held run": (held, "why one", "lvjobs resume one", 0),
    "why, and all that was printed": (held, "why one", "lvjobs logs one", 0),
    "why, and the story": (held, "why one", "lvjobs status one", 0),
    "why, and no more of it": (held, "why one", "lvjobs cancel one", 0),
    "why of too little memory": (out_of_memory, "why one", "lvjobs resume one --memory-mb MEBIBYTES", 0),
    "why of a run held for the budget": (
        held_for_the_budget,
        "why one",
        'lvjobs budget set FLOPS --because "REASON"',
        0,
    ),
    "why of a run that waits": (waiting, "why one", "lvjobs queue one", 0),
    "why of a run that goes on": (waiting, "why one", "lvjobs watch", 0),
    "why of a run that forecasts": (forecasting, "why one", "lvjobs evaluate one", 0),
    "no run yet": (bare, "status", "lvjobs submit run", 0),
    "no run yet, of forecasts": (bare, "status", "lvjobs submit train", 2),
    "no run yet, and a live view": (bare, "status -w", "lvjobs submit run", 0),
    "more runs than lines": (many, "status", "lvjobs status --all", 0),
    "more runs than lines, and a live view": (many, "status -w", "lvjobs status --all", 0),
    "runs that the last pass's summary lacks": (half_read, "status --no-pass", "lvjobs status", 0),
    "curves of a stage": (finished, "sweep show first", "lvjobs report", 0),
    "stages beyond the limit": (declared, "estimate", 'lvjobs budget set FLOPS --because "REASON"', 0),
    "stages beyond the limit, planned": (declared, "sweep plan", 'lvjobs budget set FLOPS --because "REASON"', 0),
    "stages beyond the limit, refused": (declared, "sweep all", 'lvjobs budget set FLOPS --because "REASON"', 0),
    "nothing to check": (unopened, "ledger check", "lvjobs submit run", 0),
    "nothing to check, of forecasts": (unopened, "ledger check", "lvjobs submit train", 2),
    "attempts that are not read yet": (unread, "ledger check", "lvjobs status", 0),
    "charges that the journals do not show": (overcharged, "ledger check", "lvjobs ledger rebuild --aside", 0),
    "an allowance that is gone": (unbound, "ledger check", "lvjobs resume", 0),
    "a run that the ledger does not know": (stranger, "ledger check", "lvjobs ledger rebuild --aside", 0),
    "a run directory of another user": (running, "resume", "lvjobs ledger check", 0),
    "a ledger on NFS, to be read": (running, "ledger check", "lvjobs ledger export", 0),
    "a ledger on NFS, to be copied": (running, "ledger check", "lvjobs ledger backup", 0),
    "a ledger that is none": (foreign_file, "status", "lvjobs ledger check", 1),
    "a damaged ledger, to be copied": (damaged, "ledger backup", "lvjobs ledger check", 1),
    "nothing to copy": (unopened, "ledger backup", "lvjobs ledger check", 2),
    "a ledger to be made anew that is there": (running, "ledger rebuild", "lvjobs ledger check", 0),
    "a ledger to be put aside": (running, "ledger rebuild", "lvjobs ledger rebuild --aside", 0),
    "a ledger that is gone": (lost, "status", "lvjobs ledger rebuild", 0),
    "a ledger that is gone, of an estimate": (lost, "sweep plan", "lvjobs ledger rebuild", 0),
    "a ledger that is damaged": (damaged, "ledger check", "lvjobs ledger rebuild --aside", 0),
    "a ledger that was made anew": (lost_by_an_older_release, "ledger rebuild", "lvjobs driver stop", 0),
    "a ledger that was made anew, and its runs": (lost, "ledger rebuild", "lvjobs status", 0),
    "a study that was moved": (moved, "resume", "lvjobs study moved", 0),
    "a study that was copied": (moved, "resume", "lvjobs study copied", 0),
    "a copy, whose runs are paused": (moved, "study copied", "lvjobs resume RUN", 0),
    "a copy, without a driver": (moved, "study copied", "lvjobs driver start", 0),
    "no Slurm": (bare, "driver status", "lvjobs watch", 0),
    "a driver that the site refuses": (bare, "submit run", "lvjobs watch", 0),
    "no crontab": (bare, "driver install", "lvjobs watch", 0),
}
BUDGETS = {
    "over the budget": 1000,
    "over the budget, raised": 1000,
    "nothing fits": 100,
    "stages that do not fit": 1000,
}


def toml_of(name):
    if name == "no task" or name.endswith("forecasts"):
        return FORECASTS
    if name == "a driver that the site refuses":
        return PRICED.partition("[driver]")[0]
    if name == "no Slurm":
        return PRICED.partition("[driver]")[0].replace('"lab"', '"local"')
    return PRICED if name.startswith("no stage") else PRICED + STAGES


def interrupted(_seconds):
    raise KeyboardInterrupt


def surround(name, scene, monkeypatch):
    """Let there be around the study what the case is about."""
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        assert len(waits) < 100, "it watches for ever"
        scene.cluster.advance(int(seconds))

    monkeypatch.setattr(updates, "time", SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=sleep))
    monkeypatch.setattr(status, "time", SimpleNamespace(sleep=interrupted))
    if name.startswith("more runs"):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("LINES", "12")
        monkeypatch.setenv("COLUMNS", "200" if name.endswith("live view") else "80")
    if "another user" in name:
        monkeypatch.setattr("lvjobs.control.reconcile.observe.is_foreign", lambda _root: True)
    if "NFS" in name:
        monkeypatch.setattr(
            "lvjobs.control.recovery.check.storage_of", lambda root: replace(storage_of(root), kind="nfs4")
        )
    if name == "a driver that the site refuses":
        scene.shown = Refusing(scene.cluster)
    if name == "no crontab":
        refused = CompletedProcess([], 1, "", "you are not allowed to use this program")
        monkeypatch.setattr("lvjobs.cluster.crontab.run", lambda _command, _seconds: refused)


@pytest.mark.parametrize("name", CASES)
def test_a_command_that_is_shown_elsewhere_is_about_the_study_that_was_named(name, tmp_path, monkeypatch, typed):
    before, line, command, expected = CASES[name]
    root, elsewhere = tmp_path / "a study", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    toml = toml_of(name)
    budget = {"limit": BUDGETS[name]} if name in BUDGETS else {}
    scene = typed_scene(root, monkeypatch, toml + "".join(f"\n[budget]\nlimit = {each}\n" for each in budget.values()))
    monkeypatch.setattr("lvjobs.control.backends.cluster_for", lambda _study, _profile: scene.shown)
    beside(root)
    monkeypatch.chdir(elsewhere)
    (elsewhere / "mine.toml").write_text("steps = 12\ncheckpoint_every = 4\n")
    before(scene, typed)
    surround(name, scene, monkeypatch)
    where = f"--study {shlex.quote(str(scene.root))}"

    _, out, err = typed(*line.split(), "--study", scene.root)
    shown = " ".join((out + err).split())
    found = re.search(rf"(?<![\w-]){re.escape(command)} {re.escape(where)}(?![\w-])", shown)
    assert found, shown
    chosen = found[0].replace("FILE.toml", "mine.toml").replace('"REASON"', "REASON")
    for word, choice in CHOICES.items():
        chosen = re.sub(rf"\b{word}\b", shlex.quote(choice), chosen)
    if "budget set" in command:
        scene.bind(limit=10**18)
    code, out, err = typed(*shlex.split(chosen)[1:])
    assert code == expected, out + err
    assert "there is no study in" not in out + err
    assert [path.name for path in elsewhere.iterdir()] == ["mine.toml"], "nothing was begun where one is"
    if scene.study.layout.database.exists() and before is not foreign_file:
        stored = [str(row) for table in STORED for row in scene.rows(table)]
        assert not [row for row in stored if "--study" in row], "the study may move"


def test_a_command_elsewhere_whose_lease_another_process_took(tmp_path, monkeypatch, typed):
    scene = typed_scene(tmp_path, monkeypatch, PRICED)
    begun(scene)
    monkeypatch.chdir("/")
    decide, lease = loop.decide, scene.study.layout.lease

    def sleep_and_decide(*arguments):
        monkeypatch.setattr(loop, "decide", decide)
        mine = newest_claim(lease)
        shutil.copy(claim_path(lease, mine), claim_path(lease, mine + 1))
        later = open_ledger(scene.study.layout.database, mine + 1)
        later.call(Transaction.set_setting, "a", "b")
        later.close()
        return decide(*arguments)

    monkeypatch.setattr(loop, "decide", sleep_and_decide)
    code, _, err = typed("resume", "--study", tmp_path)
    assert (code, "took over this study while this one was suspended" in err) == (1, True)
    assert f"if that does not help: lvjobs ledger check --study {tmp_path}\n" in err


def test_ctrl_c_of_a_command_elsewhere(tmp_path, monkeypatch, typed):
    scene = typed_scene(tmp_path, monkeypatch, PRICED)
    waiting(scene, typed)
    monkeypatch.setattr(updates, "time", SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=interrupted))
    assert "this command submitted nothing; type: lvjobs status\n" in typed("watch")[2]
    monkeypatch.chdir("/")
    code, _, err = typed("watch", "--study", tmp_path)
    assert (code, err.endswith(f"nothing; type: lvjobs status --study {tmp_path}\n")) == (130, True)


def test_init_elsewhere_of_a_site_without_accounting_on_nfs(tmp_path, monkeypatch, typed):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    site = SimpleNamespace(probe=lambda: Site("slurm"))
    monkeypatch.setattr("lvjobs.control.backends.cluster_for", lambda _study, _profile: site)
    monkeypatch.setattr("lvjobs.ledger.storage.storage_of", lambda root: replace(storage_of(root), kind="nfs4"))
    where = f"--study {tmp_path / 'study'}"
    _, out, err = typed("init", "--profile", "lab", *where.split())
    assert f"keep lvjobs watch {where} running" in out
    assert f"read it with lvjobs ledger export {where}, or read a copy: lvjobs ledger backup {where}\n" in err


def test_the_doctor_elsewhere_names_the_study_in_what_makes_passes(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    asked = asked_of(tmp_path / "study")
    text = (CAPTURED / "scontrol_partitions.txt").read_text().replace("GraceTime=4", "GraceTime=0")
    facts = facts_of(
        asked,
        config={"AccountingStorageType": "accounting_storage/none"},
        partitions=text.replace("PreemptMode=REQUEUE", "PreemptMode=CANCEL"),
        help="scontrol [<OPTION>] [<COMMAND>]",
    )
    errand = Errand("7", NodeReport("cpu-1", torch=None, knows_itself="scontrol does not tell"))
    found = [*check_site(facts, asked), *check_errand(errand, asked)]
    named = [line for line in told(found) if f"keep lvjobs watch --study {asked.study.root} running" in line]
    assert len(named) == 4
    assert not [line for line in told(found) if "lvjobs watch running" in line]
