"""Training on the bundled model: resumed bit for bit, reloaded exactly, validated without a trace."""

import json
import math
import shutil

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from forecasting_helpers import FakeRun, adapter_bytes, one_thread, run_through, small

from lvjobs.errors import LvjobsError
from lvjobs.forecasting import train as task
from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.data import make_dataset, sha256
from lvjobs.forecasting.learning_rate import schedule, stable_until
from lvjobs.forecasting.models import AdapterMismatch, load_adapter
from lvjobs.forecasting.splits import training_split
from lvjobs.forecasting.tokens import Characters
from lvjobs.records.run_files import Done
from lvjobs.study.layout import RunLayout
from lvjobs.study.params import TrainingConfig
from lvjobs.study.parent import Parent
from lvjobs.study.run import RunFile
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.checkpoints import find_newest_valid, published
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.saved_files import finish
from lvjobs.worker.submission import Submission
from lvjobs.worker.tensor_file import sha256_of

__all__ = ["one_thread"]  # a fixture


pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.h5"
    make_dataset(path, systems=5, seed=0)
    return path


@pytest.fixture(scope="module")
def config(data):
    return small(data)


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    return run_through(config, tmp_path_factory.mktemp("undisturbed"))


def losses(*runs):
    """Step -> loss of what was executed last, as JSON would have it."""
    return {step: metrics["loss"] for run in runs for step, metrics in run.logs}


def test_the_order_of_events(undisturbed):
    marks = [event for event in undisturbed.events if event[0] != "log"]
    assert marks == [("validated", 0)] + [(kind, step) for step in (4, 8, 12) for kind in ("validated", "checkpoint")]
    assert [step for step, _ in undisturbed.logs] == list(range(1, 13))


def test_a_finished_run_has_at_most_twelve_files_and_directories(data, tmp_path, monkeypatch):
    """Also where the best checkpoint is a third one; the adapter is in PEFT's own format, and nothing else is there."""
    losses = iter([9.0, 8.0, 1.0, 3.0, 2.0])
    monkeypatch.setattr(task.Trainer, "validate", lambda _: {"loss": next(losses)})
    config = small(data, steps=40, checkpoint_every=10, validate_every=10)
    layout = RunLayout(tmp_path / "run")
    layout.root.mkdir()
    run = RunFile(id="id", name="run", stage="s", fingerprint=config.fingerprint, config=config)
    layout.config.write_text(run.model_dump_json())
    journal = JournalWriter(layout.journal(1))
    attempt = Attempt(layout, config, 1, Submission(layout, ""), journal, None)
    task.train(attempt)
    journal.close()
    finish(layout, 1, find_newest_valid(layout)[0])
    assert [name.step for name in published(layout)] == [20, 30, 40]
    assert sorted(path.name for path in layout.final.rglob("*")) == [
        "adapter", "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    assert Done.from_json(layout.done.read_text()).files == {
        f"adapter/{name}": sha256_of(layout.final / "adapter" / name)
        for name in ("adapter_config.json", "adapter_model.safetensors")
    }
    made = [layout.root, *layout.root.rglob("*")]
    assert len([path for path in made if path not in (layout.journals, layout.steps)]) <= 12


def test_what_is_logged(undisturbed):
    _, metrics = undisturbed.logs[5]
    assert set(metrics) == {"loss", "learning_rate", "tokens"}
    assert 0 < metrics["tokens"] <= 96
    _, validation = undisturbed.validations[0]
    assert set(validation) == {"loss", "batches", "windows", "tokens"}
    assert (validation["batches"], validation["windows"], validation["tokens"]) == (1, 1, 130)
    rates = [metrics["learning_rate"] for _, metrics in undisturbed.logs]
    assert rates[:3] == pytest.approx([4e-3 / 3, 8e-3 / 3, 4e-3])
    assert all(np.diff(rates[2:]) < 0)


def test_the_same_run_twice_is_the_same_run(config, undisturbed, tmp_path):
    again = run_through(config, tmp_path)
    assert adapter_bytes(again) == adapter_bytes(undisturbed)
    assert losses(again) == losses(undisturbed)


@pytest.mark.parametrize("kill_at", [5, 7, 11])
def test_a_killed_run_ends_with_the_same_bits(config, undisturbed, tmp_path, kill_at):
    first = run_through(config, tmp_path / "1", kill_at=kill_at)
    assert first.saved[0] == kill_at // 4 * 4
    second = run_through(config, tmp_path / "2", before=first.saved)
    assert 0 not in dict(second.validations)
    assert losses(first, second) == losses(undisturbed)
    assert adapter_bytes(second) == adapter_bytes(undisturbed)


def test_a_stopped_run_checkpoints_the_step_it_ended_and_goes_on(config, undisturbed, tmp_path):
    first = run_through(config, tmp_path / "1", stop_at=6)
    assert (first.events[-1], len(first.logs)) == (("checkpoint", 6), 6)
    second = run_through(config, tmp_path / "2", before=first.saved)
    assert [step for step, _ in second.logs] == list(range(7, 13))
    assert adapter_bytes(second) == adapter_bytes(undisturbed)


def test_asked_to_leave_while_the_model_is_loaded_it_begins_nothing(config, undisturbed, tmp_path):
    for before in (None, undisturbed.saved):
        run = FakeRun(config, tmp_path, before)
        run.should_stop = lambda: True
        task.train(run)
        assert run.events == []


@pytest.mark.parametrize("lost", ["optimizer", "scheduler", "data", "adapter", "rng"])
def test_the_bitwise_test_notices_a_part_that_is_not_restored(config, undisturbed, tmp_path, monkeypatch, lost):
    first = run_through(config, tmp_path / "1", kill_at=6)
    step, state, path, rng = first.saved
    if lost == "rng":
        rng = torch.Generator().manual_seed(99).get_state()
    elif lost == "adapter":
        monkeypatch.setattr(task, "load_adapter", lambda model, directory: None)
    else:
        fresh = task.Trainer(config).state()[lost]
        state = state | {lost: fresh}
    second = run_through(config, tmp_path / "2", before=(step, state, path, rng))
    assert adapter_bytes(second) != adapter_bytes(undisturbed)


def test_validation_leaves_no_trace(data, undisturbed, tmp_path):
    """Neither the generators nor the weights may know how often one looked."""
    often = run_through(small(data, validate_every=1), tmp_path)
    assert len(often.validations) == 13
    assert adapter_bytes(often) == adapter_bytes(undisturbed)


def test_training_lowers_the_loss(data, tmp_path):
    run = run_through(small(data, steps=25, context_length=130, checkpoint_every=25, validate_every=25), tmp_path)
    (_, before), (_, after) = run.validations
    assert after["loss"] < before["loss"]


@pytest.fixture
def trainer(config):
    torch.manual_seed(0)
    return task.Trainer(config)


def test_only_the_adapter_learns(trainer):
    learning = {name for name, weights in trainer.model.named_parameters() if weights.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    assert sum(w.numel() for w in trainer.model.parameters() if w.requires_grad) == 52_224


def test_alpha_is_the_rank_unless_it_is_given(data):
    for given, factor in ((None, 1.0), (8.0, 2.0)):
        layer = task.Trainer(small(data, lora_alpha=given, lora_targets="qv")).model.base_model.model.model.layers[0]
        assert layer.self_attn.q_proj.scaling["default"] == factor
        assert not hasattr(layer.self_attn.k_proj, "lora_A")


def saved_adapter(trainer, directory):
    trainer.state()["adapter"](directory)
    path = directory / "adapter_model.safetensors"
    return path, safetensors.torch.load_file(path)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # plain peft's own
def test_a_checkpoint_is_small_and_in_pefts_own_format(trainer, tmp_path):
    from peft import PeftModel

    path, weights = saved_adapter(trainer, tmp_path)
    assert path.stat().st_size < 300_000
    assert all("lora_" in name for name in weights)
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    trainer.state()["adapter"](tmp_path)
    base, _ = task.load_base(trainer.config)
    plain = PeftModel.from_pretrained(base, tmp_path).eval()
    ids = torch.arange(3, 13)[None]
    assert torch.equal(plain(input_ids=ids).logits, trainer.model.eval()(input_ids=ids).logits)


def test_an_adapter_comes_back_exactly(trainer, config, tmp_path):
    _, weights = saved_adapter(trainer, tmp_path)
    other = task.Trainer(config)
    load_adapter(other.model, tmp_path)
    assert {k: v.tolist() for k, v in saved_adapter(other, tmp_path)[1].items()} == {
        k: v.tolist() for k, v in weights.items()
    }


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weights, name: weights.pop(name), "lacks 1 weight"),
        (lambda weights, name: weights.update(stranger=torch.ones(2)), "too many, such as stranger"),
        (lambda weights, name: weights.update({name: weights[name][:1].clone()}), "has the shape"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(trainer, tmp_path, spoil, message):
    path, weights = saved_adapter(trainer, tmp_path)
    spoil(weights, min(weights))
    safetensors.torch.save_file(weights, path)
    with pytest.raises(AdapterMismatch, match=message):
        load_adapter(trainer.model, tmp_path)


def test_an_adapter_that_peft_does_not_take_up_is_noticed(trainer, tmp_path, monkeypatch):
    saved_adapter(trainer, tmp_path)
    with torch.no_grad():
        next(p for p in trainer.model.parameters() if p.requires_grad).add_(1)
    monkeypatch.setattr("peft.set_peft_model_state_dict", lambda model, weights: None)
    with pytest.raises(AdapterMismatch, match="not loaded"):
        load_adapter(trainer.model, tmp_path)


@pytest.mark.parametrize("params", [{"head": "numeric"}, {"packing": True}, {"scaling": "global", "decimals": 3}])
def test_each_way_of_training_lowers_its_loss_and_resumes_bit_for_bit(data, tmp_path, params):
    config = small(data, steps=8, context_length=96, **params)
    name = "loss_numeric" if params == {"head": "numeric"} else "loss"
    whole = run_through(config, tmp_path / "whole")
    (_, before), *_, (_, after) = whole.validations
    assert after[name] < before[name]
    assert all(name in metrics and ("loss" in metrics) == (name == "loss") for _, metrics in whole.logs)
    first = run_through(config, tmp_path / "1", kill_at=6)
    second = run_through(config, tmp_path / "2", before=first.saved)
    assert adapter_bytes(second) == adapter_bytes(whole)


def test_a_numeric_head_is_a_softmax_over_the_series_characters(data):
    """Its loss is that of the full head, normalised over fourteen tokens; and an adapter of it is one of any head."""
    torch.manual_seed(0)
    full = task.Trainer(small(data, lora_dropout=0.0))
    torch.manual_seed(0)
    numeric = task.Trainer(small(data, lora_dropout=0.0, head="numeric"))
    batch, other = (trainer.training.take(np.array([0, 1])) for trainer in (full, numeric))
    with torch.no_grad():
        logits = full.model(
            input_ids=torch.from_numpy(batch.ids), attention_mask=torch.from_numpy(batch.attention)
        ).logits
        table = Characters(task.load_base(full.config)[1], "tiny", Codec())
        chances = torch.log_softmax(logits[:, :-1, table.alphabet], -1)
        places = torch.from_numpy(other.labels[:, 1:]).clamp(min=0)
        nats = -chances.gather(-1, places[..., None])[..., 0][other.labels[:, 1:] >= 0]
        found, count = task.loss_of(numeric.model, other)
    assert count == len(nats)
    assert float(found) == pytest.approx(float(nats.sum()), rel=1e-5)
    assert {n for n, p in full.model.named_parameters() if p.requires_grad} == {
        n for n, p in numeric.model.named_parameters() if p.requires_grad
    }


def test_tiny_cannot_be_trained_on_instructions(data):
    with pytest.raises(LvjobsError, match="no chat template"):
        task.Trainer(small(data, format="instruct"))


def test_data_that_changed_since_the_run_was_declared_are_refused(data):
    task.Trainer(small(data, data_sha256=sha256(data)))
    with pytest.raises(LvjobsError, match="no longer the file"):
        task.Trainer(small(data, data_sha256="0" * 64))


@pytest.mark.parametrize("harm", ["gone", "edited", "no HDF5"])
def test_a_job_whose_data_file_is_lost_asks_to_restore_it(data, tmp_path, harm):
    """`lvjobs resume` has no --data, and another file would be refused."""
    lost = tmp_path / "lost.h5"
    lost.write_bytes(data.read_bytes())
    config = small(lost, data_sha256=sha256(lost))
    if harm == "gone":
        lost.unlink()
    else:
        lost.write_bytes(data.read_bytes() + b"more" if harm == "edited" else b"text")
    with pytest.raises(LvjobsError) as caught:
        run_through(config, tmp_path / "dm")
    message = str(caught.value)
    assert message.startswith(str(lost))
    assert message.endswith("; restore it, then type: lvjobs resume dm")
    assert "--data" not in message
    assert "data make" not in message


def test_a_loss_that_is_no_number_is_an_error(trainer):
    with torch.no_grad():
        next(p for p in trainer.model.parameters() if p.requires_grad).fill_(math.nan)
    with pytest.raises(LvjobsError, match=r"nan at step 3: lower the learning rate"):
        trainer.step(3)


def test_padding_does_not_move_the_loss(trainer):
    alone = trainer.training.take(np.array([0]))
    beside = trainer.validation.take(np.array([0]))
    width = beside.ids.shape[1] - alone.ids.shape[1]
    assert width > 0
    padded = type(alone)(
        np.pad(alone.ids, ((0, 0), (0, width))),
        np.pad(alone.attention, ((0, 0), (0, width))),
        np.pad(alone.labels, ((0, 0), (0, width)), constant_values=-100),
    )
    trainer.model.eval()
    (short, count), (long, same) = task.loss_of(trainer.model, alone), task.loss_of(trainer.model, padded)
    assert count == same == alone.ids.shape[1] - 1
    assert long.item() == pytest.approx(short.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4]),
        ("wsd", [0.5, 1, 1, 1, 0.5]),
        ("wsd 3", [0.5, 1, 0.75, 0.5, 0.25]),
    ],
)
def test_schedules(name, expected):
    name, _, decay = name.partition(" ")
    config = TrainingConfig(data="x", schedule=name, warmup_steps=1, decay_steps=int(decay) if decay else None)
    factor = schedule(config, 5)
    assert [factor(index) for index in range(5)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ({"schedule": "wsd"}, 90),
        ({"schedule": "wsd", "decay_steps": 25}, 75),
        ({"schedule": "constant"}, 100),
        ({"schedule": "linear"}, 0),
        ({}, 0),
    ],
)
def test_up_to_this_step_a_longer_training_is_the_same(settings, step):
    assert stable_until(settings, 100) == step
    short, long = (schedule(TrainingConfig(data="x", warmup_steps=7, **settings), steps) for steps in (100, 1000))
    assert [short(index) for index in range(step)] == [long(index) for index in range(step)]
    assert step == 100 or short(max(step, 8)) != long(max(step, 8))


def continuing(config, step, **changes):
    """The run with other steps and settings, continuing one from its checkpoint of `step`."""
    steps = changes.pop("steps", config.steps)
    found = config.model_copy(update={"steps": steps, "params": {**config.params, **changes}})
    return found.model_copy(update={"parent": Parent(run="parent", step=step, sha256="0")})


def test_from_the_stable_phase_a_run_goes_on_as_one_of_all_steps(data, tmp_path):
    settings = {"schedule": "wsd", "decay_steps": 3, "early_stopping_patience": 9}
    short, long = (small(data, steps=steps, **settings) for steps in (9, 14))
    whole = run_through(long, tmp_path / "whole")
    parent = run_through(short, tmp_path / "parent", stop_at=6)
    assert parent.logs == whole.logs[:6]
    first = run_through(continuing(short, 6, steps=14), tmp_path / "1", before=parent.saved, kill_at=10)
    second = run_through(continuing(short, 6, steps=14), tmp_path / "2", before=first.saved)
    assert first.logs[:2] + second.logs == whole.logs[6:], "losses and learning rates"
    assert second.saved[1]["patience"] == whole.saved[1]["patience"]
    assert adapter_bytes(second) == adapter_bytes(whole)


def test_a_finished_decay_is_continued_under_a_schedule_of_its_own(data, tmp_path):
    before = small(data, steps=4)
    parent = run_through(before, tmp_path / "parent")
    config = continuing(before, 4, steps=8, schedule="linear", learning_rate=1e-3, weight_decay=0.5, warmup_steps=6)
    run = run_through(config, tmp_path / "run", before=parent.saved)
    factor = schedule(TrainingConfig.model_validate(config.params), 8)
    assert [metrics["learning_rate"] for _, metrics in run.logs] == [1e-3 * factor(index) for index in range(4, 8)]
    groups = run.saved[1]["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.5] * len(groups)


def test_other_windows_begin_an_order_of_their_own(data, tmp_path):
    before = small(data, steps=4, schedule="constant")
    parent = run_through(before, tmp_path / "parent")
    run = run_through(continuing(before, 4, steps=6, context_length=32), tmp_path / "run", before=parent.saved)
    assert run.saved[1]["data"]["drawn"] == 2 * 2
    same = run_through(continuing(before, 4, steps=6), tmp_path / "same", before=parent.saved)
    assert same.saved[1]["data"]["drawn"] == 6 * 2


def test_the_patience_that_ended_the_parent_does_not_end_its_child(data, tmp_path, monkeypatch):
    losses = iter([1.0, 2.0, 3.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(task.Trainer, "validate", lambda _: {"loss": next(losses)})
    before = small(data, steps=40, checkpoint_every=2, validate_every=2, early_stopping_patience=2)
    parent = run_through(before, tmp_path / "parent")
    assert parent.events[-1] == ("final", 4)
    run = run_through(continuing(before, 4), tmp_path / "run", before=parent.saved)
    assert run.events[-1] == ("final", 8), "two more without a lower loss than the parent's best"


def test_a_fake_is_a_run(config, tmp_path):
    from lvjobs.worker import Run

    run: Run = FakeRun(config, tmp_path)
    assert run.resume() is None


# What is trained on, what is validated on, what is scored


def with_others(data, systems, path):
    """The file with other series in these places."""
    shutil.copyfile(data, path)
    with h5py.File(path, "r+") as file:
        for system in systems:
            file["/trajectories"][system] = file["/trajectories"][system][::-1]
    return path


@pytest.mark.parametrize("scaling", ["series", "global"])
def test_what_is_scored_has_no_say_in_a_training_or_in_what_it_is_chosen_by(data, tmp_path, scaling):
    chosen = {"steps": 4, "train_systems": None, "validation_systems": 2, "validation_limit": 9, "scaling": scaling}
    split = training_split(5, TrainingConfig(data="x", validation_systems=2))
    assert (split.train, split.validation, split.test) == ((0, 1), (2, 3), (4,))
    run = run_through(small(data, **chosen), tmp_path / "run")
    others = {
        part: run_through(small(with_others(data, systems, tmp_path / f"{part}.h5"), **chosen), tmp_path / part)
        for part, systems in (("train", split.train), ("validation", split.validation), ("test", split.test))
    }
    assert adapter_bytes(others["test"]) == adapter_bytes(run)
    assert others["test"].validations == run.validations
    assert adapter_bytes(others["validation"]) == adapter_bytes(run)
    assert others["validation"].validations != run.validations
    assert adapter_bytes(others["train"]) != adapter_bytes(run)


def test_a_run_keeps_its_split_and_does_not_go_on_with_another(data, tmp_path):
    config = small(data, train_systems=2, validation_systems=1)
    half = run_through(config, tmp_path / "half", stop_at=4)
    _, state, path, _ = half.saved
    split = state["split"]
    assert (split["train"], split["validation"], split["test"]) == ([0, 1], [3], [4])
    state["split"] = {**split, "validation": [2]}
    with pytest.raises(LvjobsError, match="names other systems"):
        run_through(config, tmp_path / "half", before=half.saved)
    del state["split"]
    (path / "split").mkdir()  # a checkpoint of an earlier release
    (path / "split" / task.SPLIT).write_text(json.dumps({**split, "validation": [2]}))
    with pytest.raises(LvjobsError, match="names other systems"):
        run_through(config, tmp_path / "half", before=half.saved)
    (path / "split" / task.SPLIT).unlink()  # of an even earlier one
    assert run_through(config, tmp_path / "rest", before=half.saved).step == 4
