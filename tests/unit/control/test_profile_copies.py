"""A profile that is a file of the user's: kept with the study as it was submitted, and missed by its own runs alone."""

import importlib.metadata
import json
import shlex
import subprocess
from dataclasses import replace

import pytest
from click.testing import CliRunner
from control_scenes import Scene, begun, make_haste

from lvjobs.cli import cli
from lvjobs.cluster import profiles, templates
from lvjobs.cluster.profiles import load_profile, render
from lvjobs.cluster.templates import DRIVER_PROFILE, NOTICE_PROFILE
from lvjobs.control.inspect.why import why
from lvjobs.control.recovery.rebuild import rebuild
from lvjobs.errors import UsageError


class _Rendering:
    """The simulated cluster, with each script that a profile makes kept, as `SlurmCluster` would submit it."""

    def __init__(self, scene, profile):
        self._scene = scene
        self._profile = profile

    def __getattr__(self, name):
        return getattr(self._scene.cluster, name)

    def submit(self, request):
        self._scene.scripts.append(render(self._profile, request))
        return self._scene.cluster.submit(request)


class FileScene(Scene):
    """A scene whose runs are submitted by the profile in the file `mine`, or by another that is named."""

    def __init__(self, root, **more):
        super().__init__(root, **more)
        self.scripts = []
        self.profile = str(root / "mine.sh.j2")
        self.mine = root / "mine.sh.j2"
        self.write("as submitted")

    def write(self, mark):
        self.mine.write_text(f"{templates.shipped('lab').read_text()}# {mark}\n")

    def factory(self, _study, profile):
        if profile in (DRIVER_PROFILE, NOTICE_PROFILE):
            return self.cluster
        return _Rendering(self, load_profile(profile))

    def session(self):
        from lvjobs.control.loop import open_session

        return open_session(self.study, wait=5, factory=self.factory, clock=self.clock)

    def wanted(self, *names, **resources):
        return replace(super().wanted(*names, **resources), profile=self.profile)

    def forget_copies(self):
        """From now on the ledger is as one of an older release, which kept no copies."""
        with self.session() as session, session.ledger.transaction() as transaction:
            transaction.update_runs({run.id: {"profile_copy": ""} for run in transaction.runs()})

    def problems(self):
        with self.session() as session:
            return session.make_pass()["problems"]

    @property
    def marks(self):
        return [script.splitlines()[-1] for script in self.scripts]


@pytest.fixture
def make(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return lambda **more: FileScene(tmp_path, **more)


@pytest.fixture
def scene(make):
    return begun(make())


def hold(scene):
    """The run is held, by a code error of its own."""
    scene.worker.failing["one"] = 8
    scene.go(60)
    assert scene.state() == "held"
    scene.worker.failing.clear()


# -- what is submitted ------------------------------------------------------------------------------------------------


def test_a_resubmission_after_an_upgrade_uses_the_shared_parts_of_the_submission(scene, tmp_path, monkeypatch):
    (tmp_path / "upgraded").mkdir()
    for path in templates.shipped("lab").parent.iterdir():
        (tmp_path / "upgraded" / path.name).write_text(path.read_text() + "# upgraded\n" * path.name.startswith("_"))
    monkeypatch.setattr(templates, "_directory", lambda: tmp_path / "upgraded")
    profiles._whole.cache_clear()  # as in a new process
    scene.enter("two")
    scene.cluster.kill(scene.job("one").id)
    scene.go(60)
    assert (scene.state("one"), scene.state("two")) == ("completed", "completed")
    assert ["# upgraded" in script for script in scene.scripts] == [False, True, False]


@pytest.mark.parametrize("what", ["edited", "deleted", "broken"])
def test_an_automatic_resubmission_uses_the_profile_as_it_was_submitted(scene, what):
    changes = {
        "edited": lambda: scene.write("edited"),
        "deleted": scene.mine.unlink,
        "broken": lambda: scene.mine.write_text("{% if %}"),
    }
    changes[what]()
    scene.cluster.kill(scene.job().id)
    scene.make_pass()
    assert scene.problems() == []
    scene.go(30)
    assert scene.state() == "completed"
    assert scene.marks == ["# as submitted", "# as submitted"]


def test_runs_that_wait_for_room_are_submitted_by_the_profile_of_the_users_submission(make):
    scene = make()
    scene.cluster.submit_faults.append("limited")
    scene.enter("one", "two")
    scene.write("edited")
    scene.go(90)
    assert (scene.state("one"), scene.state("two")) == ("completed", "completed")
    assert set(scene.marks) == {"# as submitted"}


def test_the_users_resume_uses_the_profile_as_it_is_now(scene):
    hold(scene)
    scene.write("edited")
    scene.resume_runs("one")
    scene.cluster.kill(scene.reach(2).id)
    scene.make_pass()
    scene.mine.unlink()
    scene.go(60)
    assert scene.state() == "completed"
    assert scene.marks == ["# as submitted", "# edited", "# edited"]


def test_a_new_submission_uses_the_profile_as_it_is_now_and_leaves_the_earlier_runs_theirs(scene):
    scene.write("edited")
    scene.enter("two")
    scene.cluster.kill(scene.job().id)
    scene.go(60)
    assert (scene.state("one"), scene.state("two")) == ("completed", "completed")
    assert scene.marks == ["# as submitted", "# edited", "# as submitted"]


def test_resume_of_a_run_whose_profile_is_gone_says_so_and_changes_nothing(scene):
    hold(scene)
    scene.mine.unlink()
    before = scene.dump()
    with pytest.raises(UsageError) as refused:
        scene.resume_runs("one")
    assert scene.dump() == before
    assert refused.value.exit_code == 2
    text = str(refused.value)
    assert f"profile {scene.mine} cannot be read (No such file or directory)" in text
    assert "one stays held: put the file back" in text
    command = text.partition("(as it was last submitted: ")[2].partition(")")[0]
    subprocess.run(shlex.split(command), check=True)  # what the message names works
    assert text.endswith("then type: lvjobs resume one")
    scene.resume_runs("one")
    scene.go(60)
    assert scene.state() == "completed"
    assert scene.marks == ["# as submitted", "# as submitted"]


def test_a_new_submission_by_a_profile_that_is_gone_is_refused(scene):
    scene.mine.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        scene.enter("two")
    assert [row["name"] for row in scene.rows("runs")] == ["one"]


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_copies_are_kept_by_their_content_under_the_files_name_for_the_user_alone(scene):
    scene.enter("two")
    scene.write("edited")
    scene.enter("three")
    copies = sorted(path.relative_to(scene.root) for path in scene.root.glob(".lvjobs/profiles/*/*"))
    assert [copy.name for copy in copies] == ["mine.sh.j2", "mine.sh.j2"]
    hashes = {row["name"]: row["profile_copy"] for row in scene.rows("runs")}
    assert hashes["one"] == hashes["two"] != hashes["three"]
    assert {copy.parent.name for copy in copies} == set(hashes.values())
    for copy in copies:
        assert (scene.root / copy).stat().st_mode & 0o777 == 0o600
        assert (scene.root / copy).parent.stat().st_mode & 0o777 == 0o700


def test_two_files_of_the_same_content_are_two_profiles(scene):
    other = scene.root / "other.sh.j2"
    other.write_text(scene.mine.read_text())
    scene.profile = str(other)
    scene.enter("two")
    for path in (scene.mine, other):
        path.unlink()
    for name in ("one", "two"):
        scene.cluster.kill(scene.reach(2, name).id)
    scene.go(60)
    assert (scene.state("one"), scene.state("two")) == ("completed", "completed")


def test_a_profile_that_is_found_by_its_name_is_not_copied(make):
    scene = make()
    scene.profile = "lab"
    scene.enter("one")
    assert scene.run()["profile_copy"] == ""
    assert not (scene.root / ".lvjobs" / "profiles").exists()


def test_a_ledger_that_is_made_anew_knows_the_copies(scene):
    kept = scene.run()["profile_copy"]
    scene.mine.unlink()
    scene.study.layout.database.unlink()
    rebuild(scene.study, scene.factory, wait=5, aside=False, now=scene.clock())
    assert scene.run()["profile_copy"] == kept
    scene.cluster.kill(scene.job().id)
    scene.go(30)
    assert scene.state() == "completed"
    assert scene.marks[-1] == "# as submitted"


def test_a_ledger_is_made_anew_also_where_the_profile_is_gone(scene):
    scene.forget_copies()
    scene.mine.unlink()
    scene.study.layout.database.unlink()
    made = rebuild(scene.study, scene.factory, wait=5, aside=False, now=scene.clock())
    assert (made.runs, made.jobs, list(made.notes)) == (1, 1, [])


def test_gpu_hours_do_not_change_when_the_profile_is_deleted(scene):
    def gpu_hours():
        with scene.session() as session:
            return session.summarise([], [])["budget"]["efficiency"]["allocated_gpu_hours"]

    before = gpu_hours()
    assert before > 0, "the profile's default is 1 GPU"
    scene.mine.unlink()
    assert gpu_hours() == before


# -- runs that no copy was kept of ------------------------------------------------------------------------------------


def test_a_run_of_an_older_release_is_submitted_by_the_file_while_that_is_there(scene):
    scene.forget_copies()
    scene.write("edited")
    scene.cluster.kill(scene.job().id)
    scene.go(30)
    assert scene.state() == "completed"
    assert scene.marks == ["# as submitted", "# edited"]


def damage(scene, how):
    """Make the profile unusable; return what is said of it, and what is to be done."""
    if how == "gone":
        scene.mine.unlink()
        return f"profile {scene.mine} cannot be read (No such file or directory)", "put the file back"
    if how == "unreadable":
        scene.mine.unlink()
        scene.mine.mkdir()
        return f"profile {scene.mine} cannot be read (Is a directory)", "make the file readable"
    if how == "not parsing":
        scene.mine.write_text("#!/bin/bash\n{% if %}\n")
        return f"profile {scene.mine}: Expected an expression, got 'end of statement block' (line 2)", "fix the file"
    if how == "failing":
        scene.mine.write_text("#!/bin/bash\n{% set gpus = gpus | default(0) %}\n{% set cpus = 32 // gpus %}\n")
        return f"profile {scene.mine}: integer division or modulo by zero", "fix the file"
    scene.mine.write_text("#!/bin/bash\n{% set gpus = gpus | default('four') %}\n")
    return f"profile {scene.mine}: gpus: its default 'four' is not a whole number: give one", "fix the file"


@pytest.mark.parametrize("how", ["gone", "unreadable", "not parsing", "failing", "a default of the wrong kind"])
def test_runs_of_a_profile_that_cannot_be_used_are_left_alone_and_all_else_goes_on(scene, how):
    scene.forget_copies()
    problem, fix = damage(scene, how)
    assert scene.problems() == [f"{problem}; no jobs for one until you {fix}"]
    scene.profile = "lab"
    scene.enter("two")
    scene.cluster.kill(scene.job("one").id)
    told = scene.make_pass()
    assert any("killed" in line for line in told), "what became of its job is seen all the same"
    assert (scene.state("one"), scene.causes("one")) == ("interrupted", ["killed"])
    assert scene.run()["reason"] == f"not submitted: {problem}; {fix}"
    scene.go(60)
    assert (scene.state("one"), scene.state("two")) == ("interrupted", "completed")
    assert len(scene.jobs("one")) == 1

    if scene.mine.is_dir():
        scene.mine.rmdir()
    scene.write("put back")
    assert scene.problems() == []
    scene.go(60)
    assert scene.state("one") == "completed"
    assert scene.marks[-1] == "# put back"


def test_a_job_whose_profile_is_gone_trains_to_its_end_and_nothing_more_is_said(scene):
    scene.forget_copies()
    scene.mine.unlink()
    scene.go(60)
    assert scene.state() == "completed"
    assert scene.problems() == []


def test_a_run_whose_profile_is_gone_can_be_cancelled(scene):
    scene.forget_copies()
    scene.mine.unlink()
    job = scene.job()
    scene.cancel("one")
    assert scene.calls("cancel") == [job.id]
    assert scene.state() == "cancelled"


def test_why_of_a_waiting_job_whose_profile_is_gone_says_what_it_can(scene):
    scene.forget_copies()
    scene.mine.unlink()
    with scene.session() as session:
        row = next(row for row in session.make_pass()["runs"] if row["name"] == "one")
        answer = why(session, {**row, "queue_reason": "Resources"})
    assert "mine.sh.j2: cannot be read" in answer.place
    assert list(answer.alternatives) == []


def test_a_profile_of_a_package_that_is_no_longer_installed(make, tmp_path, monkeypatch):
    package = tmp_path / "mylab"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mysite.sh.j2").write_text(templates.shipped("lab").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    points = [importlib.metadata.EntryPoint("mysite", "mylab", "lvjobs.profiles")]
    monkeypatch.setattr(templates, "entry_points", lambda group: points)
    scene = make()
    scene.profile = "mysite"
    begun(scene)
    points.clear()
    scene.cluster.kill(scene.job().id)
    scene.make_pass()
    said = "profile 'mysite' is not installed; no jobs for one until you install the package that brings it"
    assert scene.problems() == [said]
    points.append(importlib.metadata.EntryPoint("mysite", "its_parent_is_gone.mylab", "lvjobs.profiles"))
    assert scene.problems() == [said], "half of an installation is none"


def test_a_script_that_the_profile_cannot_make_holds_the_run(scene):
    """A node that failed is kept away from, and a profile of the user's may not know how."""
    text = load_profile(scene.mine).source.replace("{% set exclude_nodes = exclude_nodes | default([]) %}\n", "")
    option = '{% if exclude_nodes %}\n#SBATCH --exclude={{ exclude_nodes | join(",") }}\n{% endif %}\n'
    assert option in text
    scene.mine.write_text(text.replace(option, ""))
    scene.enter("two")
    with scene.session() as session, session.ledger.transaction() as transaction:
        transaction.update_run(
            scene.run("two")["id"], resources={"exclude_nodes": ["n1"]}
        )  # as a pass that saw it fail
    scene.cluster.kill(scene.reach(2, "two").id)
    scene.go(60)
    assert scene.state("one") == "completed"
    assert scene.state("two") == "held"
    assert "exclude_nodes: profile mine does not use it" in scene.run("two")["reason"]


# -- every command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("status", 0),
        ("status --json", 0),
        ("status one", 0),
        ("budget", 0),
        ("budget set 1e17", 0),
        ("why one", 0),
        ("resume", 0),
        ("resume one", 0),
        ("resume held", 2),
        ("logs one", 0),
        ("cancel one", 0),
        ("driver status", 0),
        ("doctor", 1),
        ("ledger check", 0),
    ],
)
def test_every_command_works_where_a_profile_is_gone(make, monkeypatch, typed, code):
    scene = make()
    scene.enter("held")
    scene.worker.failing["held"] = 3
    scene.go(60)
    assert scene.state("held") == "held"
    begun(scene)
    (scene.root / "study.toml").write_text('profile = "mine.sh.j2"\n')
    log = scene.root / "logs" / "one" / f"{scene.job().id}.out"
    log.write_text("printed\n")
    scene.forget_copies()
    scene.mine.unlink()
    scene.problems()
    monkeypatch.setenv("PATH", "/nowhere")  # no Slurm: what is seen here does not depend on the machine
    ran = CliRunner().invoke(cli, [*typed.split(), "--study", str(scene.root)])
    if isinstance(ran.exception, UsageError):
        ran.exit_code = ran.exception.exit_code
    elif ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    assert ran.exit_code == code, ran.output
    if typed == "status --json":
        assert any(f"profile {scene.mine} cannot be read" in line for line in json.loads(ran.stdout)["problems"])
    if typed == "doctor":
        assert f"profile {scene.mine}: cannot be read" in " ".join(ran.output.split())
    if typed == "resume held":
        assert "held stays held: put the file back, then type: lvjobs resume held" in str(ran.exception)
