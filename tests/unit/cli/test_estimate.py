"""`lvjobs plan`, `--dry-run` and `--fit`: what is shown before money is spent, and what is submitted instead."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from control_builders import an_attempt
from fake_hub import make_model, put_in_cache
from simulator.cluster import SimulatedCluster
from simulator.engine import Clock

from lvjobs.cli import submit as submit_command
from lvjobs.control.loop import open_session
from lvjobs.control.stages import submit_runs
from lvjobs.forecasting.data import make_dataset
from lvjobs.ledger.lease import acquire
from lvjobs.ledger.records import Charge, WorkCounts
from lvjobs.records.submission import read_members
from lvjobs.study.config import load_study
from lvjobs.study.words import RunState
from lvjobs.tasks.code_copies import CodeCopy

PUBLISHED = """
[train]
model = "Qwen/Qwen2.5-0.5B-Instruct"
[[stage]]
name = "base"
steps = 5000
set = { context_length = 512, lora_rank = 4 }
[[stage]]
name = "stage1"
steps = 500
grid = { lora_rank = [2, 4, 8], learning_rate = [1e-4, 5e-5, 1e-5] }
[[stage]]
name = "stage2"
from = "stage1"
steps = 500
grid = { context_length = [128, 512, 768] }
[[stage]]
name = "final"
from = "stage2"
steps = 10_000
[[stage]]
name = "evaluate"
evaluate = ["base", "stage1", "stage2", "final"]
"""
"""The published study."""

SMALL = """
[train]
model = "tiny"
steps = 40
checkpoint_every = 5
context_length = 64
batch_size = 2
validation_limit = 2
[budget]
limit = {limit}
[evaluation]
series = 0
[[stage]]
name = "s"
grid = {{ lora_rank = [2, 4] }}
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    (tmp_path / "study.toml").write_text(PUBLISHED)
    return tmp_path


NINE = """
[[stage]]
name = "nine"
steps = 500
grid = { learning_rate = [1e-4, 5e-5, 1e-5], seed = [0, 1, 2] }
"""


@pytest.fixture
def lvjobs(typed):
    """Types a command; returns its exit code, output and errors, with blanks as one."""
    return typed


@pytest.fixture
def small(study, monkeypatch):
    """A study of `tiny` on a cluster that starts nothing; call it to set the limit."""
    make_dataset(study / "data.h5", systems=4, seed=0)
    cluster = SimulatedCluster(Clock(), lambda _job: None)
    monkeypatch.setattr("lvjobs.cluster.local.LocalCluster", lambda *_, **__: cluster)
    monkeypatch.setattr(submit_runs, "snapshot_code", lambda *_: CodeCopy("c0de"))

    def limited(limit):
        (study / "study.toml").write_text(SMALL.format(limit=limit))
        return cluster

    return limited


def rows(text, title):
    """The table below a title: first column -> the others."""
    block = text.partition(title)[2].partition("\n\n")[0]
    return {line.split()[0]: line.split()[1:] for line in block.splitlines()[1:]}


def asked(lvjobs, *arguments):
    """Return the FLOPs that so many runs would take."""
    code, out, err = lvjobs("estimate", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


# -- the published study ------------------------------------------------------------------------------------------------


def test_the_three_totals_of_training(study, lvjobs):
    code, out, err = lvjobs("estimate", "--conventions")
    assert (code, err) == (0, "")
    table = rows(out, "training only, FLOPs:")
    assert table["stage"] == ["runs", "steps", "published-formula", "official", "exact"]
    assert table["total"] == ["14", "21,000", "4.243e16", "1.775e17", "1.146e17"]
    assert table["base"] == ["1", "5,000", "7.961e15", "3.386e16", "2.171e16"]
    assert table["stage1"] == ["9", "4,500", "7.186e15", "3.048e16", "1.954e16"]
    assert table["stage2"] == ["3", "1,500", "2.255e15", "9.397e15", "6.053e15"]
    assert table["final"] == ["1", "10,000", "2.503e16", "1.038e17", "6.729e16"]


def test_validation_and_evaluation_come_on_top(study, lvjobs):
    told = asked(lvjobs)
    for convention in ("published-formula", "official", "exact"):
        for part in ("training", "validation", "evaluation", "replay"):
            assert told["total"][part][convention] == sum(stage[part][convention] for stage in told["stages"]) > 0
    by_name = {stage["name"]: stage for stage in told["stages"]}
    assert by_name["final"]["windows"] == 41 * 32  # untrained, and with each of 40 checkpoints
    assert by_name["stage1"]["series"] == 9 * 200
    _, out, _ = lvjobs("estimate", "--conventions")
    full = sum(told["total"][part]["official"] for part in ("training", "validation", "evaluation"))
    shown = rows(out, "with validation and evaluation, FLOPs:")["total"]
    assert float(shown[3]) == float(f"{full:.3e}") > 1.775e17


def test_no_evaluation_is_asked_for(study, lvjobs):
    (study / "study.toml").write_text("[evaluation]\nseries = 0\n" + PUBLISHED)
    told = asked(lvjobs)
    assert told["total"]["series"] == told["total"]["evaluation"]["official"] == told["needed_for_evaluation"] == 0


def test_it_does_not_fit_and_the_final_run_alone_is_the_cause(study, lvjobs):
    _, out, _ = lvjobs("estimate")
    words = " ".join(out.split())
    assert re.match(r"Does not fit: needs 1\.\d+e17 FLOPs at once \(stages run in sequence\); 1e17 available", words)
    assert re.search(r"The final run alone is the cause: it needs 1\.\d+e17, more than the whole limit; without", words)
    cause = asked(lvjobs)["cause"]
    assert cause["remedies"] == ["final"]
    assert cause["needs"] > 10**17 >= cause["rest_needs"]


def test_two_plans_fit_with_their_sums(study, lvjobs):
    told = asked(lvjobs)
    whole, reduced = told["plans"]
    assert [part["name"] for part in whole["stages"]] == ["base", "stage1", "stage2", "final"]
    assert [part["steps"] for part in whole["stages"]] == [5000, 500, 500, 2000]
    assert (reduced["left_out"], [part["steps"] for part in reduced["stages"]]) == (["base"], [500, 500, 5250])
    for plan in (whole, reduced):
        done = sum(part["work"] for part in plan["stages"])
        assert plan["work"] == done
        assert plan["needed"] == done + plan["stages"][-1]["replay"] == 10**17 - plan["spare"] <= 10**17
        # another interval of training alone would be too much
        assert plan["spare"] < 250 * told["stages"][-1]["training"]["official"] // 10_000
    _, out, _ = lvjobs("estimate")
    titles = (
        "Plan 1, which fits: every stage, final cut from 10,000 to 2,000 steps",
        "Plan 2, which fits: without base",
    )
    for plan, title in zip((whole, reduced), titles, strict=True):
        table = rows(out, title)
        assert [float(table[part["name"]][2]) for part in plan["stages"]] == [
            float(f"{part['work']:.3e}") for part in plan["stages"]
        ]
        assert float(table["sum"][0]) == float(f"{plan['work']:.3e}")


def test_under_another_convention_that_binds_other_plans(study, lvjobs):
    (study / "study.toml").write_text('[budget]\nconvention = "report"\n' + PUBLISHED)
    told = asked(lvjobs)
    assert told["fits"]
    assert told["plans"] == []
    _, out, _ = lvjobs("estimate")
    assert re.match(r"Fits: needs .* \(limit 1e17; published-formula convention\)\.", out)


def test_what_is_trained_once_for_two_stages_is_said(study, lvjobs):
    """Rank 8 at 512 is stage 2's middle cell, if it wins stage 1; and the dearest is taken to win."""
    told = asked(lvjobs)
    assert [(item["stage"], item["same_as"], item["runs"]) for item in told["reuse"]] == [("stage2", "stage1", 1)]
    assert "stage2 reuses 1 run of stage1, which saves " in " ".join(lvjobs("estimate")[1].split())


@pytest.mark.parametrize("width", [80, 100])
def test_the_tables_fit(study, lvjobs, monkeypatch, width):
    from lvjobs.report.terminal.estimate_lines import estimate_lines

    lines = estimate_lines(asked(lvjobs, "--flops-per-second", "5e13", "--profile", "csd3-ampere"), width)
    assert max(map(len, lines)) <= width
    assert sum(line.startswith("stage1 ") for line in lines) == 4
    assert not any("…" in line for line in lines)


# -- with little at hand ------------------------------------------------------------------------------------------------


def test_nothing_is_made_and_no_torch_is_loaded(study):
    code = (
        "import sys\nfrom lvjobs.cli import cli\ncli(['estimate'], standalone_mode=False)\n"
        "print(*{'torch', 'transformers', 'peft'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert "Does not fit: needs 1.832e17 FLOPs at once" in done.stdout
    assert [path.name for path in study.iterdir()] == ["study.toml"]


def test_a_run_and_a_stage_alone(study, lvjobs):
    told = asked(lvjobs, "train", "--steps", "1e3", "--context-length", "768", "--lora-rank", "8")
    (stage,) = told["stages"]
    assert (stage["name"], stage["runs"], stage["steps"]) == ("train", 1, 1000)
    assert stage["training"]["official"] * 10 == asked(lvjobs, "final")["stages"][0]["training"]["official"]
    assert asked(lvjobs, "stage1")["stages"] == asked(lvjobs)["stages"][1:2]
    assert asked(lvjobs, "stage1")["fits"]


def test_the_published_study_that_fits_has_all_parts_of_the_published_one(study, lvjobs):
    plans = {}
    for preset in ("published", "published-fits", "five-steps"):
        assert lvjobs("init", "--preset", preset, "--force")[0] == 0
        plans[preset] = json.loads(lvjobs("sweep", "plan", "--json")[1])
    whole, fitting = plans["published"], plans["published-fits"]
    assert not whole["fits"]
    assert fitting["fits"]
    assert plans["five-steps"]["fits"]
    assert plans["five-steps"]["needed"] < fitting["needed"], "fewer steps are validated and forecast"
    assert fitting["limit"] == 10**17
    parts = [(stage["name"], stage["runs"]) for stage in fitting["stages"]]
    assert parts == [(stage["name"], stage["runs"]) for stage in whole["stages"]]
    assert all(stage["evaluation"]["official"] for stage in fitting["stages"])
    grids = [{"grid": each["grid"], "evaluate": each["evaluate"]} for each in fitting["declared"]]
    assert grids == [{"grid": each["grid"], "evaluate": each["evaluate"]} for each in whole["declared"]]
    assert f"{fitting['needed']:.1e}" == "9.7e+16"  # docs/sweeps.md
    total = sum(whole["total"][part]["official"] for part in ("training", "validation", "evaluation"))
    assert f"{total:.2e}" == "1.85e+17"  # docs/sweeps.md


def test_a_final_run_that_continues_the_winner_is_cheaper_by_the_steps_not_trained_twice(study, lvjobs):
    """Stage 2 trains 500 of the final run's 10,000 steps, and validates at 0, 250 and 500 of them."""
    assert lvjobs("init", "--preset", "published", "--force")[0] == 0
    apart = json.loads(lvjobs("plan", "--json")[1])["stages"]
    written = (study / "study.toml").read_text()
    declared = 'name = "final"\nfrom = "stage2"\n'
    assert declared in written
    (study / "study.toml").write_text(written.replace(declared, declared + "continue = true\n"))
    continued = json.loads(lvjobs("plan", "--json")[1])["stages"]
    assert continued[:-1] == apart[:-1]
    before, after = apart[-1], continued[-1]
    assert (before["steps"], after["steps"]) == (10_000, 9_500)
    for convention, flops in before["training"].items():
        assert flops - after["training"][convention] == flops * 500 // 10_000
    assert before["windows"] - after["windows"] == 3 * before["windows"] // 41
    assert before["evaluation"] == after["evaluation"]


def test_one_stage_that_does_not_fit_points_to_fit(study, lvjobs):
    _, out, _ = lvjobs("estimate", "final")
    assert "add --fit" in " ".join(out.split())
    assert "A plan" not in out


def test_without_its_evaluation_it_would_fit(study, lvjobs):
    told = asked(lvjobs, "stage1")
    limit = told["needed"] - told["needed_for_evaluation"]
    (study / "study.toml").write_text(f"[budget]\nlimit = {limit}\n" + PUBLISHED)
    assert "not all of its evaluation will fit" in " ".join(lvjobs("estimate", "stage1")[1].split())
    (study / "study.toml").write_text(f"[budget]\nlimit = {limit - 1}\n" + PUBLISHED)
    assert "add --fit" in " ".join(lvjobs("estimate", "stage1")[1].split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stage9"], ["stage9", "base, stage1"]),
        (["--flops-per-second", "fast"], ["--flops-per-second", "fast"]),
        (["--flops-per-second", "0"], ["--flops-per-second", "positive"]),
        (["--flops-per-second", "inf"], ["--flops-per-second", "positive"]),
        (["--model", "gpt-17"], ["gpt-17", "tiny"]),
        (["--steps", "0"], ["steps", "greater than 0"]),
        (["--profile", "nowhere"], ["nowhere", "csd3-ampere"]),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line(study, lvjobs, arguments, words):
    code, out, err = lvjobs("estimate", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stage = []\n", "no [[stage]]"),
        ('[[stage]]\nname = "s"\ngrid = { lora_rank = [2], seed = [] }\n', "no value for seed"),
        ("[evaluation]\nseries = -1\n", "evaluation.series"),
        ('[[stage]]\nname = "s"\n[[stage]]\nname = "s"\n', "two stages are called s"),
    ],
)
def test_a_study_that_declares_nothing_to_count(study, lvjobs, text, words):
    (study / "study.toml").write_text(text)
    code, out, err = lvjobs("estimate")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


SEARCHED = """
[train]
model = "tiny"
steps = 40
checkpoint_every = 20
[[stage]]
name = "search"
space = { lora_rank = { low = 2, high = 32 }, learning_rate = { low = 1e-5, high = 1e-3, log = true }, format = ["raw"], batch_size = [1, 2] }
search = { trials = 9 }
seeds = [0, 1]
[[stage]]
name = "final"
from = "search"
"""


def test_trials_that_are_to_come_are_counted_at_the_dearest_point(study, lvjobs):
    (study / "study.toml").write_text(SEARCHED)
    told = asked(lvjobs)
    searched, final = told["stages"]
    assert (searched["runs"], searched["existing"]) == (18, 0)
    _, out, _ = lvjobs("estimate", "train", "--lora-rank", "32", "--batch-size", "2")
    one = asked(lvjobs, "train", "--lora-rank", "32", "--batch-size", "2")["stages"][0]
    for part in ("training", "validation"):
        assert searched[part]["official"] == 18 * one[part]["official"]
        assert final[part]["official"] == one[part]["official"], "built on the dearest"
    point = {"lora_rank": 32, "learning_rate": 1e-5, "format": "raw", "batch_size": 2}
    assert told["searches"] == [{"stage": "search", "trials": 9, "dearest": point}]
    code, out, _ = lvjobs("sweep", "plan")
    words = " ".join(out.split())
    assert code == 0
    assert (
        "search: 18 runs, lora_rank 2 to 32 x learning_rate 1e-05 to 0.001 (log) x format ['raw'] x batch_size [1, 2]; "
        "9 trials by TPE, the first 3 at random, 4 at a time; seeds [0, 1]; the winner" in words
    )
    assert "takes lora_rank, learning_rate, format, batch_size from search's winner" in words
    assert (
        "9 trials of search will be proposed later; each counts as the most expensive point: lora_rank 32, "
        "learning_rate 1e-05, format raw, batch_size 2." in words
    )


def test_what_of_a_space_costs_nothing_is_not_looked_at_in_every_combination(study, lvjobs, monkeypatch):
    from lvjobs.control.planning import foresee

    (study / "study.toml").write_text(SEARCHED.replace("seeds = [0, 1]", ""))
    counted = []
    rates_of = foresee.rates_of
    monkeypatch.setattr(foresee, "rates_of", lambda config: counted.append(config) or rates_of(config))
    asked(lvjobs)
    assert len(counted) < 40


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"high = 32": "high = 1e9"}, ""),
        ({"low = 1e-5": "low = -1e-5", ", log = true": ""}, "stage search: learning_rate = -1e-05"),
        ({"batch_size = [1, 2]": "batch_size = [0, 2]"}, "stage search: batch_size = 0"),
        ({"trials = 9 }": "trials = 9 }\nprune = { first = 7 }"}, "stage search compares its runs at step 7"),
    ],
)
def test_ends_of_a_space_that_train_refuses(study, lvjobs, changes, words):
    text = SEARCHED
    for old, new in changes.items():
        text = text.replace(old, new)
    (study / "study.toml").write_text(text)
    code, _, err = lvjobs("estimate")
    assert (code, words in err) == (2 if words else 0, True)


def test_no_fit_for_a_search(study, lvjobs):
    (study / "study.toml").write_text(SEARCHED)
    make_dataset(study / "data.h5", seed=1, systems=12)
    code, _, err = lvjobs("sweep", "search", "--fit")
    assert (code, err.count("\n")) == (2, 1)
    assert "search searches" in err


def test_a_speed_gives_times(study, lvjobs):
    told = asked(lvjobs, "base", "--flops-per-second", "1e13", "--profile", "csd3-ampere")
    (stage,) = told["stages"]
    seconds = (stage["training"]["official"] + stage["validation"]["official"]) / 1e13
    assert stage["run_seconds"] == stage["stage_seconds"] == pytest.approx(seconds, abs=1)
    assert stage["gpu_seconds"] == stage["run_seconds"]  # the profile's one GPU
    words = ("--flops-per-second", "1e13", "--profile", "csd3-ampere", "--set", "resources.nodes=2")
    assert asked(lvjobs, "base", *words)["stages"][0]["gpu_seconds"] == 2 * stage["run_seconds"]
    assert asked(lvjobs, "base")["stages"][0]["run_seconds"] is None
    assert "no timing for this profile yet" in lvjobs("estimate", "base")[1]


@pytest.mark.parametrize(
    ("more", "at_once"),
    [
        (["--profile", "csd3-ampere"], 9),
        (["--profile", "csd3-ampere", "--set", "resources.max_parallel=4"], 3.5),
        (["--set", "resources.max_parallel=4"], 1),
    ],
)
def test_a_stage_waits_for_its_places(study, lvjobs, more, at_once):
    """Nine equal runs: side by side; in three rounds of four, four and one; on the local backend one by one."""
    (study / "study.toml").write_text(NINE)
    (stage,) = asked(lvjobs, "nine", "--flops-per-second", "1e9", *more)["stages"]
    rounds = {9: 1, 3.5: 3, 1: 9}[at_once]
    assert stage["stage_seconds"] == pytest.approx(rounds * stage["run_seconds"], abs=rounds)


# -- with a ledger ------------------------------------------------------------------------------------------------------


def put(study, wanted, **changes):
    """A run into the ledger, as if it had been submitted; returns it."""
    with open_session(load_study(study), wait=1) as session, session.ledger.transaction() as transaction:
        (run,) = submit_runs.declare(transaction, wanted).new
        transaction.add_runs([replace(run, code="c0de", **changes)])
    return run


@pytest.fixture
def wanted(study, small, lvjobs, monkeypatch):
    small("1e12")
    with monkeypatch.context() as patch:
        caught = []
        patch.setattr("lvjobs.cli.submit.enter_runs", lambda prepared, *_: caught.append(prepared.wanted))
        lvjobs("submit", "train")
    return caught[0]


def test_what_is_spent_and_reserved_is_not_free_and_not_needed_again(study, lvjobs, wanted):
    before = asked(lvjobs, "train")
    run = put(study, wanted, state=RunState.RUNNING)
    with open_session(load_study(study), wait=1) as session, session.ledger.transaction() as transaction:
        (attempt,) = transaction.save_attempts([an_attempt(run_id=run.id, executed=10, train_seconds=5.0)])
        transaction.replace_charges({run.id: [Charge(run.id, attempt.id, "useful", 10)]})
        transaction.reserve({run.id: WorkCounts(45, 18)})
    told = asked(lvjobs, "train")
    rates = run.rates["official"]
    assert told["spent"] == 10 * rates["training"]
    assert told["reserved"] == 35 * rates["training"] + 18 * rates["validation"]
    assert told["free"] == 10**12 - told["spent"] - told["reserved"]
    assert (before["needed"] > 0, told["needed"], told["total"]["existing"]) == (True, 0, 1)
    assert told["total"]["training"] == before["total"]["training"]
    _, out, _ = lvjobs("estimate", "train")
    assert "1 of 1 run" in out
    assert "spent" in out


def test_times_are_measured_with_runs_of_the_same_settings(study, lvjobs, wanted):
    run = put(study, wanted)
    with open_session(load_study(study), wait=1) as session, session.ledger.transaction() as transaction:
        transaction.save_attempts([an_attempt(run_id=run.id, executed=10, train_seconds=5.0)])
    (stage,) = asked(lvjobs, "train", "--seed", "5")["stages"]
    assert (stage["time_source"], stage["step_seconds"]) == ("measured", 0.5)
    _, out, _ = lvjobs("estimate", "s")
    assert f"~ scaled by official FLOPs from {run.name}" in out
    assert "~0.5 s" in out


def test_it_makes_no_pass_and_changes_nothing(study, lvjobs, wanted):
    put(study, wanted)
    (study / "study.toml").write_text((study / "study.toml").read_text().replace("1e12", "1e13"))

    def events():
        with open_session(load_study(study), wait=1) as session, session.ledger.transaction() as transaction:
            return transaction.events()

    assert lvjobs("estimate")[0] == 0
    assert not (study / ".lvjobs/summary.json").exists()
    assert [event.kind for event in events()] == ["budget"]  # told by `events` itself, and not before


def test_a_ledger_that_another_process_holds_is_read(study, lvjobs, wanted, monkeypatch):
    monkeypatch.setattr("lvjobs.api.updates.READ_WAIT_SECONDS", 0.0)
    put(study, wanted)
    expected = lvjobs("estimate", "train")
    with acquire(study / ".lvjobs/lease", wait=1):
        assert lvjobs("estimate", "train") == expected
    assert "In the ledger already: 1 of 1 run" in expected[1]


def test_a_ledger_that_cannot_be_read_is_a_note(study, lvjobs, wanted, monkeypatch):
    monkeypatch.setattr("lvjobs.api.updates.READ_WAIT_SECONDS", 0.0)
    put(study, wanted)
    with acquire(study / ".lvjobs/lease", wait=1), (study / "runs.db").open("r+b") as file:
        file.write(b"damaged")
        file.flush()
        code, out, err = lvjobs("estimate", "train")
    assert code == 0
    assert "runs.db was not read" in err
    assert "In the ledger already" not in out


# -- dry run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pulled(tmp_path_factory, monkeypatch):
    """The published study's model is in the cache: what is submitted has to be."""
    cache = tmp_path_factory.mktemp("cache")
    put_in_cache(cache, "Qwen/Qwen2.5-0.5B-Instruct", make_model(cache / "model"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))


@pytest.mark.usefixtures("pulled")
@pytest.mark.parametrize("command", [["submit", "train"], ["sweep", "stage1"]])
def test_a_dry_run_is_a_script_and_what_it_would_cost(study, lvjobs, command):
    make_dataset(study / "data.h5", systems=4, seed=0)
    code, out, err = lvjobs(*command, "--dry-run", "--profile", "generic")
    assert code == 0, err
    script, _, cost = out.partition("# -- cost")
    assert script.startswith("#!/bin/bash\n#SBATCH")
    assert '-m lvjobs.worker "$RUN_DIRECTORY"\n' in script
    assert re.search(r"^# Fits: needs .* \(limit 1e17; official convention\)\.$", cost, re.MULTILINE)
    assert all(line.startswith("#") for line in cost.splitlines()[1:])
    subprocess.run(["bash", "-n"], input=out, text=True, check=True)


@pytest.mark.usefixtures("pulled")
def test_a_dry_run_as_json(study, lvjobs):
    make_dataset(study / "data.h5", systems=4, seed=0)
    told = json.loads(lvjobs("sweep", "stage1", "--dry-run", "--profile", "generic", "--json")[1])
    assert told["outcome"] == "dry_run"
    assert told["script"].startswith("#!/bin/bash")
    assert told["estimate"]["stages"] == asked(lvjobs, "stage1")["stages"]
    assert told["fit"] is None


# -- what fits ------------------------------------------------------------------------------------------------------


def taken(lvjobs, every, steps=40):
    """FLOPs that the stage s takes when it validates so rarely."""
    return asked(lvjobs, "s", "--validate-every", every, "--steps", steps)["needed"]


def submitted(study):
    found = []
    for path in study.glob(".lvjobs/submissions/*.jsonl"):
        with path.open("rb") as stream:
            found += [member.run for member in read_members(stream)]
    return {run["name"]: (run["config"]["steps"], run["config"]["validate_every"]) for run in found}


@pytest.fixture
def limits(small, lvjobs):
    """The limits at which the stage fits with rarer validation, and with fewer steps."""
    small("1e17")
    return {"rarer": taken(lvjobs, 10), "fewer": taken(lvjobs, 25, steps=25), "none": taken(lvjobs, 5, steps=5) - 1}


def test_the_budget_refuses_and_says_to_add_fit(study, small, limits, lvjobs):
    small(limits["rarer"])
    code, out, err = lvjobs("sweep", "s")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--fit" in err
    assert submitted(study) == {}


def test_without_a_terminal_the_proposal_is_shown_and_nothing_submitted(study, small, limits, lvjobs):
    cluster = small(limits["rarer"])
    code, out, err = lvjobs("sweep", "s", "--fit")
    assert code == 2
    assert "requested: 2 runs of 40 steps, validated every 5" in " ".join(out.split())
    assert "proposed: 2 runs of 40 steps, validated every 10" in " ".join(out.split())
    assert err.count("\n") == 1
    assert "--yes" in err
    assert submitted(study) == {}
    assert cluster.jobs == []


def test_yes_submits_what_fits_under_names_of_its_own(study, small, limits, lvjobs):
    cluster = small(limits["rarer"])
    code, out, err = lvjobs("sweep", "s", "--fit", "--yes")
    assert code == 0, err
    assert "2 runs: submitted" in out
    assert "study.toml still declares stage s as before" in " ".join(out.split())
    assert sorted(submitted(study).values()) == [(40, 10), (40, 10)]
    assert len(cluster.jobs) == 2
    cells = asked(lvjobs, "s", "--validate-every", "10")
    assert (cells["total"]["existing"], cells["free"]) == (2, 0)
    # the same runs under the names that these settings would have had
    assert {run["name"] for run in json.loads(lvjobs("status", "--json")[1])["runs"]} == set(submitted(study))
    code, out, _ = lvjobs("sweep", "s", "--validate-every", "10")
    assert code == 0
    assert out.count("already exists") == 2


def test_fewer_steps_and_json(study, small, limits, lvjobs):
    small(limits["fewer"])
    code, out, err = lvjobs("sweep", "s", "--fit", "--yes", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["outcome"] == "submitted"
    assert told["fit"]["proposed"] == {
        "flops": limits["fewer"],
        "runs": [{"count": 2, "steps": 25, "validate_every": 25}],
    }
    assert told["fit"]["asked"]["flops"] == taken(lvjobs, 5)
    assert sorted(submitted(study).values()) == [(25, 25), (25, 25)]
    assert "proposed:" in err


@pytest.mark.parametrize(("answer", "runs"), [(True, 2), (False, 0)])
def test_one_is_asked_where_one_can_be(study, small, limits, lvjobs, monkeypatch, answer, runs):
    small(limits["rarer"])
    asked_for = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)

    def confirm(text, **_options):
        with acquire(study / ".lvjobs/lease", wait=0):  # nobody waits for a person to make up their mind
            asked_for.append(text)
        return answer

    monkeypatch.setattr(submit_command.click, "confirm", confirm)
    code, _, err = lvjobs("sweep", "s", "--fit")
    assert code == (0 if answer else 2), err
    assert len(asked_for) == 1
    assert len(submitted(study)) == runs


def test_not_even_one_interval_fits(study, small, limits, lvjobs):
    small(limits["none"])
    code, out, err = lvjobs("sweep", "s", "--fit", "--yes")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "not even one checkpoint interval" in err
    assert submitted(study) == {}


@pytest.mark.parametrize("option", ["--checkpoint-every", "--steps"])
def test_a_single_run_of_which_no_interval_fits_says_what_helps(study, small, limits, lvjobs, option):
    """Not to ask for fewer runs; and what it says fits when it is typed."""
    small("1e17")
    run = ["--steps", "40", "--checkpoint-every", "100"]
    limit = asked(lvjobs, "train", *run, "--validate-every", "40")["needed"] - 1
    small(limit)
    code, out, err = lvjobs("submit", "train", *run, "--fit", "--yes")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "fewer runs" not in err
    assert "validate-every" not in err, "rarer validation was tried"
    (most,) = re.findall(rf"{option} (\d+) or less, or", err)
    assert submitted(study) == {}
    code, _, err = lvjobs("submit", "train", *run, "--fit", "--yes", option, most)
    assert code == 0, err
    assert len(submitted(study)) == 1


def test_submit_says_what_was_left_out_of_the_code(small, lvjobs, monkeypatch):
    small("1e17")
    monkeypatch.setattr(submit_runs, "snapshot_code", lambda *_: CodeCopy("c0de", ["package/pipe (FIFO)"]))
    code, _, err = lvjobs("submit", "train", "--name", "one")
    assert (code, err) == (0, "note: left out of the code that jobs run: package/pipe (FIFO)\n")


def test_what_fits_is_submitted_as_it_is(study, small, limits, lvjobs):
    small("1e17")
    code, out, err = lvjobs("sweep", "s", "--fit")
    assert code == 0, err
    assert "proposed" not in out
    assert sorted(submitted(study).values()) == [(40, 5), (40, 5)]


def test_only_cells_that_are_not_there_yet_are_changed(study, small, limits, lvjobs):
    small("1e17")
    text = (study / "study.toml").read_text()
    (study / "study.toml").write_text(text.replace("[2, 4]", "[2]"))
    assert lvjobs("sweep", "s")[0] == 0
    held = asked(lvjobs, "s")["reserved"]
    limit = held + asked(lvjobs, "train", "--lora-rank", "4", "--validate-every", "20")["needed"]
    small(limit)
    code, out, err = lvjobs("sweep", "s", "--fit", "--yes")
    assert code == 0, err
    assert "requested: 1 run of" in " ".join(out.split())
    assert out.count("already exists") == 1
    assert sorted(submitted(study).values()) == [(40, 5), (40, 20)]


def test_a_name_that_was_given_stays(study, small, limits, lvjobs):
    small(asked(lvjobs, "train", "--validate-every", "20")["needed"])
    code, out, err = lvjobs("submit", "train", "--fit", "--yes", "--name", "mine")
    assert code == 0, err
    assert "study.toml still" not in out
    assert submitted(study) == {"mine": (40, 20)}
    (path,) = study.glob(".lvjobs/submissions/*.jsonl")
    with path.open("rb") as stream:
        params = read_members(stream)[0].run["config"]["params"]
    assert params["data_sha256"] == hashlib.sha256((study / "data.h5").read_bytes()).hexdigest()


def test_a_dry_run_shows_what_would_fit(study, small, limits, lvjobs):
    small(limits["rarer"])
    code, out, _ = lvjobs("sweep", "s", "--fit", "--dry-run")
    assert code == 0
    assert "# proposed:  2 runs of 40 steps, validated every 10" in out
    assert json.loads(lvjobs("sweep", "s", "--fit", "--dry-run", "--json")[1])["fit"]["free"] == limits["rarer"]
    assert submitted(study) == {}
    small("1e17")
    assert "proposed" not in lvjobs("sweep", "s", "--fit", "--dry-run")[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["all", "--fit"], "--fit works on one stage"),
        (["stage1", "--winner", "x", "--because", "y", "--without-held"], "give one of them"),
        (["stage1", "--because", "y"], "give both"),
        (["stage1", "--quorum", "2"], "needs --without-held"),
        (["stage1", "--winner", "x", "--because", "y", "--steps", "9"], "cannot be combined with other options"),
        (["all", "--without-held"], "apply to one stage"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(study, lvjobs, options, words):
    code, _, err = lvjobs("sweep", *options)
    assert (code, words in err) == (2, True), err
