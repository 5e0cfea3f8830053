"""Base models other than `tiny`: real pretrained weights, the full-size architecture, 4 bits, bf16, and plain PEFT."""

import hashlib
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from driving import Study
from worker_helpers import Zygote, entries, executed, make_run

from lvjobs.forecasting.data import load_dataset, make_dataset
from lvjobs.forecasting.decode import Decoding, sample
from lvjobs.forecasting.hub import TINY_DIRECTORY, find_model
from lvjobs.forecasting.instruction_tokens import instruction_tokens
from lvjobs.forecasting.models import attach_adapter, load_base
from lvjobs.forecasting.results import read_forecasts
from lvjobs.forecasting.tokens import Characters
from lvjobs.forecasting.windows import codec_of
from lvjobs.study.params import TrainingConfig

REAL = Path(__file__).parents[3] / "shared" / "data" / "lotka_volterra_data.h5"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """The study's real input where it is at hand, else series like it."""
    if REAL.exists():
        return REAL
    path = tmp_path_factory.mktemp("data") / "data.h5"
    make_dataset(path, systems=40, seed=0)
    return path


@pytest.fixture
def study(tmp_path, series):
    return Study(tmp_path / "study", series, profile="local")


def scores(study, name):
    return json.loads((study.files(name) / "final" / "result" / "scores.json").read_text())


def evaluate(study, *arguments):
    """An evaluation from the command to its scores."""
    before = {path.name for path in (study.root / "checkpoints").glob("*")}
    study.type("evaluate", *arguments, "--wait", timeout=900)
    (name,) = {path.name for path in (study.root / "checkpoints").glob("*")} - before
    return name, scores(study, name)


def test_a_real_pretrained_model_through_the_same_commands(study, smollm2):
    """Fewer steps of history and horizon than a study's own, for the time's sake; all else is as a user types it."""
    shape = ("--set", "history_steps=20", "--set", "horizon_steps=2")
    options = ("--model", str(smollm2), *shape)
    found = {}
    for prompt in ("raw", "instruct"):
        _, found[prompt] = evaluate(study, "--zero-shot", prompt, "--series", "1", *options)
    study.type(
        *("submit", "train", "--name", "tuned", *options, "--steps", "4", "--checkpoint-every", "4"),
        *("--set", "validation_limit=1", "--wait"),
        timeout=900,
    )
    run = study.run("tuned")
    assert (run["state"], run["executed_steps"]) == ("completed", 4)
    # So few and short windows teach it nothing that holds for longer ones: that it learns at all is seen.
    assert run["validation_loss"] != run["untrained_loss"]
    name, found["tuned"] = evaluate(study, "tuned", "--series", "1")
    assert name.startswith("eval-tuned")
    for kind, result in found.items():
        assert result["valid"] == 1.0, kind
        assert np.isfinite(result["scores"]["overall"]["mae"]), kind
    assert len({result["scores"]["overall"]["mae"] for result in found.values()}) == 3
    assert found["raw"]["systems"] == found["tuned"]["systems"]


def test_an_instruction_is_counted_as_qwens_own_tokenizer_writes_it_where_no_tokenizer_is(qwen_tokenizer):
    for decimals, horizon in ((2, 5), (2, 20), (3, 100)):
        own, absent = (instruction_tokens(model, decimals, horizon, 2) for model in (str(qwen_tokenizer), "no/model"))
        assert own == absent


# -- killed and resumed, bit for bit ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zygote():
    made = Zygote("transformers.models.qwen2.modeling_qwen2", "peft", "bitsandbytes")
    yield made
    made.close()


def train(zygote, directory, data, kill_at=None, *, steps=12, checkpoint_every=4, **params):
    """A training with dropout, shuffled data and a decaying rate; killed once, if wanted, and resumed."""
    small = {
        "context_length": 64,
        "batch_size": 1,
        "lora_dropout": 0.05,
        "learning_rate": 1e-3,
        "history_steps": 4,
        "horizon_steps": 2,
        "validation_limit": 1,
    }
    layout = make_run(
        directory,
        steps=steps,
        checkpoint_every=checkpoint_every,
        validate_every=checkpoint_every,
        task="killed_task:train",
        params=small | {"data": str(data)} | params,
    )
    if kill_at:
        assert zygote.run(layout, KILL_AT=kill_at) == -signal.SIGKILL
        assert not layout.final.exists()
    assert zygote.run(layout, KILL_AT=0) == 0, entries(layout, "error")
    return layout


def adapter(layout):
    return (layout.final / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "params",
    [
        {"precision": "bf16"},
        {"quantization": "nf4", "lora_targets": "all-linear"},
        {"quantization": "nf4", "precision": "bf16"},
    ],
    ids=lambda params: "-".join(params.values()),
)
def test_bf16_and_4_bits_end_with_the_same_bits_when_killed(zygote, tmp_path, series, params):
    whole = train(zygote, tmp_path / "whole", series, **params)
    killed = train(zygote, tmp_path / "killed", series, kill_at=7, **params)
    assert executed(killed) == [*range(1, 8), *range(5, 13)]
    assert adapter(killed) == adapter(whole)
    losses = [{f["step"]: f["loss"] for f in entries(layout, "step")} for layout in (whole, killed)]
    assert losses[0] == losses[1]


@pytest.mark.storm
def test_the_full_size_in_4_bits_ends_with_the_same_bits_when_killed(zygote, tmp_path, series, qwen):
    """The real architecture and the real tokenizer: load, one step, checkpoint, death, the other step."""
    found = find_model(str(qwen))
    assert (found.parameters, found.split) == (494_032_768, (",-", ";-"))
    params = {"model": str(qwen), "quantization": "nf4", "precision": "bf16"}
    whole = train(zygote, tmp_path / "whole", series, steps=2, checkpoint_every=1, **params)
    killed = train(zygote, tmp_path / "killed", series, kill_at=2, steps=2, checkpoint_every=1, **params)
    assert executed(killed) == [1, 2, 2]
    assert adapter(killed) == adapter(whole)
    size = sum(path.stat().st_size for path in (whole.final / "adapter").iterdir())
    assert 270_336 * 4 < size < 1_200_000, "rank 4 on q and v, in float32, and never the base model"


# -- plain PEFT -------------------------------------------------------------------------------------------------------


def plain_base():
    """`tiny` as anybody would load it."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(TINY_DIRECTORY, dtype=torch.float32)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # plain peft's own
def test_an_adapter_of_lvjobs_gives_the_same_logits_in_plain_peft(zygote, tmp_path, series):
    from peft import PeftModel

    directory = train(zygote, tmp_path / "run", series, lora_targets="all-linear").final / "adapter"
    plain = PeftModel.from_pretrained(plain_base(), directory).eval()
    base, _ = load_base(TrainingConfig(data="unused"))
    ids = torch.arange(3, 17)[None]
    with torch.no_grad():
        untrained = base.eval()(input_ids=ids).logits.clone()
        own = attach_adapter(base, directory)
        assert torch.equal(plain(input_ids=ids).logits, own(input_ids=ids).logits)
        assert not torch.equal(own(input_ids=ids).logits, untrained)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_of_plain_peft_is_evaluated(study, tmp_path, series):
    """Its forecasts are those of the model that plain PEFT loads."""
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(plain_base(), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "o_proj"]))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(5):
        ids = torch.randint(3, 13, (2, 40))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    shape = ("--series", "2", "--set", "history_steps=20", "--set", "horizon_steps=5")
    name, result = evaluate(study, "--adapter", str(tmp_path / "adapter"), *shape)
    weights = (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()
    assert result["adapter_sha256"] == hashlib.sha256(weights).hexdigest()
    made = read_forecasts(study.files(name) / "final" / "result" / "forecasts.h5")
    config = TrainingConfig(data=str(series), history_steps=20, horizon_steps=5)
    _, tokenizer = load_base(config)
    histories = load_dataset(series).trajectories[made.systems, :20].astype(np.float64)
    codec = codec_of(config)
    table = Characters(tokenizer, "tiny", codec)
    plain = PeftModel.from_pretrained(plain_base(), tmp_path / "adapter").eval()
    for candidate, is_same in ((plain, True), (plain_base().eval(), False)):
        expected = sample(candidate, table, codec, histories, 5, decoding=Decoding(batch=20))[0]
        assert np.array_equal(made.samples[0], expected) == is_same
