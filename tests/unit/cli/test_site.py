"""The place where runs of a new study train, on a machine that reaches a Slurm cluster and on one that does not."""

import pytest

from lvjobs.cli import site
from lvjobs.cluster import presence
from lvjobs.cluster.presence import Presence, find_slurm
from lvjobs.study.config import load_study

CLUSTER = Presence(("gpu", "cpu"), with_gpus=1, accounts=("lab",))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def found(monkeypatch):
    def find(cluster):
        monkeypatch.setattr(site, "find_slurm", lambda: cluster)
        monkeypatch.setattr("lvjobs.control.backends.cluster_for", lambda *_: pytest.fail("it is asked too late"))

    return find


def answer(monkeypatch, *answers):
    """Answer the questions of a terminal."""
    given = iter(answers)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(site.sys, "stdin", type("Terminal", (), {"isatty": lambda _: True})())
    asked = []
    monkeypatch.setattr(site.click, "prompt", lambda text, default=None: asked.append((text, default)) or next(given))
    return asked


def settings(place):
    study = load_study(place).config
    return study.profile, study.resources.account, study.resources.partition


def test_where_slurm_answers_nothing_is_chosen_silently(place, typed, found):
    found(CLUSTER)
    code, out, err = typed("init")
    assert (code, out) == (2, "")
    assert "this may be a login node; add --yes to use profile generic (account lab, partition gpu)" in err
    assert "or add --local to train on this machine" in err
    assert not (place / "study.toml").exists()


def test_where_slurm_does_not_answer_nothing_is_chosen_either(place, typed, found):
    found(Presence(is_silent=True))
    code, _, err = typed("init")
    assert code == 2
    assert "Slurm is configured here but did not answer" in err
    assert not (place / "study.toml").exists()


def test_yes_takes_what_is_proposed(place, typed, found, monkeypatch):
    found(CLUSTER)
    monkeypatch.setattr("lvjobs.cli.init._print_concerns", lambda *_: None)
    code, out, _ = typed("init", "--yes")
    assert code == 0
    assert out.startswith("proposed: profile generic, account lab, partition gpu\n")
    assert settings(place) == ("generic", "lab", "gpu")


def test_local_is_taken_at_its_word(place, typed, found):
    found(CLUSTER)
    assert typed("init", "--local")[0] == 0
    assert settings(place) == ("local", None, None)
    assert typed("init", "--local", "--profile", "generic", "--force")[0] == 2


def test_a_machine_without_a_cluster_is_local(place, typed, found):
    found(None)
    assert typed("init")[0] == 0
    assert settings(place) == ("local", None, None)


def test_a_terminal_is_asked(place, typed, found, monkeypatch):
    found(CLUSTER)
    monkeypatch.setattr("lvjobs.cli.init._print_concerns", lambda *_: None)
    asked = answer(monkeypatch, "generic", "lab", "cpu")
    code, out, _ = typed("init")
    assert code == 0
    assert "do not choose local on a login node" in out
    assert [default for _, default in asked] == ["generic", "lab", "gpu"]
    assert settings(place) == ("generic", "lab", "cpu")


def test_a_profile_that_needs_an_account_asks_for_it(place, typed, monkeypatch):
    monkeypatch.setattr("lvjobs.cli.init._print_concerns", lambda *_: None)
    _, _, err = typed("init", "--profile", "csd3-ampere")
    assert "note: profile csd3-ampere needs an account: set account under [resources]" in err
    asked = answer(monkeypatch, "ME-GPU")
    typed("init", "--profile", "csd3-ampere", "--force")
    assert "profile csd3-ampere needs one" in asked[0][0]
    assert settings(place) == ("csd3-ampere", "ME-GPU", None)


def test_a_study_inside_another_one_is_noted(place, typed):
    assert typed("init", "--local")[0] == 0
    (place / "inner").mkdir()
    _, _, err = typed("init", "--local", "--study", "inner")
    assert f"note: this study is inside another one ({place})" in err


def test_partitions_with_gpus_come_first(monkeypatch):
    replies = {"sinfo": "cpu*|(null)\ngpu|gpu:a100:4\n", "sacctmgr": "lab\nlab\nother\n"}
    monkeypatch.setattr(presence.shutil, "which", lambda _: "/usr/bin/sinfo")
    done = presence.answered.__globals__["CompletedProcess"]
    monkeypatch.setattr(presence, "run", lambda words, _seconds: done(words, 0, replies[words[0]], ""))
    assert find_slurm() == Presence(["gpu", "cpu"], 1, ["lab", "other"])


def test_programs_without_a_cluster_are_no_cluster(monkeypatch):
    done = presence.answered.__globals__["CompletedProcess"]
    said = "sinfo: fatal: Could not establish a configuration source"
    monkeypatch.setattr(presence.shutil, "which", lambda _: "/usr/bin/sinfo")
    monkeypatch.setattr(presence, "run", lambda words, _seconds: done(words, 1, "", said))
    assert find_slurm() is None
    monkeypatch.setattr(presence, "run", lambda words, _s: done(words, 1, "", "Unable to contact slurm controller"))
    assert find_slurm() == Presence(is_silent=True)
