"""lvjobs.fit: a Trainer is logged, validated, checkpointed and stopped as a run, and goes on bit for bit."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch.utils.data import IterableDataset
from trainer_helpers import Augmented, masked, small_model, small_trainer
from transformers.trainer_callback import ExportableState
from worker_helpers import checkpoint_path, entries, executed, make_run, published

import lvjobs
from lvjobs.errors import LvjobsError
from lvjobs.rehearsal.differences import RunResult, differences
from lvjobs.study.run import RunConfig
from lvjobs.worker import determinism
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.checkpoints import find_newest_valid
from lvjobs.worker.environment import read_environment
from lvjobs.worker.generation import claim_generation
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.measure import cost_of
from lvjobs.worker.saved_files import finish
from lvjobs.worker.stored import open_checkpoint

pytestmark = pytest.mark.heavy

STEPS = 12


class Attempted(Attempt):
    """One that is asked to leave after a step, or dies of it."""

    leaves_after = dies_after = 10**6

    def log(self, step, **metrics):
        super().log(step, **metrics)
        if step == self.dies_after:
            raise KeyboardInterrupt

    def _why_stop(self):
        return "asked" if self.logged >= self.leaves_after else None


def begin(layout, **marks):
    """An attempt, and what a worker does before it calls a task."""
    claim = claim_generation(layout, read_environment({}))
    found, _ = find_newest_valid(layout)
    config = json.loads(layout.config.read_text())["config"]
    journal = JournalWriter(layout.journal(claim.generation))
    journal.write("start", generation=claim.generation, resumed_from=str(found.name) if found else None)
    attempt = Attempted(layout, RunConfig.model_validate(config), claim.generation, claim.token, journal, found)
    for name, value in marks.items():
        setattr(attempt, name, value)
    determinism.seed_generators(attempt.config.seed)
    return attempt


def attempt(layout, build=small_trainer, **marks):
    """From beginning to end, or death."""
    run = begin(layout, **marks)
    try:
        lvjobs.fit(run, build(layout.root))
    except KeyboardInterrupt:
        return run
    finally:
        run.journal.close()
    if run.is_over:
        finish(layout, run.generation, find_newest_valid(layout)[0])
    return run


def a_run(directory, **more):
    return make_run(directory, **{"steps": STEPS, "checkpoint_every": 5, "validate_every": 3, **more})


def differing(one, other):
    """The differences between the results of two runs."""
    return differences(RunResult(one), RunResult(other), is_program=False)[0]


def completed(directory, build=small_trainer, **more):
    layout = a_run(directory / "alone" / "checkpoints" / "run", **more)
    assert attempt(layout, build).is_over
    return layout


def disturbed(directory, *marks, build=small_trainer, **more):
    """A run whose attempts end as they are told, and then one that is left alone."""
    layout = a_run(directory / "disturbed" / "checkpoints" / "run", **more)
    for mark in marks:
        assert not attempt(layout, build, **mark).is_over
    assert attempt(layout, build).is_over
    return layout


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    transformers.utils.logging.enable_progress_bar()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return completed(tmp_path_factory.mktemp("trainer"))


# -- what the run is told -------------------------------------------------------------------------------------------


def test_each_step_is_logged_once_and_a_validation_comes_before_the_checkpoint(alone):
    assert executed(alone) == list(range(1, STEPS + 1))
    first = entries(alone, "step")[0]
    assert first.keys() == {"step", "seconds", "loss", "grad_norm", "learning_rate"}
    assert first["learning_rate"] == 1e-2
    assert entries(alone, "step")[-1]["learning_rate"] < 1e-3
    validations = entries(alone, "validation")
    assert [each["step"] for each in validations] == [3, 6, 9, 12]
    assert validations[0].keys() == {"step", "seconds", "loss", "epoch", "windows"}
    assert published(alone) == ["000001-00000010", "000001-00000012"]
    (journal,) = alone.journals.glob("*.jsonl")
    kinds = [json.loads(line)["kind"] for line in journal.read_text().splitlines()]
    assert kinds[-3:] == ["step", "validation", "checkpoint"]
    with open_checkpoint(checkpoint_path(alone, "000001-00000012")) as stored:
        metrics = stored.manifest.metrics
    assert metrics["validation_loss"] == validations[-1]["loss"]


def test_the_model_is_loaded_from_final_and_nothing_is_pickled_or_left_elsewhere(alone):
    files = {path.name for path in (alone.final / "trainer").iterdir()}
    assert files == {"config.json", "generation_config.json", "model.safetensors", "trainer_state.json"}
    model = transformers.AutoModelForCausalLM.from_pretrained(alone.final / "trainer")
    assert sum(each.numel() for each in model.parameters()) > 500
    assert list((alone.root / "out").iterdir()) == []
    with open_checkpoint(checkpoint_path(alone, published(alone)[-1])) as stored:
        assert {Path(file).name for file in stored.manifest.saved} == files


def test_several_datasets_are_one_validation(tmp_path):
    layout = completed(tmp_path, lambda root: small_trainer(root, validation="two"), steps=3)
    (validation,) = entries(layout, "validation")
    assert {"a_loss", "b_loss"} < validation.keys()


def test_without_a_dataset_to_validate_on_there_is_no_validation(tmp_path):
    layout = completed(tmp_path, lambda root: small_trainer(root, validation="none"), steps=3)
    assert entries(layout, "validation") == []


def test_what_others_log_is_logged_too_but_for_what_a_clock_gave_and_under_no_name_that_is_taken(tmp_path):
    class Talkative(transformers.Trainer):
        def log(self, logs, start_time=None):
            super().log({**logs, "rewards/mean": 0.5, "step": 4, "note": "text", "own_runtime": 2.0}, start_time)

    layout = completed(tmp_path, lambda root: small_trainer(root, kind=Talkative), steps=2)
    first = entries(layout, "step")[0]
    assert first["rewards/mean"] == 0.5
    assert first["trainer_step"] == 4
    assert not {"note", "own_runtime"} & first.keys()


def test_the_runs_seed_is_what_differs_between_its_repetitions(tmp_path):
    losses = []
    for seed in (1, 2):
        layout = completed(tmp_path / str(seed), steps=2)
        config = json.loads(layout.config.read_text())
        assert config["config"]["seed"] == 7
        shutil.rmtree(layout.root)
        layout = a_run(layout.root, steps=2)
        run = begin(layout)
        run.config = run.config.model_copy(update={"seed": seed})
        torch.manual_seed(0)  # one and the same model
        lvjobs.fit(run, small_trainer(layout.root))
        losses.append([each["loss"] for each in entries(layout, "step")])
    assert losses[0] != losses[1]


# -- stopping and going on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(1, STEPS))
def test_one_that_was_asked_to_leave_after_any_step_goes_on_bit_for_bit(tmp_path, alone, step):
    layout = disturbed(tmp_path, {"leaves_after": step})
    assert published(layout)[0] == f"000001-{step:08d}" or step < 10
    assert executed(layout) == list(range(1, STEPS + 1))
    assert differing(alone, layout) == []


def test_one_that_was_killed_again_and_again_goes_on_bit_for_bit(tmp_path, alone):
    deaths = [{"dies_after": step} for step in (3, 6, 7, 11)]
    layout = disturbed(tmp_path, *deaths)
    assert executed(layout) == [1, 2, 3, *range(1, 7), 6, 7, *range(6, 12), 11, 12]
    assert differing(alone, layout) == []


@pytest.mark.parametrize("strategy", ["group_by_length", "sequential"])
def test_other_orders_go_on_bit_for_bit_too(tmp_path, strategy):
    def build(root):
        return small_trainer(root, train_sampling_strategy=strategy)

    assert differing(completed(tmp_path, build), disturbed(tmp_path, {"leaves_after": 6}, build=build)) == []


def test_examples_that_other_processes_fetch_go_on_bit_for_bit(tmp_path):
    def build(root):
        return small_trainer(root, dataloader_num_workers=2, dataloader_persistent_workers=True)

    assert differing(completed(tmp_path, build), disturbed(tmp_path, {"leaves_after": 6}, build=build)) == []


def test_an_epoch_draws_other_numbers_than_the_one_before(tmp_path):
    """The same four examples in the same order, so that only what they draw can differ."""
    seen = []

    def collate(examples):
        seen.append(torch.stack([each["input_ids"] for each in examples]).tolist())
        return masked(examples)

    def build(root):
        trainer = small_trainer(root, data=Augmented(4), train_sampling_strategy="sequential", validation="none")
        trainer.data_collator = collate
        return trainer

    completed(tmp_path, build, steps=2)
    assert len(seen) == 4
    assert seen[:2] != seen[2:]


def test_an_iterable_that_yields_the_same_every_time_goes_on_bit_for_bit(tmp_path):
    class Endless(IterableDataset):
        def __iter__(self):
            generator = torch.Generator().manual_seed(5)
            while True:
                tokens = torch.randint(16, (6,), generator=generator)
                yield {"input_ids": tokens, "labels": tokens}

    def build(root):
        trainer = small_trainer(root, data=Endless(), max_steps=STEPS)
        trainer.data_collator = transformers.default_data_collator
        return trainer

    assert differing(completed(tmp_path, build), disturbed(tmp_path, {"leaves_after": 7}, build=build)) == []


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it
def test_an_adapter_is_saved_as_peft_reads_it_and_goes_on_bit_for_bit(tmp_path):
    peft = pytest.importorskip("peft")

    def build(root):
        torch.manual_seed(11)
        base = small_model()
        determinism.seed_generators(7)
        config = peft.LoraConfig(r=2, target_modules=["c_attn", "c_fc"], lora_dropout=0.1, fan_in_fan_out=True)
        return small_trainer(root, model=peft.get_peft_model(base, config))

    layout = disturbed(tmp_path, {"leaves_after": 4}, {"leaves_after": 9}, build=build)
    assert differing(completed(tmp_path, build), layout) == []
    adapter = layout.final / "trainer"
    assert (adapter / "adapter_model.safetensors").exists()
    assert not (adapter / "model.safetensors").exists()
    torch.manual_seed(11)
    loaded = peft.PeftModel.from_pretrained(small_model(), adapter)
    learnt = [each for name, each in loaded.named_parameters() if "lora_B" in name]
    assert all(bool(each.any()) for each in learnt)


class Ends(transformers.TrainerCallback):
    """Ends the training by itself, at some event of some step."""

    def __init__(self, event, step):
        setattr(self, event, self._end)
        self.step = step

    def _end(self, args, state, control, **_):
        control.should_training_stop |= state.global_step >= self.step
        return control


@pytest.mark.parametrize(
    ("event", "step"), [("on_step_end", 7), ("on_log", 4), ("on_evaluate", 6), ("on_epoch_end", 8)]
)
def test_a_training_that_another_callback_ends_is_over(tmp_path, event, step):
    layout = completed(tmp_path, lambda root: small_trainer(root, callbacks=[Ends(event, step)]))
    assert executed(layout)[-1] == step
    assert json.loads(layout.done.read_text())["step"] == step


def test_early_stopping_counts_on_where_it_was(tmp_path):
    def build(root):
        patient = transformers.EarlyStoppingCallback(early_stopping_patience=2)
        # No loss is ever 9 better than the best: the second validation after the first ends it.
        patient.early_stopping_threshold = 9.0
        return small_trainer(root, callbacks=[patient], metric_for_best_model="loss", greater_is_better=False)

    alone = completed(tmp_path, build)
    layout = disturbed(tmp_path, {"leaves_after": 5}, {"leaves_after": 6}, build=build)
    assert executed(alone)[-1] == 9
    assert differing(alone, layout) == []


class EndsAtEpoch(transformers.TrainerCallback, ExportableState):
    """Put back by the Trainer when it resumes, it comes after all others."""

    def on_epoch_end(self, args, state, control, **_):
        control.should_training_stop |= state.global_step >= 8
        return control

    def state(self):
        return {"args": {}, "attributes": {}}


def test_a_callback_that_was_put_back_ends_the_run_as_well(tmp_path):
    layout = disturbed(tmp_path, {"leaves_after": 6}, build=lambda root: small_trainer(root, callbacks=[EndsAtEpoch()]))
    assert executed(layout)[-1] == 8


def test_what_ends_it_is_not_forgotten_by_one_that_has_to_leave_at_the_same_step(tmp_path):
    def build(root):
        return small_trainer(root, callbacks=[Ends("on_evaluate", 6)])

    layout = a_run(tmp_path / "run")
    assert attempt(layout, build, leaves_after=6).is_over


# -- what is refused ------------------------------------------------------------------------------------------------


def test_several_processes_are_refused(tmp_path):
    run = begin(a_run(tmp_path / "run"))
    trainer = small_trainer(tmp_path)
    run.team = SimpleNamespace(size=2)
    with pytest.raises(LvjobsError, match="one of 2"):
        lvjobs.fit(run, trainer)
    run.team = SimpleNamespace(size=1)
    trainer.args = SimpleNamespace(world_size=4, n_gpu=1)
    with pytest.raises(LvjobsError, match="one of 4"):
        lvjobs.fit(run, trainer)
    trainer.args = SimpleNamespace(world_size=1, n_gpu=2)
    with pytest.raises(LvjobsError, match="2 GPUs"):
        lvjobs.fit(run, trainer)


def test_a_loss_that_is_no_number_ends_it_there_and_then(tmp_path):
    class Divergent(transformers.Trainer):
        def compute_loss(self, *arguments, **more):
            loss = super().compute_loss(*arguments, **more)
            return loss * float("nan") if self.state.global_step == 2 else loss

    layout = a_run(tmp_path / "run")
    with pytest.raises(LvjobsError, match="the loss is nan at step 3"):
        attempt(layout, lambda root: small_trainer(root, kind=Divergent))
    assert executed(layout) == [1, 2]


def test_a_checkpoint_that_lacks_something_learnt_is_found_out(tmp_path):
    class Forgetful(transformers.Trainer):
        def save_model(self, output_dir=None, _internal_call=False):
            with torch.no_grad():
                kept = self.model.transformer.wpe.weight.clone()
                self.model.transformer.wpe.weight.zero_()
                super().save_model(output_dir, _internal_call)
                self.model.transformer.wpe.weight.copy_(kept)

    def build(root):
        return small_trainer(root, kind=Forgetful)

    layout = a_run(tmp_path / "run")
    attempt(layout, build, leaves_after=2)
    with pytest.raises(LvjobsError, match=r"does not bring back.*transformer\.wpe\.weight"):
        attempt(layout, build)


# -- what it costs --------------------------------------------------------------------------------------------------

MEASURED = """
import lvjobs
from trainer_helpers import small_model, small_trainer

@lvjobs.task
def train(run):
    model = small_model(attn_implementation=run.config.params["attention"], attn_pdrop=0.0)
    size = run.config.params["batch"]
    lvjobs.fit(run, small_trainer(run.directory, model=model, per_device_train_batch_size=size))
"""


def costs_of(batch, attention="eager"):
    config = RunConfig(task="measured_trainer:train", steps=40, params={"batch": batch, "attention": attention})
    return cost_of(config)["flops"]


def test_the_first_step_of_a_trainer_is_counted_attention_and_all(tmp_path, monkeypatch):
    (tmp_path / "measured_trainer.py").write_text(MEASURED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(determinism, "make_deterministic", lambda _threads, seed: determinism.seed_generators(seed))
    one, two, fused = costs_of(1), costs_of(2), costs_of(1, "sdpa")
    assert two["training"] == 2 * one["training"] > 0
    assert two["validation"] == one["validation"] > 0
    # The kernel that has attention in one piece computes the scores once more on its way back.
    assert fused["validation"] == one["validation"]
    assert fused["training"] > one["training"]
