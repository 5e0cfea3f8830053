"""Halving on real Slurm: whatever meets a stage's runs, all come to the rung, and the same best few train to their end."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest
from driving import Study, closed_partition, kill_worker, until
from driving_programs import PROGRAMS, ProgramStudy
from toy_task import TRAINING

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(3000)]

STEPS, RUNG, EVERY, KEPT = 180, 40, 20, 2
RATES = [1e-3, 2e-3, 4e-3, 8e-3, 2e-2]
STAGE = f"""
[[stage]]
name = "many"
steps = {STEPS}
set = {{ checkpoint_every = {EVERY} }}
grid = {{ learning_rate = {RATES} }}
"""
PRUNE = f'prune = {{ rule = "halving", at = ["2/9"], keep = [{KEPT}] }}\n'
USEFUL = len(RATES) * RUNG + KEPT * (STEPS - RUNG)


def declare(study, text):
    path = study.root / "study.toml"
    path.write_text(path.read_text() + text)


@dataclass
class Alone:
    """The same runs, each trained to its end in one go, with no cluster and no rung; the best at the rung first."""

    weights: dict[str, str]
    at_rung: list[str]
    at_end: dict[str, float]

    @property
    def best(self):
        return self.at_rung[:KEPT]

    @property
    def winner(self):
        return min(self.best, key=self.at_end.__getitem__)


def validations(study, name):
    return {line["step"]: line["loss"] for line in study.journal(name) if line["kind"] == "validation"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("alone"), profile="local")
    declare(study, STAGE)
    study.type("sweep", "many", "--wait", timeout=1200)
    losses = {name: validations(study, name) for name in study.runs()}
    ranked = sorted(losses, key=lambda name: losses[name][RUNG])
    at_end = {name: losses[name][STEPS] for name in losses}
    assert len({losses[name][RUNG] for name in ranked}) == len(RATES), "a tie would be decided by the order"
    return Alone({name: study.weights(name) for name in losses}, ranked, at_end)


@pytest.fixture
def halved(study):
    declare(study, STAGE + PRUNE)
    return study


def leaves(study, name):
    return [(line["cause"], line["step"]) for line in study.journal(name) if line["kind"] == "leave"]


def waiting(study):
    """Make a pass; return the runs that wait at the rung, and why."""
    return {name: row["reason"] for name, row in study.runs().items() if row["held_for"] == "rung"}


def decided(study):
    """Pass after pass until the stage is; return the rows of its runs."""
    until(lambda: study.runs() and study.stands()["many"] == "completed", 1200)
    return study.runs()


def expect_halved(study, alone):
    """The best at the rung have the weights of runs that nothing disturbed, and no other run left the rung."""
    rows = decided(study)
    (stage,) = study.summary()["stages"]
    assert stage["winner"] == alone.winner
    for name, row in rows.items():
        executed = study.executed(name)
        assert max(executed) == (STEPS if name in alone.best else RUNG), study.story(name)
        assert row["executed_steps"] == len(executed) == len(set(executed)) + row["replayed_steps"]
        if name in alone.best:
            assert row["state"] == "completed", study.story(name)
            assert study.weights(name) == alone.weights[name]
            assert study.executed(name, row["attempts"]) == list(range(RUNG + 1, STEPS + 1)), study.story(name)
        else:
            assert (row["state"], row["held_for"]) == ("paused", "pruned"), study.story(name)
            assert f"pruned at step {RUNG} of {STEPS}" in row["reason"]
        assert leaves(study, name)[-1][1] == RUNG, "it left at the rung, and nothing ended it later"
    study.type("ledger", "check")


def expect_no_more_than(study, plan):
    """Check that `sweep plan` said what was spent, save the replays, which it reserves."""
    (row,) = plan["stages"]
    assert row["steps"] == USEFUL
    assert row["training"][plan["convention"]] == USEFUL * TRAINING
    budget = json.loads(study.type("budget", "--json"))
    assert budget["useful"] == USEFUL * TRAINING
    assert budget["replayed"] == sum(run["replayed_steps"] for run in study.runs().values()) * TRAINING
    assert (budget["reserved"], budget["estimated"]) == (0, 0)
    assert budget["spent"] <= plan["needed"]


def test_members_of_an_array_are_preempted_and_killed_on_the_way(halved, lab, alone):
    first, last, *others, worst = alone.at_rung
    plan = json.loads(halved.type("sweep", "plan", "many", "--json"))
    with closed_partition(lab):
        halved.type("sweep", "many")
        assert len({row["job_id"].partition("_")[0] for row in halved.runs().values()}) == 1, "not one array"
        halved.gate(first, 25)
        halved.gate(worst, 30)
        halved.gate(last, 35)
        halved.gate(last, RUNG, generation=2)
    lab.preempt(halved.halt(first, 25)["job_id"])
    kill_worker(halved.halt(worst, 30))
    claim = halved.halt(last, 35)
    why = f"waits at step {RUNG} of {STEPS} for the other runs of many"
    until(lambda: waiting(halved) == dict.fromkeys([first, *others, worst], why), 900)
    until(lambda: lab.run("squeue", "-h", "-r", "-o", "%i").split() == [claim["job_id"]])
    lab.preempt(claim["job_id"])
    until(lambda: halved.run(last)["state"] == "interrupted" or halved.is_at_gate(last, RUNG, generation=2), 900)
    assert halved.stands() == {"many": "running"}, "it is waited for also while it has no attempt"
    lab.preempt(halved.halt(last, RUNG, generation=2)["job_id"])  # its next checkpoint is that of the rung
    rows = decided(halved)
    assert rows[worst]["replayed_steps"] == 9
    assert [cause for cause, _ in leaves(halved, first)] == ["preempted", "rung"]
    assert leaves(halved, last)[-1][0] in ("preempted", "rung"), "a job that Slurm requeues leaves again at once"
    assert {name: leaves(halved, name) for name in others} == {key: [("rung", RUNG)] for key in others}
    assert {tuple(halved.executed(name)) for name in (first, last)} == {tuple(range(1, STEPS + 1))}
    expect_halved(halved, alone)
    expect_no_more_than(halved, plan)


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_runs_that_share_a_job_leave_it_at_the_rung(halved, lab, alone, side_by_side):
    first, *others, worst = alone.at_rung
    plan = json.loads(halved.type("sweep", "plan", "many", "--pack", "5", "--json"))
    with closed_partition(lab):
        halved.type("sweep", "many", "--pack", "5", "--side-by-side", str(side_by_side))
        (job,) = {row["job_id"] for row in halved.runs().values()}
        halved.gate(first, 25)
        halved.gate(worst, 30)
    kill_worker(halved.halt(worst, 30))
    claim = halved.halt(first, 25)
    until(lambda: set(waiting(halved)) == set(others), 900)
    assert lab.run("squeue", "-h", "-j", job, "-o", "%T").strip() == "RUNNING", "some left it, and the others train on"
    lab.preempt(claim["job_id"])
    expect_halved(halved, alone)
    expect_no_more_than(halved, plan)
    jobs = {name: [claim["job_id"] for claim in halved.claims(name)] for name in alone.at_rung}
    assert {each[0] for each in jobs.values()} == {job}
    assert set(jobs[first][:2]) == {job}, "the job that was preempted continues"
    (later,) = {jobs[name][-1] for name in alone.best}
    assert later != job, "who continues from the rung does so in another job, which they share"


PROGRAM_STAGE = """
[[stage]]
name = "many"
select = { metric = "training_loss" }
grid = { lr = [0.05, 0.1, 0.2, 0.3] }
"""


def best_programs(directory):
    """The results of the programs without lvjobs that have the lowest losses at the rung."""
    found = []
    for rate in (0.05, 0.1, 0.2, 0.3):
        words = [f"--steps={STEPS}", f"--every={EVERY}", f"--lr={rate}", f"--out={directory / f'alone-{rate}'}"]
        done = subprocess.run([sys.executable, PROGRAMS / "counter.py", *words], check=True, capture_output=True)
        loss = float(done.stdout.splitlines()[RUNG - 1].rpartition(b" ")[2])
        found.append((loss, (directory / f"alone-{rate}" / "result.json").read_bytes()))
    return [result for _, result in sorted(found)[:KEPT]]


NAMED = (("--named",), "{out}/checkpoint-{step}.json")
IN_PLACE = (("--in-place", "--slow-save=0.2"), "{out}/checkpoint.json")


@pytest.mark.parametrize("way", [NAMED, IN_PLACE], ids=["named", "in place"])
def test_a_program_that_knows_nothing_of_rungs_stops_at_its_rung(tmp_path, lab, way):
    own, checkpoint = way
    gates = tmp_path / "study" / "gates" / "program"
    words = ["--steps={steps}", "--every={checkpoint_every}", "--out={out}", "--lr={lr}", f"--gates={gates}", *own]
    keys = {"checkpoint": checkpoint, "resume": ["--resume={checkpoint}"], "lr": 0.1}
    command = [sys.executable, "counter.py", *words, "--seconds-per-step=0.03"]
    study = ProgramStudy(tmp_path / "study", command, steps=STEPS, every=EVERY, **keys)
    declare(study, PROGRAM_STAGE + PRUNE)
    best = best_programs(tmp_path)
    study.gate_program(30, RUNG, RUNG + 1)
    study.type("sweep", "many")
    names = list(study.runs())
    claim = study.reach(names[0], 30)
    processes = [process for process in study.processes() if names[0] in process.cwd()]
    kill_worker(claim)
    until(lambda: not any(process.is_running() for process in processes))
    study.open_program(30)
    until(lambda: study.runs() and all(max(study.executed(name), default=0) == RUNG for name in names), 900)
    study.open_program(RUNG)  # it saves now, and waits at the next step until it is stopped
    until(lambda: all(leaves(study, name) for name in names), 900)
    assert not study.processes()
    study.open_program(RUNG + 1)
    rows = decided(study)
    on = [name for name, row in rows.items() if row["state"] == "completed"]
    assert sorted(study.result(name) for name in on) == sorted(best)
    for name, row in rows.items():
        assert leaves(study, name) in ([("rung", RUNG)], [("rung", RUNG + 1)]), "the step after it had begun, or not"
        steps = STEPS if name in on else leaves(study, name)[0][1]
        assert row["executed_steps"] == steps + row["replayed_steps"]
        assert row["replayed_steps"] <= (11 if name == names[0] else 1)
        saved, every = study.saved(name), list(range(EVERY, steps + 1, EVERY))
        if way == NAMED:
            assert saved == every
        else:  # a save in place hides the one before it from a worker that stalled
            assert set(saved) <= set(every)
            assert saved[-1] == every[-1]
    study.type("ledger", "check")


@pytest.mark.parametrize("unattended", ["driver", "watch", "--wait"])
def test_one_command_takes_a_stage_to_its_winner(tmp_path, lab, alone, unattended):
    study = Study(tmp_path, driver=unattended == "driver")
    declare(study, STAGE + PRUNE)
    with closed_partition(lab):
        if unattended == "--wait":
            command = study.start("sweep", "many", "--wait")
        else:
            study.type("sweep", "many")
            command = study.start("watch", "--every", "1") if unattended == "watch" else None
        study.gate(alone.best[0], 30)
    kill_worker(study.halt(alone.best[0], 30))
    if command is None:
        until(lambda: study.stands()["many"] == "completed", 1200)
        until(lambda: not lab.run("squeue", "-h", "-o", "%i"), 300)
    else:
        out, err = command.communicate(timeout=1200)
        assert command.returncode == 0, out + err
    assert study.stands() == {"many": "completed"}
    expect_halved(study, alone)
