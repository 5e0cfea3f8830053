"""An evaluation on real Slurm is a job like any other: it dies, goes on, is charged, and its numbers do not know."""

import json

import h5py
import numpy as np
import pytest
from driving import Study, kill_worker, until

pytestmark = pytest.mark.slurm

ZERO_SHOT = ("evaluate", "--zero-shot", "raw", "--batch", "1")


def forecasts(study, name):
    result = study.files(name) / "final" / "result"
    with h5py.File(result / "forecasts.h5") as file:
        return file["/forecasts"][()], list(file["/systems"][()]), json.loads((result / "scores.json").read_text())


def test_an_evaluation_that_is_killed_and_preempted_forecasts_no_series_twice(
    forecasting: Study, lab, tmp_path, series
):
    study = forecasting
    alone = Study(tmp_path / "alone", series, profile="local")
    undisturbed = alone.type(*ZERO_SHOT, "--wait")
    assert "8 held-out series" in undisturbed
    (name,) = alone.runs()
    study.gate(name, 3)
    study.gate(name, 5, generation=2)
    study.type(*ZERO_SHOT)
    kill_worker(study.halt(name, 3))
    until(lambda: study.run(name) and len(study.claims(name)) > 1)
    lab.preempt(study.halt(name, 5, generation=2)["job_id"])
    study.until(name, "completed")

    made, systems, scores = forecasts(study, name)
    expected, expected_systems, expected_scores = forecasts(alone, name)
    assert np.array_equal(made, expected)
    assert systems == expected_systems == list(range(32, 40))
    assert scores == expected_scores

    generated = sum(line["series"] for line in study.journal(name) if line["kind"] == "generation")
    assert len(study.claims(name)) >= 3
    assert 8 <= generated <= 9, "a series that was finished was forecast again"
    printed = (each.outcome(each.start("budget", "--json"), "budget", "--json")[0] for each in (study, alone))
    said, other = map(json.loads, printed)  # what it notes of stages that this model cannot be asked for is no JSON
    assert said["generation"] == said["spent"] == said["by_stage"]["evaluate"]
    assert said["generation"] * 8 == other["generation"] * generated
    assert said["reserved"] == 0
