"""`--preset study-tiny` on the study's own input: one command on a lab that preempts gives what an undisturbed machine gives."""

import json
import random
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from driving import Study
from test_storm import lab

from lvjobs.lab import LabError

__all__ = ["lab"]
pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.storm, pytest.mark.heavy, pytest.mark.torch]

REAL = Path(__file__).parents[3] / "shared" / "data" / "lotka_volterra_data.h5"
HOURS = 3600
EVERY = 150
"""Seconds between two preemptions, on average."""
TRAINED = ("base", "stage1", "stage2", "final")
# study.toml ends with [policy].
PATIENCE = "no_progress_deaths = 20\n"


class PresetStudy(Study):
    """A directory with the preset's study.toml and the real data, as the tutorial makes one."""

    def __init__(self, root, profile):
        super().__init__(root, REAL, profile=profile)
        (root / "study.toml").unlink()
        (root / "data.h5").symlink_to(REAL)
        self.type("init", "--preset", "study-tiny", "--profile", profile)
        path = root / "study.toml"
        path.write_text(path.read_text().replace("# local_slots = 1", "local_slots = 2") + PATIENCE)

    def results(self):
        """Winners and why, all runs' ends, the trained runs' weights, and the tables.

        Names end in four digits of a hash, in which the path of the data is, too: they are left out.
        """
        shown = self.summary()
        winners = {stage["name"]: (stage["winner"], stage["because"]) for stage in shown["stages"]}
        ended = {run["name"]: (run["stage"], run["state"]) for run in shown["runs"]}
        weights = {
            n: self.weights(n) for n, (stage, state) in ended.items() if stage in TRAINED and state == "completed"
        }
        tables = json.loads(self.type("evaluate", "--table", "--json"))["tables"]
        found = json.dumps([winners, ended, weights, tables], sort_keys=True)
        return json.loads(re.sub(r"(-s\d+|-tiny)(-[0-9a-f]{4})+\b", r"\1", found))


def preempt_now_and_then(lab, command, seed=0):
    """Preempt a running job at random instants until the command has ended; return how many were preempted."""
    draw, count, deadline = random.Random(seed), 0, time.monotonic() + 2 * HOURS
    then = time.monotonic() + draw.expovariate(1 / EVERY)
    while command.poll() is None:
        assert time.monotonic() < deadline
        running = lab.run("squeue", "-h", "-r", "-t", "R", "-o", "%i %j").splitlines()
        jobs = [line.split()[0] for line in running if not line.split()[1].startswith(("driver.", "lab-"))]
        if time.monotonic() > then and jobs:
            with suppress(LabError):  # it ended just then
                lab.preempt(draw.choice(jobs))
                count += 1
            then = time.monotonic() + draw.expovariate(1 / EVERY)
        time.sleep(1)
    return count


@pytest.mark.skipif(not REAL.exists(), reason="the study's real input is not part of the repository")
@pytest.mark.timeout(4 * HOURS)
def test_one_command_gives_the_tables_and_winners_of_an_undisturbed_study(tmp_path, lab):
    study = PresetStudy(tmp_path / "study", "lab")
    with (tmp_path / "said").open("w") as said:
        command = study.start("sweep", "all", "--wait", stdout=said, stderr=said)
        preempted = preempt_now_and_then(lab, command)
    assert command.returncode == 0, (tmp_path / "said").read_text()[-4000:]
    assert preempted >= 5
    assert set(study.stands().values()) == {"completed"}
    titles = [table["title"] for table in study.results()[3]]
    assert [title for title in titles if title.startswith("Table 2")]
    assert [title for title in titles if title.startswith("Table 3")]
    found = study.results()
    alone = PresetStudy(tmp_path / "alone", "local")
    alone.type("sweep", "all", "--wait", timeout=2 * HOURS)
    assert found == alone.results()
