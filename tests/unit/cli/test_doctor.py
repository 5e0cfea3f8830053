"""`lvjobs doctor` as it is typed: exit codes, what is printed, and that it works with no Slurm at all."""

import json
import sys

import pytest

from lvjobs.forecasting.data import make_dataset

pytestmark = pytest.mark.torch  # the doctor compares what is installed with what lvjobs needs


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of this machine, on whose PATH there is no Slurm."""
    root, programs = tmp_path / "study", tmp_path / "bin"
    root.mkdir(mode=0o700)
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.chdir(root)
    (root / "study.toml").touch(mode=0o600)
    (root / "study.toml").write_text('profile = "local"\n')
    make_dataset(root / "data.h5", systems=20)
    return root


def everything(root):
    return {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}


def test_a_study_of_this_machine(study, typed):
    before = everything(study)
    code, out, err = typed("doctor")
    assert (code, err) == (0, "")
    assert "fine  this machine  1 job at once" in out
    assert "fine: no problem for runs was found" in out
    assert "\x1b" not in out, "plain in a pipe"
    assert everything(study) == before, "it changes nothing"


def test_json(study, typed):
    code, out, _ = typed("doctor", "--json")
    shown = json.loads(out)
    assert code == 0
    assert (shown["schema"], shown["fine"], shown["profile"]) == (1, True, "local")
    assert {"level", "subject", "what", "means", "remedy"} == set(shown["findings"][0])
    assert {"fine", "note"} >= {finding["level"] for finding in shown["findings"]}


def test_what_is_wrong_is_exit_code_1(study, typed):
    (study / "data.h5").unlink()
    code, out, _ = typed("doctor")
    assert code == 1
    assert "error  data" in out
    assert out.splitlines()[-1].startswith("1 error (data)")


def test_a_profile_of_slurm_where_there_is_none(study, typed):
    code, out, _ = typed("doctor", "--profile", "generic")
    assert code == 1
    assert "not on PATH" in out
    assert "1 error (Slurm)" in out


def test_outside_a_study(tmp_path, study, typed, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    code, out, _ = typed("doctor")
    assert code == 0
    assert f"no study in {elsewhere}" in out
    assert "lvjobs init --profile local" in out
    assert list(elsewhere.iterdir()) == []
    code, _, err = typed("doctor", "--study", elsewhere / "nowhere")
    assert (code, "is not a directory" in err) == (2, True)


def test_a_study_toml_and_a_profile_that_cannot_be_read(study, typed):
    (study / "study.toml").write_text('profil = "local"\n')
    code, out, _ = typed("doctor")
    assert code == 1
    assert "did you mean 'profile'?" in out
    (study / "study.toml").write_text('profile = "locale"\n')
    code, out, _ = typed("doctor")
    assert code == 1
    assert "there is no 'locale'; choose one of local" in out
    assert "the checks below use profile local" in out


def test_a_test_job_on_this_machine(study, typed):
    before = everything(study)
    code, out, err = typed("doctor", "--job", "--json", "--timeout", "1200")
    assert code == 0, out + err
    assert "test job L1: submitted" in err
    found = {finding["subject"]: finding for finding in json.loads(out)["findings"]}
    assert found["test job"]["what"].startswith("job L1 ran after")
    assert found["node: files"]["level"] == found["node: Python"]["level"] == found["node: scratch"]["level"] == "fine"
    assert everything(study).keys() == before.keys(), "it leaves nothing"
