"""The study and the runs that a command means: from below a study, by job id, stage and glob; and Ctrl-C."""

import io
import os
from types import SimpleNamespace

import pytest

from lvjobs.api.select import name_of, names_of
from lvjobs.cli import main
from lvjobs.control.inspect.alternatives import Alternative, StartEstimate, find_alternatives
from lvjobs.errors import UsageError
from lvjobs.processes import submitted
from lvjobs.study.config import load_study
from lvjobs.study.found import options_for, study_above


@pytest.fixture
def study(tmp_path, monkeypatch):
    (tmp_path / "study.toml").write_text('[train]\ntask = "toy_task:priced"\nsteps = 4\n')
    monkeypatch.chdir(tmp_path)
    return load_study(tmp_path)


@pytest.fixture
def known(study, monkeypatch):
    """A study whose last update saw three runs."""
    names = {"first-r4-s0-aaaa": ("first", "7_0"), "first-r8-s0-bbbb": ("first", "7_1"), "base": ("train", "9")}
    rows = [
        {"id": f"id{at}", "name": name, "stage": stage, "state": "queued", "job_id": job, "ordinal": at}
        for at, (name, (stage, job)) in enumerate(names.items())
    ]
    monkeypatch.setattr("lvjobs.api.select.read_summary", lambda _path: {"runs": rows})
    return study


FIRST = ["first-r4-s0-aaaa", "first-r8-s0-bbbb"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["base"], ["base"]),
        (["7_1"], ["first-r8-s0-bbbb"]),
        (["9"], ["base"]),
        (["7"], FIRST),
        (["first"], FIRST),
        (["*-r4-*", "7_0"], ["first-r4-s0-aaaa"]),
        (["aaaa"], ["aaaa"]),
    ],
)
def test_runs_are_named_by_job_stage_and_glob(known, words, names):
    assert names_of(known, words) == names


def test_a_part_of_a_name_comes_before_the_id_of_an_earlier_job(known, monkeypatch):
    monkeypatch.setattr("lvjobs.ledger.read_only.runs_of_job", lambda *_: ["base"])
    assert names_of(known, ["aaaa", "6"]) == ["aaaa", "base"]


@pytest.mark.parametrize(("answer", "cancelled"), [("y", FIRST), ("n", None)])
def test_cancel_asks_in_a_terminal_for_exactly_these_runs(known, monkeypatch, typed, answer, cancelled):
    done = []

    def cancelled_now(_study, *names):
        done.append(list(names))
        return SimpleNamespace(
            states=dict.fromkeys(names, "cancelled"), parsed=SimpleNamespace(unanswered_seconds=None)
        )

    monkeypatch.setattr("lvjobs.api.study.Study.cancel", cancelled_now)
    monkeypatch.setattr("lvjobs.cli.updates.print_update", lambda *_, **__: None)
    terminal = io.StringIO(f"{answer}\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", terminal)
    _, out, _ = typed("cancel", "first")
    assert f"Cancel 2 runs ({', '.join(FIRST)})?" in out
    assert done == ([cancelled] if cancelled else [])
    assert ("Nothing was cancelled." in out) == (cancelled is None)
    typed("cancel", "aaaa", "--yes")
    assert done[-1] == ["first-r4-s0-aaaa"]


def test_several_runs_where_one_is_meant_are_listed(known):
    with pytest.raises(UsageError, match="'7' names 2 runs: first-r4-s0-aaaa, first-r8-s0-bbbb; choose one of them"):
        name_of(known, "7")
    with pytest.raises(UsageError, match="no run matches 'x\\*'"):
        names_of(known, ["x*"])


def test_a_study_is_found_from_below(study, typed, monkeypatch):
    inner = study.root / "checkpoints" / "one"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    code, out, err = typed("status")
    assert (code, err) == (0, "")
    assert out == "No runs yet. Type: lvjobs submit run\n"
    assert options_for(study.root) == ()
    assert not (inner / ".lvjobs").exists()


def test_a_directory_of_another_user_is_no_study(study, monkeypatch):
    assert study_above(study.root) == study.root
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    assert study_above(study.root) is None


@pytest.mark.parametrize(
    "words",
    [
        ["sweep", "plan"],
        ["sweep", "all"],
        ["sweep", "stage1"],
        ["sweep", "nosuch", "--dry-run"],
        ["evaluate", "x"],
        ["forecast", "x", "--series", "1"],
    ],
    ids=" ".join,
)
def test_without_a_study_none_is_assumed(tmp_path, monkeypatch, typed, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = typed(*words)
    assert (code, out) == (2, "")
    assert err == f"lvjobs: there is no study in {tmp_path}; type: lvjobs init, or name one with --study\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("began", "words"), [(False, "this command submitted nothing"), (True, "submitted jobs continue")]
)
def test_an_interrupt_says_whether_anything_was_submitted(study, monkeypatch, capsys, began, words):
    def interrupted(*_arguments, **_options):
        if began:
            submitted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr("lvjobs.cli.submit.prepare_task", interrupted)
    monkeypatch.setattr("sys.argv", ["lvjobs", "submit", "run"])
    submitted.clear()
    with pytest.raises(SystemExit, match="130"):
        main()
    submitted.clear()
    assert capsys.readouterr().err.lstrip("\n") == f"lvjobs: interrupted; {words}; type: lvjobs status\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "gpus=2"], "unknown key 'gpus'; did you mean 'resources.gpus'?"),
        (["--set", "lr=2"], "unknown key 'lr'; did you mean 'learning_rate'?"),
        (["--steps", "many"], "steps = 'many': 'many' is not a number; write one, such as 5000"),
        (["--memory-mb", "lots"], "memory_mb = 'lots': 'lots' is not a number; write one, such as 8000"),
        (["--time-limit", "12"], "--time-limit 12: the unit is missing; write 12m for minutes, or 12h for hours"),
        (["--time-limit", "0"], "'0' is no time at all"),
        (["--time-limit", "0m"], "'0m' is no time at all"),
        (["--set", "resources.time_limit=12"], "--set resources.time_limit 12: the unit is missing"),
        (["--set", "precision=fp64"], "precision = 'fp64'"),
        (["--data", "."], "is a directory, not an HDF5 file; name a file with --data"),
    ],
)
def test_bad_values_are_explained_by_an_example_of_their_own_kind(tmp_path, monkeypatch, typed, words, message):
    (tmp_path / "study.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    code, out, err = typed("submit", "train", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[budget]\nlimit = "2 PFLOP"',
            "budget.limit = '2 PFLOP': '2 PFLOP' is not a number; write one, such as 1e+17",
        ),
        ("[[stage]]\nname = 'a'\ngrid = { learning_rate = 4e-3 }", "stage a: grid.learning_rate"),
        ("[[stage]]\nname = 'a'\ngrid = { learning_rate = 4e-3 }", "write a list: [0.004]"),
        ('[train]\nprecision = "fp23"', "did you mean 'fp32'?"),
    ],
)
def test_a_study_toml_that_is_wrong_names_the_stage_and_shows_what_to_write(tmp_path, text, message):
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(UsageError) as refused:
        load_study(tmp_path)
    assert message in str(refused.value)


def test_an_unknown_key_of_a_grid_is_named_with_the_known_one(tmp_path, monkeypatch, typed):
    (tmp_path / "study.toml").write_text("[[stage]]\nname = 'a'\ngrid = { lr = [4e-3] }\n")
    monkeypatch.chdir(tmp_path)
    code, _, err = typed("sweep", "plan")
    assert code == 2
    assert "did you mean 'learning_rate'?" in err
    (tmp_path / "study.toml").write_text("[[stage]]\nname = 'a'\ngrid = { gpus = [1, 2] }\n")
    code, _, err = typed("sweep", "plan")
    assert code == 2
    assert "unknown key 'gpus'; it belongs to [resources], which all stages share" in err


def test_a_time_limit_without_a_unit_in_study_toml_is_refused_at_submission_alone(tmp_path, monkeypatch, typed):
    (tmp_path / "study.toml").write_text(
        '[resources]\ntime_limit = "90"\n[train]\ntask = "toy_task:priced"\nsteps = 4\n'
    )
    monkeypatch.chdir(tmp_path)
    assert typed("status")[0] == 0
    code, _, err = typed("submit", "run")
    assert code == 2
    assert "time_limit = 90: the unit is missing; write 90m for minutes, or 90h for hours" in err
    with (tmp_path / "study.toml").open("a") as file:
        file.write("[[stage]]\nname = 'a'\nset = { seed = 1 }\n")
    for words in (["all"], ["all", "--dry-run"], ["a"]):
        code, _, err = typed("sweep", *words)
        assert (code, err.count("the unit is missing")) == (2, 1)


def test_memory_has_units(tmp_path):
    (tmp_path / "study.toml").write_text('[resources]\nmemory_mb = "16G"\n')
    assert load_study(tmp_path).config.resources.memory_mb == 16384


@pytest.mark.parametrize(
    ("typed_option", "in_script"), [(("--gpus", 2), "--gres=gpu:2"), (("--memory-mb", "16G"), "--mem=16384M")]
)
def test_a_typed_resource_is_in_the_script(study, typed, typed_option, in_script):
    cluster = ("--profile", "csd3-ampere", "--account", "X")
    code, out, err = typed("submit", "run", *cluster, *typed_option, "--dry-run")
    assert code == 0, err
    assert in_script in out


def test_a_task_whose_module_does_not_exist_is_named(tmp_path, monkeypatch, typed):
    (tmp_path / "study.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    code, _, err = typed("submit", "run", "nomod:train", "--steps", "4")
    assert code == 2
    assert "nomod:train cannot be imported (ModuleNotFoundError: No module named 'nomod')" in err
    (tmp_path / "here_only.py").write_text("")
    code, _, err = typed("submit", "run", "here_only:train", "--steps", "4")
    assert code == 2
    assert "here_only has no function train; nothing was submitted: correct the name" in err


def test_only_what_starts_sooner_is_offered(monkeypatch):
    starts = {"a job like it, sent now": 5000.0, "30 min": 900.0, "partition x": 5000.0, "partition y": None}
    wanted = [Alternative(words) for words in starts]
    module = "lvjobs.control.inspect.alternatives"
    monkeypatch.setattr(f"{module}.alternatives", lambda *_: wanted)
    monkeypatch.setattr(f"{module}.measured_limit", lambda *_: None)
    monkeypatch.setattr(f"{module}.variables_of", lambda *_: {})
    monkeypatch.setattr(f"{module}._ask", lambda _s, _c, _r, each: StartEstimate(each, starts[each.words]))
    session = Session()
    row = {"id": "r1", "job_id": "7", "start_estimate": 1000.0}
    assert [each.alternative.words for each in find_alternatives(session, row)] == ["30 min"]
    assert [each.alternative.words for each in find_alternatives(session, row | {"start_estimate": 500.0})] == []
    assert [each.start for each in find_alternatives(session, row | {"start_estimate": None})] == [900.0]


class Session:
    """A session with one run, whose cluster has no partitions."""

    def __init__(self):
        self.ledger = self.study = self
        self.layout = None
        self.config = {"params": {}}
        self.partitions = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def transaction(self):
        return self

    def find_run(self, id):  # noqa: A002 - the name of the argument
        return self

    def cluster_of(self, _run):
        return self

    def probe(self):
        return self
