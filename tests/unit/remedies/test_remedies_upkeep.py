"""Scenarios of remedies for runs that are kept: cancelled, tagged, archived; and for plans and studies elsewhere."""

import pytest
from remedy_scenes import PRICED, STAGES, typed_scene
from remedy_tasks import scene_task

from lvjobs import remedies
from lvjobs.cli.remote import Login


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A study with one completed run, `one`."""
    made = typed_scene(tmp_path, monkeypatch, PRICED)
    scene_task(made)
    return made


def completed(scene, typed, name="one"):
    assert typed("submit", "run", "--name", name)[0] == 0
    scene.go(300)
    assert scene.state(name) == "completed"


@pytest.mark.remedy("RETRY")
def test_a_cancelled_run_is_submitted_again(scene, typed, take):
    typed("submit", "run", "--name", "one")
    code, out, _ = typed("cancel", "one")
    assert (code, scene.state()) == (0, "cancelled")
    code, out, err = take(remedies.RETRY, out, run="one")
    assert (code, err) == (0, "")
    scene.go(300)
    assert scene.state() == "completed"


@pytest.mark.remedy("RETRY")
def test_resume_of_a_cancelled_run_names_what_submits_it_again(scene, typed, take):
    typed("submit", "run", "--name", "one")
    typed("cancel", "one")
    _, out, _ = typed("resume", "one")
    assert "one: is cancelled and cannot be resumed" in out
    assert take(remedies.RETRY, out, run="one")[0] == 0
    assert scene.state() in ("planned", "queued", "interrupted", "running")


@pytest.mark.remedy("TAG")
def test_a_tag_that_no_run_has(scene, typed, take):
    completed(scene, typed)
    code, _, err = typed("cancel", "--tag", "baseline")
    assert code == 2
    assert take(remedies.TAG, err, tag="baseline", choose={"RUN": "one"})[0] == 0
    code, out, _ = typed("status", "--tag", "baseline", "-o", "csv")
    assert (code, out.count("\n")) == (0, 2)


@pytest.mark.remedy("ARCHIVE")
def test_a_run_that_is_not_archived(scene, typed, take):
    completed(scene, typed)
    code, _, err = typed("archive", "--unpack", "one")
    assert code == 2
    assert take(remedies.ARCHIVE, err)[:2] == (0, "No run is archived.\n")


@pytest.mark.remedy("UNPACK")
@pytest.mark.parametrize("command", [["report"], ["retry", "one"], ["resume", "one"]], ids=" ".join)
def test_a_run_whose_files_are_packed(scene, typed, take, command):
    completed(scene, typed)
    assert typed("archive", "one")[0] == 0
    _, _, err = typed(*command)
    code, out, _ = take(remedies.UNPACK, err, run="one")
    assert (code, "one: unpacked into" in out) == (0, True)
    assert "archived" not in typed(*command)[2]


@pytest.mark.remedy("PLAN_APPLY")
def test_a_plan_that_fits_is_written_into_study_toml(tmp_path, monkeypatch, typed, take):
    scene = typed_scene(tmp_path, monkeypatch, f"{PRICED}\n[budget]\nlimit = 5.5e7\n{STAGES}")
    scene_task(scene)
    before = (scene.root / "study.toml").read_text()
    code, out, _ = typed("plan")
    assert (code, out.startswith("Does not fit: needs ")) == (0, True)
    code, said, err = take(remedies.PLAN_APPLY, out, number=1)
    assert (code, err) == (0, "")
    after = (scene.root / "study.toml").read_text()
    assert after != before
    assert set(before.splitlines()) <= set(after.splitlines()), "everything else stays"
    assert "steps 12 -> " in said
    assert typed("plan")[1].startswith("Fits: needs ")


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """An ssh that runs its command here; call it to set its exit code instead."""
    script = tmp_path / "bin" / "ssh"
    script.parent.mkdir()

    def answer(code=None):
        end = f"exit {code}" if code is not None else 'shift 3; exec sh -c "$1"'
        script.write_text(f"#!/bin/sh\n{end}\n")
        script.chmod(0o755)

    answer()
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    return answer


@pytest.mark.remedy("SSH_CHECK")
def test_a_login_node_that_ssh_does_not_reach(ssh, typed, take, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ssh(255)
    code, _, err = typed("--host", "login", "pull", "--study", "there")
    assert code == 1
    assert take(remedies.SSH_CHECK, err, host="login")[0] == 255, "as ssh itself says"


@pytest.mark.remedy("REMOTE_REPORT")
def test_a_study_elsewhere_in_which_there_is_nothing_to_copy(tmp_path, monkeypatch, typed, take):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lvjobs.cli.pull._ask", lambda _login, _words: "")
    sent = []
    monkeypatch.setattr("lvjobs.cli.remote.run_remote", lambda *call: sent.append(call) or 0)
    code, out, _ = typed("--host", "login", "pull", "--study", "there")
    assert code == 0
    take(remedies.REMOTE_REPORT, out, "--study", "there", host="login")
    assert sent == [(Login("login", "there"), ["report"])]
