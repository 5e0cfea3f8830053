"""The files that passes write for workers: complete before sbatch, written again where they were lost, none left over."""

import json

import pytest
from control_scenes import Scene, begun, check, make_haste

from lvjobs.cluster.protocol import SubmitRefused
from lvjobs.control.submission import submission_files
from lvjobs.errors import UsageError
from lvjobs.records.run_files import Allowance
from lvjobs.study.run import RunFile


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    return Scene(tmp_path)


def of_an_older_release(scene, name="one"):
    """A run directory that an older release made, as far as anybody can see."""
    (scene.files(name).root / "generations").mkdir(parents=True)
    return scene.files(name)


def test_code_of_an_older_release_finds_all_that_it_reads_in_the_run_directory(scene):
    """A run that was submitted by that release is submitted again with its own copy of the code."""
    files = of_an_older_release(scene)
    scene.enter("one")
    (run,) = scene.rows("runs")
    assert RunFile.read(files.config).id == run["id"]
    (reserved,) = scene.rows("reservations")
    assert Allowance.from_json(files.allowance.read_text()).training == reserved["training"]
    first = scene.job().request.token
    scene.cluster.kill(scene.reach(6).id)
    scene.go(45)
    assert scene.job().request.token != first
    assert [path.name for path in files.revoked.iterdir()] == [first]
    assert sorted(path.name for path in files.generations.iterdir()) == ["000001", "000002"]
    scene.go(300)
    assert scene.state() == "completed"
    assert scene.spent()["useful"] == scene.steps
    check(scene)


def test_a_renewed_allowance_reaches_code_of_an_older_release(scene):
    files = of_an_older_release(scene)
    scene.enter("one")
    scene.make_pass()
    token = scene.job().request.token
    submission_files.allow(scene.study, [(token, "one")], {"one": 99})
    assert Allowance.from_json(files.allowance.read_text()).training == 99
    assert scene.orders_for(token) == (False, 99)


def test_marks_of_a_submission_without_a_file_are_written_again(scene):
    """An older release submitted it."""
    files = of_an_older_release(scene)
    scene.enter("one")
    scene.make_pass()
    scene.study.layout.submission(scene.job().request.token).unlink()
    allowed = files.allowance.read_text()
    files.allowance.unlink()
    assert f"one: {files.allowance} was missing and was written again" in scene.one_pass()
    assert files.allowance.read_text() == allowed
    assert not scene.study.layout.submission(scene.job().request.token).exists()


def test_a_file_that_is_written_again_never_lacks_a_revocation(scene, monkeypatch):
    """A worker that begins at that moment would train."""
    begun(scene, "one", "two")
    scene.cluster.silent = True
    token = scene.job("two").request.token
    scene.cancel("two")
    scene.study.layout.submission(token).unlink()
    monkeypatch.setattr(submission_files, "revoke", lambda *_: None)
    with scene.session() as session:
        submission_files.put_back(session.ledger, scene.study)
    assert scene.orders_for(token, "two")[0]


@pytest.mark.parametrize("harm", ["gone", "order lost"])
def test_what_workers_are_told_is_written_again(scene, harm):
    begun(scene, "one", "two")
    scene.cluster.silent = True  # the job is not seen to end
    token = scene.job("two").request.token
    scene.cancel("two")
    known = [scene.orders_for(token, name) for name in ("one", "two")]
    assert [revoked for revoked, _ in known] == [False, True]
    path = scene.study.layout.submission(token)
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().partition(b'{"revoke"')[0])
    scene.one_pass()
    assert [scene.orders_for(token, name) for name in ("one", "two")] == known


def test_a_refused_submission_leaves_no_file(scene, monkeypatch):
    def refuse(_request):
        raise SubmitRefused("invalid partition")

    monkeypatch.setattr(scene.cluster, "submit", refuse)
    with pytest.raises(UsageError, match="invalid partition"):
        scene.enter("one")
    assert list(scene.study.layout.submissions.iterdir()) == []
    assert scene.rows("runs") == []


def test_a_file_that_cannot_be_written_stops_the_submission_before_anything_is_made(scene, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(submission_files, "write_atomic", full)
    with pytest.raises(UsageError, match=r"jsonl cannot be written \(No space left on device\); nothing was submitted"):
        scene.enter("one")
    assert scene.rows("runs") == scene.cluster.jobs == []


def test_a_worker_writes_run_json_as_it_was_submitted(scene):
    begun(scene)
    path = scene.files().config
    whole = json.loads(path.read_text())
    path.write_text("{")
    scene.cluster.kill(scene.job().id)
    scene.go(300)
    assert json.loads(path.read_text()) == whole
    assert scene.state() == "completed"
