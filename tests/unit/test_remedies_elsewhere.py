"""What a message tells one to type is about the study that was named with --study, in whatever directory one is."""

import re
import shlex
import shutil

import pytest
from control_scenes import begun
from remedy_scenes import PRICED, STAGES, typed_scene
from remedy_tasks import beside

from lvjobs.cluster import templates
from lvjobs.study.config import load_study

FORECASTS = 'profile = "lab"\nstage = []\n\n[driver]\njob = false\n'

CHOICES = {"RUN": "one", "FLOPS": "1e18", "REASON": "a second grant", "MODULE": "toy_task", "FUNCTION": "priced"}
"""The reader's choice for each word in CAPITALS."""
STORED = ("runs", "stages", "events", "settings")


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


def swept(scene, typed):
    scene.enter("one")
    typed("sweep", "first", "--study", scene.root)


def lost(scene, _typed):
    begun(scene)
    scene.study.layout.database.unlink()


def damaged(scene, _typed):
    begun(scene)
    path = scene.study.layout.database
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
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
    "no job that waits": (running, "queue one", "lvjobs status", 0),
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
    "no stage to estimate": (bare, "estimate", "lvjobs estimate train", 0),
    "stages that do not fit": (bare, "sweep all", "lvjobs sweep plan", 0),
    "what fits of all stages": (bare, "sweep all --fit", "lvjobs sweep plan", 0),
    "what fits of a later stage": (bare, "sweep second --fit", "lvjobs sweep plan", 0),
    "a stage after one that nobody asked for": (bare, "sweep second", "lvjobs sweep first", 0),
    "all stages": (bare, "sweep second", "lvjobs sweep all", 0),
    "no such stage": (bare, "sweep stop frist", "lvjobs sweep plan", 0),
    "a stage without runs": (bare, "sweep show first", "lvjobs sweep plan", 0),
    "held runs of a stage without runs": (bare, "sweep retry first", "lvjobs sweep first", 0),
    "a winner that is no run of the stage": (
        swept,
        "sweep first --winner one --because better",
        "lvjobs sweep show first",
        0,
    ),
    "nothing to check": (unopened, "ledger check", "lvjobs submit train", 2),
    "nothing to copy": (unopened, "ledger backup", "lvjobs ledger check", 2),
    "a ledger to be made anew that is there": (running, "ledger rebuild", "lvjobs ledger check", 0),
    "a ledger to be put aside": (running, "ledger rebuild", "lvjobs ledger rebuild --aside", 0),
    "a ledger that is gone": (lost, "status", "lvjobs ledger rebuild", 0),
    "a ledger that is gone, of an estimate": (lost, "sweep plan", "lvjobs ledger rebuild", 0),
    "a ledger that is damaged": (damaged, "ledger check", "lvjobs ledger rebuild --aside", 0),
    "a ledger that was made anew": (lost, "ledger rebuild", "lvjobs driver stop", 0),
    "a study that was moved": (moved, "resume", "lvjobs study moved", 0),
    "a study that was copied": (moved, "resume", "lvjobs study copied", 0),
}
BUDGETS = {
    "over the budget": 1000,
    "over the budget, raised": 1000,
    "nothing fits": 100,
    "stages that do not fit": 1000,
}


@pytest.mark.parametrize("name", CASES)
def test_a_command_that_is_shown_elsewhere_is_about_the_study_that_was_named(name, tmp_path, monkeypatch, typed):
    before, line, command, expected = CASES[name]
    root, elsewhere = tmp_path / "a study", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    toml = FORECASTS if name == "no task" else PRICED if name.startswith("no stage") else PRICED + STAGES
    budget = {"limit": BUDGETS[name]} if name in BUDGETS else {}
    scene = typed_scene(root, monkeypatch, toml + "".join(f"\n[budget]\nlimit = {each}\n" for each in budget.values()))
    monkeypatch.setattr("lvjobs.control.clusters.cluster_for", lambda _study, _profile: scene.shown)
    beside(root)
    monkeypatch.chdir(elsewhere)
    (elsewhere / "mine.toml").write_text("steps = 12\ncheckpoint_every = 4\n")
    before(scene, typed)
    where = f"--study {shlex.quote(str(scene.root))}"

    _, out, err = typed(*line.split(), "--study", scene.root)
    shown = " ".join((out + err).split())
    found = re.search(rf"(?<![\w-]){re.escape(command)} {re.escape(where)}(?![\w-])", shown)
    assert found, shown
    chosen = found[0].replace("FILE.toml", "mine.toml").replace('"REASON"', "REASON")
    for word, choice in CHOICES.items():
        chosen = re.sub(rf"\b{word}\b", shlex.quote(choice), chosen)
    code, out, err = typed(*shlex.split(chosen)[1:])
    assert code == expected, out + err
    assert "there is no study in" not in out + err
    assert [path.name for path in elsewhere.iterdir()] == ["mine.toml"], "nothing was begun where one is"
    if scene.study.layout.database.exists() and scene.root == root:
        stored = [str(row) for table in STORED for row in scene.rows(table)]
        assert not [row for row in stored if "--study" in row], "the study may move"
