"""GPUs asked for are GPUs used: how many processes a job starts, and what is refused before anything is submitted."""

import json

import pytest

from lvjobs.forecasting.data import make_dataset

CSD3 = ("--profile", "csd3-ampere", "--account", "X-GPU")


@pytest.fixture
def submit(tmp_path, monkeypatch, typed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    make_dataset(tmp_path / "data.h5", systems=10, seed=0)

    def call(*arguments):
        pairs = [word for pair in arguments if not isinstance(pair, tuple) for word in ("--set", pair)]
        options = [word for given in arguments if isinstance(given, tuple) for word in given]
        return typed("submit", "train", "--dry-run", *pairs, *options)

    return call


@pytest.mark.parametrize(
    ("given", "processes"),
    [
        ((), None),
        (("resources.gpus=1",), None),
        (("resources.gpus=0",), None),
        (("resources.gpus=4",), 4),
        (("resources.gpus=2", "batch_size=6"), 2),
        (("resources.gpus=2", "resources.processes=2"), 2),
        (("resources.gpus=0", "resources.processes=2"), 2),
        (("resources.gpus=3", "batch_size=3", "accumulate=2"), 3),
    ],
)
def test_a_training_has_a_process_for_each_gpu(submit, given, processes):
    code, out, err = submit(*given, CSD3)
    assert code == 0, err
    lines = [line for line in out.splitlines() if "LVJOBS_PROCESSES" in line]
    assert lines == ([] if processes is None else [f"export LVJOBS_PROCESSES={processes}"])


def test_a_training_on_several_nodes_has_a_process_for_each_gpu_of_each(submit):
    code, out, err = submit("resources.nodes=2", "resources.gpus=2", CSD3)
    assert code == 0, err
    assert "export LVJOBS_PROCESSES=2\n" in out
    assert "export LVJOBS_NODES=2\n" in out
    assert "srun --nodes=2 --ntasks-per-node=1 --ntasks=2 " in out


def test_local_jobs_are_told_too(submit):
    assert "export LVJOBS_PROCESSES=2" in submit("resources.processes=2")[1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("resources.gpus=3",), "gpus = 3, and batch_size = 4 does not divide among them"),
        (("resources.nodes=2", "resources.gpus=4"), "set batch_size to a multiple of 8, or request fewer gpus"),
        (("resources.gpus=8",), "set batch_size to a multiple of 8, or request fewer gpus"),
        (("resources.gpus=2", "batch_size=1", "accumulate=2"), "batch_size = 1 does not divide"),
        (("resources.gpus=4", "resources.processes=2"), "gpus = 4 and processes = 2"),
        (("resources.gpus=0", "resources.processes=3"), "processes = 3, and batch_size = 4"),
        (
            ("resources.nodes=2", "resources.gpus=4"),
            "gpus = 4 on each of 2 nodes, and batch_size = 4 does not divide among them",
        ),
        (
            ("resources.nodes=2", "resources.pack=3"),
            "nodes = 2 and pack = 3: a run on several nodes cannot share its job",
        ),
        (("resources.nodes=0",), "resources: nodes = '0'"),
        (("resources.processes=0",), "resources: processes = '0'"),
    ],
)
def test_more_gpus_than_a_training_can_use_are_refused(submit, given, words, tmp_path):
    code, _, err = submit(*given, CSD3)
    assert code == 2
    assert err.count("\n") == 1
    assert words in err
    assert not (tmp_path / "checkpoints").exists()


def test_a_profile_may_ask_for_several_by_default(submit, tmp_path):
    from lvjobs.cluster.profiles import load_profile

    mine = tmp_path / "mine.sh.j2"
    mine.write_text(load_profile("generic").source.replace("gpus | default(0)", "gpus | default(3)"))
    assert "gpus = 3" in submit(("--profile", str(mine)))[2]
    assert "export LVJOBS_PROCESSES=3" in submit("batch_size=3", ("--profile", str(mine)))[1]


def test_an_evaluation_asks_for_the_one_gpu_that_it_uses():
    from lvjobs.control.submission.declare import _team
    from lvjobs.study.params import EVALUATE_TASK
    from lvjobs.study.run import RunConfig
    from lvjobs.study.tables import Resources

    evaluation = RunConfig(task=EVALUATE_TASK, steps=1).model_dump(mode="json")
    assert _team(evaluation, 4, Resources()) == _team(evaluation, 4, Resources(processes=4)) == {"gpus": 1}
    assert _team(evaluation, 1, Resources()) == _team(evaluation, 0, Resources(processes=2)) == {}
    own = RunConfig(task="my.module:train", steps=1).model_dump(mode="json")
    assert _team(own, 4, Resources()) == {}
    assert _team(own, 4, Resources(processes=2)) == {"processes": 2}
    assert _team(own, 4, Resources(processes=2, nodes=3)) == {"nodes": 3, "processes": 2}
    assert _team(evaluation, 4, Resources(nodes=2)) == {"gpus": 1}, "one node, as it uses no more"


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "0.00001", "1_0e-6"])
def test_a_rate_is_a_number_however_it_is_written(submit, tmp_path, text):
    """YAML, and TOML in quotes, deliver `1e-5` as text; a job that was queued once died of that."""
    from lvjobs.study.config import load_study

    code, _, err = submit(("--learning-rate", text))
    assert code == 0, err
    (tmp_path / "study.toml").write_text(f'[train]\nlearning_rate = "{text}"\nsteps = "1e3"\n')
    config = load_study(tmp_path).config.train.run_config()
    assert json.loads(json.dumps(config.params))["learning_rate"] == 1e-5
    assert (type(config.params["learning_rate"]), config.steps) == (float, 1000)


@pytest.mark.parametrize("text", ["1e-5x", "fast", "nan", "-1e-5"])
def test_what_is_no_rate_is_refused_before_it_is_queued(submit, text):
    code, _, err = submit(("--learning-rate", text))
    assert code == 2
    assert err.count("\n") == 1
    assert "learning_rate" in err
