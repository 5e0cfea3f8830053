"""The analysis of benchmarks/selecting.py: choices, comparisons, and which runs one file may hold."""

import importlib
import json
from dataclasses import replace

import pytest
from docs_blocks import ROOT

from lvjobs.forecasting.comparison import FEWEST, Difference
from lvjobs.study.config import load_study


@pytest.fixture
def selecting(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("selecting")


@pytest.fixture
def candidates(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("candidates")


SETUP = {"model": "tiny", "steps": 60, "batch_size": 2, "validation_forecasts": 32, "series": 80}


@pytest.fixture
def run(candidates):
    def make(seed, rank, loss, forecasts, mae, **changes):
        made = candidates.Trained(
            seed,
            rank,
            1e-3,
            training_loss=loss,
            validation_loss=loss,
            validation_mae=forecasts,
            mae=mae,
            mse=mae**2,
            median_mae=mae / 2,
            training_flops=100,
            validation_flops=10,
            forecast_flops=50,
        )
        return replace(made, **changes)

    return make


@pytest.fixture
def stages(run):
    """A seed on which both metrics choose the best, one on which only the forecasts do, and one on which neither does."""
    return [
        [run(0, 4, 0.1, 0.1, 1.0), run(0, 8, 0.2, 0.2, 2.0), run(0, 16, 0.3, 0.3, 3.0)],
        [run(1, 4, 0.1, 0.3, 3.0), run(1, 8, 0.2, 0.2, 2.0), run(1, 16, 0.3, 0.1, 1.0)],
        [run(2, 4, 0.1, 0.2, 3.0), run(2, 8, 0.3, 0.1, 2.0), run(2, 16, 0.2, 0.3, 1.0)],
    ]


def test_each_way_has_the_errors_of_what_it_chose(selecting, stages):
    found = selecting.ways_of(stages)
    assert found["validation_loss"].mae == [1, 3, 3]
    assert found["validation_loss"].mse == [1, 9, 9]
    assert found["validation_loss"].median == [0.5, 1.5, 1.5]
    assert found["validation_loss"].cells == [(4, 1e-3)] * 3
    assert found["validation_mae"].mae == [1, 1, 2]
    assert found["lowest test MAE"].mae == [1, 1, 1]
    assert found["a random candidate"].mae == [2, 2, 2]
    shares = {name: choice.best for name, choice in found.items()}
    assert shares["validation_loss"] == pytest.approx(1 / 3)
    assert shares["validation_mae"] == pytest.approx(2 / 3)
    assert shares["a random candidate"] == pytest.approx(1 / 3)
    assert shares["lowest test MAE"] == 1


def test_equal_candidates_are_decided_by_their_cost_as_in_a_study(selecting, run):
    equal = [run(0, 4, 0.1, 0.1, 1.0), run(0, 8, 0.1, 0.1, 2.0, training_flops=50)]
    assert selecting.chosen_by([equal], lambda each: each.validation_loss).cells == [(8, 1e-3)]


def test_a_stage_without_any_value_is_refused(selecting, run):
    with pytest.raises(SystemExit, match="no candidate of seed 0 has a value"):
        selecting.chosen_by([[run(0, 4, float("nan"), 0.1, 1.0)]] * 2, lambda each: each.validation_loss)


def test_the_rank_correlation_is_a_mean_over_seeds(selecting, stages):
    assert selecting.rank_correlation(stages, "validation_loss") == pytest.approx((1 - 1 - 0.5) / 3)
    assert selecting.rank_correlation(stages, "validation_mae") == pytest.approx((1 + 1 - 0.5) / 3)


def test_ways_are_compared_seed_by_seed(selecting, stages):
    found = selecting.ways_of(stages)
    compared, median = selecting.beside(found["validation_mae"], found["validation_loss"])
    assert compared.series == 3
    assert compared.measures["mae"].value == pytest.approx(4 / 3 - 7 / 3)
    assert compared.measures["mse"].value == pytest.approx(6 / 3 - 19 / 3)
    assert median.value == pytest.approx(compared.measures["mae"].value / 2)
    assert (compared.wins, compared.ties) == (2, 1)
    assert compared.measures["mae"].low == pytest.approx(-2)  # the seed with the largest difference, three times
    rows = {row[0]: row for row in selecting.rows_of(stages, found)}
    assert rows["validation_mae"][6] == 2
    assert rows["validation_mae"][7].startswith("-1.00000 [-2.00000, ")


def test_the_means_over_seeds_choose_once(selecting, stages):
    said = selecting.by_means(stages)
    assert "validation_loss rank 4, rate 0.001 (test MAE 2.33333)" in said
    assert "validation_mae rank 8, rate 0.001 (test MAE 2.00000)" in said
    assert said.endswith("the lowest of a candidate is 1.66667.")


@pytest.mark.parametrize(
    ("low", "high", "seeds", "said"),
    [
        (-2, -1, FEWEST, "Goal reached: choosing by validation_mae led to a lower"),
        (1, 2, FEWEST, "Goal missed: choosing by validation_mae led to a higher"),
        (-2, 0, FEWEST, "Goal missed: no difference"),
        (0, 2, FEWEST, "Goal missed: no difference"),
        (-2, -1, FEWEST - 1, "Nothing is concluded"),
    ],
)
def test_the_verdict_follows_from_the_interval_and_the_number_of_seeds(selecting, low, high, seeds, said):
    assert selecting.verdict(Difference(1.0, 2.5, low, high, 0.01), seeds).startswith(said)


def test_seeds_accumulate_to_the_same_file_in_any_order(candidates, stages, tmp_path):
    parts = [candidates.Record(SETUP, each) for each in stages]
    for name, order in (("one", [0, 1, 2]), ("other", [2, 0, 1])):
        for at in order:
            kept = candidates.merged(candidates.read_record(tmp_path / name), parts[at])
            candidates.write_record(tmp_path / name, kept)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    whole = candidates.read_record(tmp_path / "one")
    assert whole.setup == SETUP
    assert list(whole.by_seed().values()) == stages


def test_a_recorded_run_keeps_its_values(candidates, run):
    old, new = (candidates.Record(SETUP, [run(0, 4, 0.1, 0.1, mae)]) for mae in (1.0, 1.5))
    assert candidates.merged(old, new) == old


class FakeStudy:
    """A study whose stages are trained by being asked for: what was asked for, and what is trained of it."""

    def __init__(self, root, candidates, monkeypatch):
        self.root, self.asked, self.stages = root, [], {}
        self.setup = SETUP
        self.candidates = candidates
        root.mkdir()
        (root / "data.h5").touch()
        (root / "runs.db").touch()
        monkeypatch.setattr(candidates, "lvjobs", self.sweep)
        monkeypatch.setattr(candidates, "collected", lambda _root: self.trained)
        self.trained = candidates.Record({}, [])

    def sweep(self, root, *typed):
        assert (root, typed) == (self.root, ("sweep", "all", "--wait"))
        declared = load_study(root).config
        assert declared.stage[1].evaluate == [declared.stage[0].name]
        seeds = [stage.set["seed"] for stage in declared.stage if not stage.evaluates]
        self.asked.append(seeds)
        runs = [run for seed in seeds for run in self.stages[seed]]
        self.trained = self.candidates.merged(self.trained, self.candidates.Record(self.setup, runs))


@pytest.fixture
def study(tmp_path, candidates, stages, monkeypatch):
    made = FakeStudy(tmp_path / "study", candidates, monkeypatch)
    made.stages = dict(enumerate(stages))
    return made


def test_seeds_that_the_file_has_are_not_trained_again(candidates, study, tmp_path):
    file = tmp_path / "file.json"
    candidates.record(study.root, [1], file, 2, candidates.SMOKE)
    candidates.record(study.root, [0, 1, 2], file, 2, candidates.SMOKE)
    assert study.asked == [[1], [0], [2]]
    assert list(candidates.read_record(file).by_seed()) == [0, 1, 2]


def test_runs_of_an_interrupted_recording_are_added(candidates, study, stages, tmp_path):
    study.trained = candidates.Record(SETUP, stages[0])
    candidates.record(study.root, [0], tmp_path / "file.json", 2, candidates.SMOKE)
    assert study.asked == []
    assert candidates.read_record(tmp_path / "file.json").runs == stages[0]


def test_as_many_seeds_as_keep_the_slots_busy_train_together(candidates, study, tmp_path):
    candidates.record(study.root, [0, 1, 2], tmp_path / "file.json", 12, candidates.SMOKE)
    assert study.asked == [[0, 1], [2]]


def test_a_recording_ends_with_an_error_where_a_seed_is_not_completed(candidates, study, stages, tmp_path):
    study.trained = candidates.Record(SETUP, stages[0])
    study.stages[1] = stages[1][:2]
    with pytest.raises(SystemExit, match=r"runs of seeds \[1\] are not completed; see lvjobs status in "):
        candidates.record(study.root, [1], tmp_path / "file.json", 2, candidates.SMOKE)


def test_runs_of_another_setup_are_refused(candidates, run):
    old, new = (candidates.Record(SETUP | {"series": n}, [run(n, 4, 0.1, 0.1, 1.0)]) for n in (80, 100))
    with pytest.raises(SystemExit, match="differ from these in series: record these in a file of their own"):
        candidates.merged(old, new)


def test_a_seed_that_lacks_a_candidate_is_left_out_and_counted(selecting, candidates, stages):
    recorded = candidates.Record(SETUP, [*stages[0], *stages[1], *stages[2][:2]])
    kept = list(recorded.by_seed().values())
    assert kept == stages[:2]
    first, *_, goal = selecting.notes_of(recorded, kept, selecting.ways_of(kept))
    assert first.startswith("n = 2 training seeds, 3 candidates each")
    assert first.endswith("as candidates are missing: 1.")
    assert goal.endswith("Nothing is concluded from fewer than 20 seeds.")


def test_without_recorded_runs_it_says_so(selecting, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["selecting.py", "--file", str(tmp_path / "none.json")])
    selecting.main()
    assert capsys.readouterr().out.startswith("Nothing was measured: no seed is recorded yet")


def test_recorded_runs_become_a_table(selecting, candidates, stages, tmp_path, monkeypatch, capsys):
    runs = [each for runs in stages for each in runs]
    path = tmp_path / "some.json"
    candidates.write_record(path, candidates.merged(candidates.Record({}, []), candidates.Record(SETUP, runs)))
    assert len(json.loads(path.read_text(encoding="utf-8"))["runs"]) == 9
    monkeypatch.setattr("sys.argv", ["selecting.py", "--file", str(path)])
    selecting.main()
    printed = capsys.readouterr().out
    assert "| validation_mae " in printed
    assert "losses 0.10, forecasts 0.50" in printed


def test_seeds_are_named_as_ranges(selecting):
    assert selecting.numbers("0-2") == [0, 1, 2]
    assert selecting.numbers("0,3,7-9") == [0, 3, 7, 8, 9]
