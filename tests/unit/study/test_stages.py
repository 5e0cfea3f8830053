"""Stages as study.toml declares them: their order, what each takes over, and what makes no sense."""

import json
import re

import pytest

from lvjobs.errors import UsageError
from lvjobs.study.config import StudyConfig, load_study
from lvjobs.study.presets import PUBLISHED
from lvjobs.study.run import RunConfig
from lvjobs.study.space import corners, in_words
from lvjobs.study.stage_order import carried, in_order, taken
from lvjobs.study.stages import Stage
from lvjobs.sweep.request import Request, combinations, settings_of

TRAIN = {"data": "/d.h5"}


def cells(stage, stages, train, typed, winner=None):
    return Request(train=train, typed=typed).settings(stage, stages, winner)


def named(stages):
    return [stage.name for stage in stages]


def test_the_published_study_is_the_default():
    assert StudyConfig().stage == list(PUBLISHED)
    assert named(PUBLISHED) == ["zero_shot", "base", "stage1", "stage2", "final", "evaluate"]
    first, second, third = (PUBLISHED[number] for number in (2, 3, 4))
    assert len(combinations(first)) == 9
    assert set(taken(second, PUBLISHED)) == {"lora_rank", "learning_rate", "context_length"}
    assert set(taken(third, PUBLISHED)) == {"lora_rank", "learning_rate", "context_length"}


def test_stages_come_after_what_they_name_and_else_as_declared():
    stages = [
        Stage(name="table", evaluate=["b", "a"]),
        Stage(name="b", origin="a"),
        Stage(name="c"),
        Stage(name="a"),
        Stage(name="d", after=["c"]),
    ]
    assert named(in_order(stages)) == ["c", "a", "b", "table", "d"]


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([Stage(name="a", origin="b")], "names 'b', and there is no such stage"),
        ([Stage(name="a", origin="b"), Stage(name="b", after=["a"])], "wait for one another"),
        ([Stage(name="e", zero_shot=["raw"]), Stage(name="a", origin="e")], "which has no winner"),
        ([Stage(name="e", zero_shot=["raw"]), Stage(name="f", evaluate=["e"])], "trains nothing"),
    ],
)
def test_stages_that_make_no_sense_together(stages, words):
    with pytest.raises(ValueError, match=words):
        in_order(stages)


FOLDS = 'grid = { fold = [0, 1] }\nset = { split = "k-fold" }'
BY_MAE = 'select = { metric = "validation_mae" }'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "all"', "means something else"),
        ('name = "a b"', "letters, digits"),
        ('name = "a"\ntake = ["lora_rank"]', "no stage to take from"),
        ('name = "a"\nseeds = [0, 1]\nset = { seed = 3 }', "seeds twice"),
        ('name = "a"\nevaluate = ["b"]\nsteps = 3', "evaluates, and steps"),
        ('name = "a"\nselect = { mode = "least" }', "stage a: select.mode"),
        ('name = "a"\nform = "b"', "did you mean 'from'"),
        ('name = "a"\nfrom = "nowhere"', "no such stage"),
        ('name = "a"\nselect = { at = "first" }', "write last, best, or a step"),
        ('name = "a"\nzero_shot = ["raw"]\nquorum = 2', "has no winner"),
        ('name = "a"\nzero_shot = ["raw"]\nselect = { mode = "max" }', "has no winner"),
        ('name = "a"\ngrid = { head = ["full", "numeric"] }', "two objectives"),
        (
            'name = "a"\ngrid = { lora_rank = [2, 4], decimals = [2, 3] }',
            "runs that differ in decimals by validation_loss",
        ),
        ('name = "a"\ngrid = { scale_power = [1, 0.5] }\nselect = { metric = "loss" }', "select by validation_mae"),
        ('name = "a"\ngrid = { data = ["a.h5", "b.h5"] }', "evaluate --table$"),
        ('name = "a"\ngrid = { split = ["random", "k-fold"] }', "differ in split by validation_loss"),
        (
            'name = "a"\ngrid = { folds = [2, 5] }\nset = { split = "k-fold", validation_forecasts = 8 }\n' + BY_MAE,
            "differ in folds by validation_mae",
        ),
        ('name = "a"\nselect = { metric = "validation_los" }', "did you mean 'validation_loss'"),
        ('name = "a"\nselect = { metric = "accuracy" }', "training_loss, validation_mae, mae, loss, loss_numeric"),
        ('name = "a"\nspace = { fold = [0, 1] }\nsearch = { trials = 2 }', "have all folds in a grid"),
        (
            'name = "a"\ngrid = { fold = [0, 1] }\nset = { split = "k-fold" }\nprune = { rule = "median", first = 5 }',
            'take rule = "halving"',
        ),
        ('name = "b"\n[[stage]]\nname = "a"\nevaluate = ["b"]\nset = { split = "k-fold" }', "by their own split"),
        (
            'name = "b"\n' + FOLDS + '\n[[stage]]\nname = "a"\nfrom = "b"',
            r'would train fold 0 alone: add grid = \{ fold = \[0, 1\] \} and set = \{ split = "k-fold" \}, or',
        ),
        ('name = "b"\n[[stage]]\nname = "a"\nfrom = "b"\ntake = ["lora_rnk"]', "did you mean 'lora_rank'"),
    ],
)
def test_bad_stages_are_one_line(tmp_path, text, words):
    (tmp_path / "study.toml").write_text(f"[[stage]]\n{text}\n")
    with pytest.raises(UsageError, match=words) as caught:
        load_study(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '[[stage]]\nname = "a"\ngrid = { decimals = [2] }',
        '[[stage]]\nname = "a"\ngrid = { decimals = [2, 3] }\nselect = { metric = "mae" }',
        '[train]\nvalidation_forecasts = 8\n[[stage]]\nname = "a"\ngrid = { decimals = [2, 3] }\n' + BY_MAE,
        '[train]\nvalidation_forecasts = 8\n[[stage]]\nname = "a"\ngrid = { scale_power = [1, 0.5] }\n' + BY_MAE,
        '[[stage]]\nname = "b"\nfrom = "a"\ntake = ["split", "fold"]\n[[stage]]\nname = "a"\n' + FOLDS,
        '[[stage]]\nname = "b"\nfrom = "a"\n' + FOLDS + '\n[[stage]]\nname = "a"\n' + FOLDS,
        '[[stage]]\nname = "a"\ngrid = { fold = [0, 1] }\nset = { split = "k-fold" }\nprune = { rule = "halving" }',
        '[[stage]]\nname = "b"\nfrom = "a"\nset = { fold = 1 }\n[[stage]]\nname = "a"\n' + FOLDS,
        '[train]\ntask = "mine:train"\nformat = 1\n[[stage]]\nname = "a"\ngrid = { format = [1, 2] }',
    ],
)
def test_what_may_differ_where_losses_are_not_compared_or_a_task_has_its_own(tmp_path, text):
    (tmp_path / "study.toml").write_text(f"{text}\n")
    assert load_study(tmp_path).config.stage[0].name == "a"


SEARCH = "search = { trials = 3 }"


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("lora_rank = { low = 8, high = 2 }", "stage a searches lora_rank: low = 8 has to be below high = 2"),
        ("lora_rank = { low = 2, high = 2 }", "has to be below"),
        ("lora_rank = { low = 1.5, high = 4 }", "lora_rank, which is a whole number; low = 1.5"),
        ("lora_rank = { low = 1, high = 4, step = 0.5 }", "lora_rank, which is a whole number; step = 0.5"),
        ("lora_rank = { low = 1, high = 4, step = 2 }", "steps of 2 from low = 1 meet 3, not high = 4"),
        ("lora_rank = { low = 1, high = 4, step = 0 }", "step = 0: input should be greater than 0"),
        ("lora_rank = { low = 1 }", "high is missing"),
        ("lora_rank = { low = 1, hihg = 2 }", "unknown key 'hihg'"),
        ("lora_rank = { low = 1, high = inf }", "lora_rank: high = inf"),
        ('lora_rank = { low = "one", high = 2 }', "'one' is not a number"),
        ("lora_rank = []", "its list is empty"),
        ("lora_rank = [2, 4, 2]", "2 is in its list twice"),
        ("lora_rank = [[2]]", "no value of"),
        ("lora_rank = 4", "or a list of values"),
        ("learning_rate = { low = 0, high = 1, log = true }", "needs a low above 0"),
        ("learning_rate = { low = 1, high = 2, log = true, step = 1 }", "log and step"),
        ("learning_rat = [1e-4]", "did you mean 'learning_rate'"),
        ("format = { low = 1, high = 2 }", "format, which is no number"),
        ("keep_best = { low = 0, high = 1 }", "keep_best, which is no number"),
        ("seed = [0, 1]", "give it seeds"),
        ('head = ["full", "numeric"]', "two objectives"),
        ("scale_target = { low = 1, high = 10 }", "two objectives"),
    ],
)
def test_spaces_that_are_none_are_one_line_that_names_the_stage(tmp_path, space, words):
    (tmp_path / "study.toml").write_text(f'[[stage]]\nname = "a"\nspace = {{ {space} }}\n{SEARCH}\n')
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        load_study(tmp_path)
    assert "\n" not in str(caught.value)
    assert "stage a" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"space = {{ lora_rank = [2] }}\ngrid = {{ lora_rank = [2] }}\n{SEARCH}", "a grid and a space"),
        ("space = { lora_rank = [2] }", "no number of trials"),
        (SEARCH, "nothing to search"),
        ("space = 3", "write space as a table"),
        ("space = { lora_rank = [2] }\nsearch = 3", "trials is missing"),
        ("space = { lora_rank = [2] }\nsearch = { trials = 0 }", "trials = 0"),
        ("space = { lora_rank = [2] }\nsearch = { trials = 2, parallel = 0 }", "parallel = 0"),
        ('space = { lora_rank = [2] }\nsearch = { trials = 2, sampler = "cmaes" }', "sampler = 'cmaes'"),
        ("space = { lora_rank = [2] }\nsearch = { trials = 2, jobs = 2 }", "unknown key 'jobs'"),
        (f"space = {{ lora_rank = [2] }}\nset = {{ lora_rank = 2 }}\n{SEARCH}", "searches lora_rank, and sets it"),
        (f"space = {{ steps = [2, 4] }}\nsteps = 2\n{SEARCH}", "searches steps, and sets it"),
        (f'zero_shot = ["raw"]\nspace = {{ lora_rank = [2] }}\n{SEARCH}', "evaluates, and space"),
    ],
)
def test_searches_that_are_none(tmp_path, text, words):
    (tmp_path / "study.toml").write_text(f'[[stage]]\nname = "a"\n{text}\n')
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        load_study(tmp_path)
    assert "stage a" in str(caught.value)


def test_a_space_as_people_write_it(tmp_path):
    space = 'lora_rank = { low = 2, high = 1e1, step = 4 }, learning_rate = { low = "1e-5", high = 1e-3, log = true }'
    (tmp_path / "study.toml").write_text(
        f'[[stage]]\nname = "a"\nspace = {{ {space}, packing = [true, false], lora_dropout = {{ low = 0, high = 0.3, '
        "step = 0.1 }} }\nsearch = { trials = 1e1 }\n".replace("}} }", "} }")
    )
    (stage,) = load_study(tmp_path).config.stage
    assert in_words(stage.space) == (
        "lora_rank 2 to 10 by 4 x learning_rate 1e-05 to 0.001 (log) x packing [True, False] x lora_dropout 0 to 0.3 by 0.1"
    )
    assert (stage.search.trials, stage.search.at_once, stage.search.sampler) == (10, 4, "tpe")
    kept = stage.model_dump(mode="json", by_alias=True)
    assert Stage.model_validate(json.loads(json.dumps(kept))) == stage


def test_the_corners_of_a_space():
    stage = Stage(name="a", space={"lora_rank": {"low": 2, "high": 8}, "packing": [True, False]}, search={"trials": 3})
    assert corners(stage.space) == [
        {"lora_rank": rank, "packing": packing} for rank in (2, 8) for packing in (True, False)
    ]
    assert corners(stage.space, ["packing"]) == corners(stage.space)[:2]
    found = cells(stage, [stage], TRAIN, {})
    assert [(each.lora_rank, each.packing) for each in found] == [(2, True), (2, False), (8, True), (8, False)]
    many = {f"key{number}": list(range(4)) for number in range(6)}
    assert len(corners(many)) == 1 + 6 * 3, "one key after another: all together they were 4096"


def test_a_stage_takes_over_what_a_sampler_found():
    a = Stage(name="a", space={"lora_rank": [2, 4], "learning_rate": {"low": 1, "high": 2}}, search={"trials": 3})
    b = Stage(name="b", origin="a")
    assert taken(b, [a, b]) == ["lora_rank", "learning_rate"]


def test_a_stage_takes_over_what_the_one_before_varied_set_or_took_over():
    a = Stage(name="a", set={"weight_decay": 0.1}, grid={"lora_rank": [2, 4]})
    b = Stage(name="b", origin="a", grid={"context_length": [64, 128]})
    c = Stage(name="c", origin="b", take=["lora_rank"])
    every = [a, b, c]
    assert carried(b, every) == ["weight_decay", "lora_rank", "context_length"]
    (winner,) = [s.run_config() for s in cells(a, every, TRAIN, {}) if s.lora_rank == 4]
    over = cells(b, every, TRAIN, {}, winner)
    assert [(s.weight_decay, s.lora_rank, s.context_length) for s in over] == [(0.1, 4, 64), (0.1, 4, 128)]
    (only,) = cells(c, every, TRAIN, {}, over[1].run_config())
    assert (only.weight_decay, only.lora_rank, only.context_length) == (0.0, 4, 512), "take names all that is taken"


def test_steps_and_seeds_are_a_stage_s_own():
    a = Stage(name="a", steps=10, seeds=[0, 1], grid={"lora_rank": [2, 4]})
    found = cells(a, [a], TRAIN, {})
    assert [(s.lora_rank, s.seed, s.steps) for s in found] == [(2, 0, 10), (2, 1, 10), (4, 0, 10), (4, 1, 10)]
    b = Stage(name="b", origin="a")
    (after,) = cells(b, [a, b], TRAIN, {}, found[3].run_config())
    assert (after.lora_rank, after.seed, after.steps) == (4, 0, 5000)


def test_what_was_typed_comes_last():
    a = Stage(name="a", steps=10, grid={"lora_rank": [2, 4]})
    assert [s.lora_rank for s in cells(a, [a], TRAIN, {"lora_rank": 16})] == [16, 16]


def test_the_same_combination_is_the_same_run_in_another_stage():
    """Stage 2's cell at 512, and stage 1's winner."""
    every = list(PUBLISHED)
    (first,) = [
        s.run_config() for s in cells(every[2], every, TRAIN, {}) if (s.lora_rank, s.learning_rate) == (8, 5e-5)
    ]
    second = [s.run_config() for s in cells(every[3], every, TRAIN, {}, first)]
    assert [config.fingerprint == first.fingerprint for config in second] == [False, True, False]


def test_settings_of_a_run_make_that_run_again():
    (made,) = cells(Stage(name="a"), [], {**TRAIN, "seed": 3, "lora_rank": 2}, {})
    config = made.run_config()
    again = cells(Stage(name="a", set=settings_of(config)), [], TRAIN, {})[0].run_config()
    assert isinstance(config, RunConfig)
    assert again.fingerprint == config.fingerprint


def test_keys_of_halving_without_its_rule_name_the_rule():
    with pytest.raises(ValueError, match='are of halving: add rule = "halving"'):
        Stage(name="s", prune={"at": ["1/4"], "keep": [2]})
    assert Stage(name="s", prune={"kind": "median", "first": 5}).prune.rule == "median"


def test_a_fold_repeats_a_candidate_as_a_seed_does_and_nobody_takes_it_over():
    folds = Stage(name="folds", seeds=[0, 1], grid={"lora_rank": [2, 4], "fold": [0, 1, 2]}, set={"split": "k-fold"})
    later = Stage(name="later", origin="folds")
    assert folds.repeats == 6
    assert later.repeats == 1
    assert set(taken(later, [folds, later])) == {"lora_rank", "split"}
    first, other, rank = (
        RunConfig(task="a:b", steps=1, seed=seed, params={"lora_rank": rank, "fold": fold})
        for seed, fold, rank in ((0, 0, 2), (1, 2, 2), (0, 0, 4))
    )
    assert first.candidate == other.candidate != rank.candidate
