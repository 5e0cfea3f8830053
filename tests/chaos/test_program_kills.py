"""Each program of tests/programs is killed 20 times, and its runs still end with the result of an undisturbed one."""

import random
import time

import pytest
from kills import Row
from program_studies import (
    SUBJECTS,
    Alone,
    ProgramStudy,
    are_stopped,
    beside_python,
    end_all,
    kill,
    tree,
    verdict,
    wait_a_moment,
    wait_into_a_save,
)

pytestmark = [pytest.mark.slow, pytest.mark.heavy, pytest.mark.torch, pytest.mark.storm, pytest.mark.timeout(3600)]

KILLS = 20
VICTIMS = ("worker", "program")


def wait_for_an_attempt(study, generation):
    """Update the study until this generation has started its program; return False if the run is completed."""
    end = time.monotonic() + 300
    while len(study.claims("run")) < generation or study.program("run") is None:
        run = study.run("run")
        if run["state"] == "completed":
            return False
        assert run["state"] != "held", study.story("run")
        assert time.monotonic() < end, study.story("run")
        time.sleep(0.2)
    return True


def wait_for_its_moment(study, chance):
    """Wait for the moment of a kill: random from the start, inside a save, or random after a checkpoint."""
    kind = chance.randrange(3)
    if kind == 0:
        return wait_a_moment(chance, 4)
    if kind == 1:
        return wait_into_a_save(study, "run")
    generation = len(study.claims("run"))
    while study.program("run") is not None and not study.saved("run", generation):
        time.sleep(0.05)
    return wait_a_moment(chance, 0.5)


def kill_now(study, victim):
    """Kill a victim unless it has just ended; return whether it was inside a save, and None if it was not killed."""
    program = study.program("run")
    if program is None or study.layout("run").done.exists():
        return None
    processes = tree(program)
    if not are_stopped(processes):
        return None
    is_inside = study.is_inside_a_save("run", processes)
    kill(study, "run", victim)
    return is_inside


def killed_often(study, chance, already):
    """Train a run, and kill it until KILLS are done or it completes; return for each kill whether it was inside a save."""
    found, generation = [], 1
    study.submit("run")
    while wait_for_an_attempt(study, generation) and already + len(found) < KILLS:
        wait_for_its_moment(study, chance)
        if (is_inside := kill_now(study, VICTIMS[(already + len(found)) % 2])) is not None:
            found.append(is_inside)
        generation = len(study.claims("run")) + 1
    run = study.until("run", "completed", "held")
    assert run["state"] == "completed", study.story("run")
    assert run["attempts"] == len(found) + 1
    study.type("ledger", "check")
    return found


@pytest.fixture
def alone(tmp_path, monkeypatch):
    beside_python(monkeypatch)
    return Alone(tmp_path / "alone")


@pytest.mark.parametrize("name", sorted(SUBJECTS.keys() - {"counter"}))
def test_a_program_that_is_killed_often_completes(name, tmp_path, alone, killed):
    chance, inside, resumed, runs, verdicts = random.Random(name), [], 0, 0, set()
    while len(inside) < KILLS:
        study = ProgramStudy(tmp_path / str(runs), SUBJECTS[name])
        try:
            inside += killed_often(study, chance, len(inside))
            verdicts.add(verdict(name, study, alone))
        finally:
            end_all(study)
        starts = [line for line in study.journal("run") if line["kind"] == "start"]
        resumed += sum(bool(line["resumed_from"]) for line in starts)
        runs += 1
    assert resumed
    killed(Row(name, len(inside), sum(inside), runs, resumed, *verdicts))
