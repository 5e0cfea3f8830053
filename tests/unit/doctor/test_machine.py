"""The doctor's findings about a machine and a study's files: versions, profile, places, quotas, model, data."""

import json
import os
import sys

import pytest
from doctor_helpers import asked_of, levels, told

from lvjobs.cluster.profiles import load_profile, render
from lvjobs.cluster.templates import available_profiles
from lvjobs.doctor import places, profile, software
from lvjobs.doctor.quotas import Quota, parse_quota
from lvjobs.forecasting.data import make_dataset
from lvjobs.ledger.storage import Storage
from lvjobs.report.terminal.finding_lines import print_findings, summary


@pytest.fixture
def root(tmp_path):
    return tmp_path / "study"


@pytest.mark.torch
def test_versions_of_this_environment_are_enough(root):
    found = [*software.check_versions(asked_of(root, "local"))]
    assert levels(found) == {"versions": "fine"}
    for word in ("Python ", "lvjobs ", "torch ", "transformers ", "peft ", "bitsandbytes "):
        assert word in found[0].what


def test_a_package_that_is_too_old_or_missing():
    required = [
        "click>=999",
        "rich>=13",
        "no-such-thing>=1",
        "tomli>=99; python_version < '3'",
        "gguf>=99; extra == 'x'",
    ]
    wrong = {str(each): version for each, version in software.unmet(required)}
    assert wrong.keys() == {"click>=999", "no-such-thing>=1"}
    assert wrong["no-such-thing>=1"] == ""


def test_what_is_wrong_is_told_with_what_to_type(root, monkeypatch):
    monkeypatch.setattr(software.metadata, "requires", lambda _name: ["click>=999"])
    wrong, _ = software.check_versions(asked_of(root, "local"))
    assert wrong.level == "error"
    assert wrong.remedy == f"type: {sys.executable} -m pip install 'click>=999'"


@pytest.mark.torch
def test_a_torch_without_cuda_where_gpus_are_asked_for(root, monkeypatch):
    version = software._version
    monkeypatch.setattr(software, "_version", lambda name: "2.9.0+cpu" if name == "torch" else version(name))
    assert levels(software.check_versions(asked_of(root, "generic", gpus=1))) == {"versions": "error"}
    for asked in (asked_of(root, "generic", gpus=0), asked_of(root, "lab", gpus=1)):
        assert levels(software.check_versions(asked)) == {"versions": "fine"}, "nothing is lost there"


@pytest.mark.parametrize("name", available_profiles())
def test_the_profiles_that_are_shipped_keep_what_runs_need(root, name):
    asked = asked_of(root, name, account="mine")
    assert levels(profile.check_profile(asked)) == {"profile": "fine"}


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("#SBATCH --job-name", "error"),
        ("#SBATCH --requeue", "error"),
        ("#SBATCH --open-mode", "note"),
        ("#SBATCH --signal", "error"),
        ("srun", "error"),
        ('[ "$code"', "note"),
        ("export PYTHONPATH", "error"),
        ("unset PYTHONPATH", "note"),
    ],
)
def test_a_profile_of_ones_own_that_lacks_a_line(root, line, level):
    request = asked_of(root, "generic").sample()
    text = render(load_profile("generic"), request)
    lacking = "".join(each for each in text.splitlines(True) if not each.startswith(line))
    assert lacking != text
    (found,) = profile.what_is_lost(lacking, request)
    assert found.level == level
    assert found.remedy


def test_a_signal_to_the_shell_alone_is_none(root):
    request = asked_of(root, "generic").sample()
    text = render(load_profile("generic"), request).replace("--signal=USR2@", "--signal=B:USR2@")
    assert levels(profile.what_is_lost(text, request)) == {"profile": "error"}


def test_a_profile_that_wants_a_value_and_one_that_takes_none(root):
    (found,) = profile.check_profile(asked_of(root, "csd3-ampere"))
    assert (found.level, "account" in found.what, "[resources]" in found.remedy) == ("error", True, True)
    (found,) = profile.check_profile(asked_of(root, "local", account="x"))
    assert (found.level, "has no effect with profile local" in found.what) == ("error", True)


def test_a_study_and_no_study(root, tmp_path):
    (found,) = places.check_study(asked_of(root))
    assert (found.level, found.what) == ("fine", f"{root}, 0 runs")
    run = root / "checkpoints" / "one"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (found,) = places.check_study(asked_of(root))
    assert (found.level, "lvjobs ledger rebuild" in found.what + found.remedy) == ("error", True)


def test_a_study_of_somebody_else(root, monkeypatch):
    asked = asked_of(root)
    monkeypatch.setattr(places, "is_foreign", lambda _path: True)
    assert levels(places.check_study(asked)) == {"study": "error"}


def test_where_a_study_lies_and_who_may_look(root, monkeypatch):
    asked = asked_of(root, "generic")
    (root / "study.toml").chmod(0o600)
    storage = Storage(
        str(root), "/home", "nfs4", read_only=False, free_bytes=1 << 40, total_bytes=1 << 41, free_files=None
    )
    monkeypatch.setattr(places, "storage_of", lambda _path: storage)
    monkeypatch.setattr(places, "quota_of", lambda *_: None)
    found = [*places.check_storage(asked)]
    assert any("its locks are unreliable" in line for line in told(found, "note"))
    assert any("your quota on /home is unknown" in line for line in told(found, "note"))
    root.chmod(0o755)
    assert any(f"{root} is open to others" in line for line in told(places.check_storage(asked), "note"))


def test_a_full_file_system_is_an_error(root, monkeypatch):
    full = Storage(str(root), "/home", "ext4", read_only=False, free_bytes=0, total_bytes=1 << 41, free_files=None)
    monkeypatch.setattr(places, "storage_of", lambda _path: full)
    monkeypatch.setattr(places, "quota_of", lambda *_: None)
    found = [*places.check_storage(asked_of(root, "local"))]
    assert ["0 MiB are free" in line for line in told(found, "error")] == [True]
    assert not told(found, "fine")


@pytest.mark.parametrize(
    ("quota", "level"),
    [
        (Quota(90 << 30, 100 << 30, None, None), "fine"),
        (Quota(1 << 30, 100 << 30, None, None), "note"),
        (Quota(-1 << 30, 100 << 30, None, None), "error"),
        (Quota(None, None, 9_990, 10_000), "note"),
        (Quota(None, None, None, None), "fine"),
    ],
)
def test_a_quota(root, monkeypatch, quota, level):
    monkeypatch.setattr(places, "quota_of", lambda *_: quota)
    last = [*places.check_storage(asked_of(root, "local"))][-1]
    assert last.level == level


QUOTA = """\
Disk quotas for user someone (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
server:/export/home 9000* 8000 10000 1764000000 120 0 5000 0
"""
LUSTRE = """\
     /lustre/very/long/path
                   44496       0  100000       -     123       0       0       -
"""


def test_quota_and_lfs_quota_as_they_print():
    assert parse_quota(QUOTA, ("server:/export/home", "/home")) == Quota(-1000 * 1024, 8000 * 1024, 4880, 5000)
    assert parse_quota(LUSTRE, ("/lustre/very/long/path",)) == Quota(55504 * 1024, 100000 * 1024, None, None)
    assert parse_quota(QUOTA, ("/scratch",)) is None


@pytest.mark.parametrize(
    "text",
    ["", "/home  12.5 GB  50 GB  50 GB 25% | 10% | 100 files ok", "Filesystem /home none", "/home 1 2 3"],
)
def test_what_a_sites_own_quota_prints_is_passed_over(text):
    assert parse_quota(text, ("/home",)) is None


def test_quotas_are_asked_only_where_there_is_a_program(tmp_path, monkeypatch):
    from lvjobs.doctor.quotas import quota_of

    monkeypatch.setenv("PATH", str(tmp_path))
    assert quota_of("/home", "nfs4", "server:/export/home") is None
    script = tmp_path / "quota"
    script.write_text("#!/bin/sh\necho server:/export/home 1 2 3 0 4 5 6 0\nexit 1\n")
    script.chmod(0o755)
    assert quota_of("/home", "nfs4", "server:/export/home") == Quota(1024, 2048, 1, 5)


def test_a_python_that_other_machines_do_not_see(root, monkeypatch):
    for kind, level in (("tmpfs", "error"), ("ext4", "note"), ("lustre", None)):
        storage = Storage("/venv", "/", kind, read_only=False, free_bytes=1, total_bytes=1, free_files=None)
        monkeypatch.setattr(places, "storage_of", lambda _path, storage=storage: storage)
        assert [each.level for each in places.check_python(asked_of(root, "generic"))] == ([level] if level else [])
    assert [*places.check_python(asked_of(root, "local"))] == []


def test_the_models_of_train_and_stages(root, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert levels(places.check_model(asked_of(root))) == {"model": "fine"}
    stage = '[[stage]]\nname = "x"\nset = { model = "nobody/such" }\n'
    found = [*places.check_model(asked_of(root, toml=stage))]
    assert [each.level for each in found] == ["fine", "error", "error"]
    assert "lvjobs model pull nobody/such" in found[1].remedy
    assert "cannot be counted" in found[2].means


def test_the_data(root):
    (found,) = places.check_data(asked_of(root))
    assert (found.level, "no such file" in found.what, "lvjobs data make" in found.remedy) == ("error", True, True)
    make_dataset(root / "data.h5", systems=40)
    (found,) = places.check_data(asked_of(root))
    assert found.level == "fine"
    assert "40 systems of 100 steps and 2 variables (29 train, 3 validate, 8 are scored)" in found.what
    (root / "data.h5").write_text("no HDF5")
    (found,) = places.check_data(asked_of(root))
    assert (found.level, "is not an HDF5 file" in found.what) == ("error", True)


def test_slots_and_cores(root, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    (found,) = places.check_local(asked_of(root, "local", toml="local_slots = 2\n"))
    assert found.level == "fine"
    (found,) = places.check_local(asked_of(root, "local", toml="local_slots = 3\n"))
    assert (found.level, found.remedy) == ("note", "local_slots = 2 in study.toml")


def test_what_is_printed_fits_80_columns_and_ends_with_the_errors(capsys):
    from rich.console import Console

    def row(level, subject, what):
        return {"level": level, "subject": subject, "what": what, "means": "what follows " * 9, "remedy": "type " * 20}

    rows = [row("error", "account", "[bold]no markup"), row("fine", "Slurm", "answers"), row("note", "queue", "full")]
    print_findings(rows, Console(width=80))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line[:1].strip()] == ["fine", "note", "error", "1"]
    assert any("[bold]no markup" in line for line in lines)
    assert lines[-1] == "1 error (account); 1 note"
    assert summary(rows[1:2]) == "fine: no problem for runs was found"


def test_a_finding_is_plain_json(root):
    from dataclasses import asdict

    (found,) = places.check_study(asked_of(root))
    assert set(json.loads(json.dumps(asdict(found)))) == {"level", "subject", "what", "means", "remedy"}
