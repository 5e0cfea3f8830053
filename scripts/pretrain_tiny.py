"""Pretrain `tiny`, the bundled base model: `python scripts/pretrain_tiny.py --work DIR [--out DIR]`.

A Qwen2 of about a million parameters on text of synthetic pairs of series (`synthetic_series.py`), first in windows of
33 steps, which are cheap, then of 100, which are what it is used on. Hidden matrices by Muon, all else by AdamW; the
rate is constant and falls to zero over the last part, which is where much of the loss is won.
If it is started again with the same --work directory, it resumes where it stopped.

With `--start DIR` it begins with the weights of the model in DIR, at lower rates, with mostly whole series of a wider
mix: a second pretraining.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from synthetic_series import STEPS, digits, pairs
from torch import Tensor
from torch.nn import functional

from lvjobs.files import write_atomic
from lvjobs.forecasting.codec import ALPHABET, STEP_SEPARATOR, VALUE_SEPARATOR, Codec, Floats
from lvjobs.forecasting.hub import TINY_DIRECTORY

CODEC = Codec()
SPECIAL = ("<pad>", "<bos>", "<eos>")
VOCABULARY = (*SPECIAL, *ALPHABET, " ")
POOL = 256
"""The number of pairs drawn at once; pool k is seeded with (seed, k), so that any step's data can be drawn again."""
SAVE_EVERY = 50
WARMUP = 100


@dataclass(frozen=True)
class Phase:
    """A phase of `steps` updates on `batch` windows of `length` time steps, of series that are `pace` times as fast."""

    steps: int
    batch: int
    length: int
    pace: float


@dataclass(frozen=True)
class Plan:
    """The phases of a pretraining, its peak rates, the share of its updates in which they fall, and its mix."""

    phases: tuple[Phase, ...]
    muon_rate: float
    adamw_rate: float
    decay: float
    wide: bool = False

    @property
    def steps(self) -> int:
        """Return the number of updates."""
        return sum(phase.steps for phase in self.phases)


def first_plan(scale: float) -> Plan:
    """Return a phase of short windows with as many cycles as a whole series, then one of whole series.

    At `scale` 1 both have 12 million tokens together.
    """
    phases = Phase(round(2100 * scale), 8, 33, STEPS / 33), Phase(round(1650 * scale), 4, STEPS, 1.0)
    return Plan(phases, muon_rate=0.02, adamw_rate=4e-3, decay=0.4)


def second_plan(scale: float) -> Plan:
    """Return a short phase of short windows and a long one of whole series: 18 million tokens at `scale` 1."""
    phases = Phase(round(600 * scale), 8, 33, STEPS / 33), Phase(round(4000 * scale), 4, STEPS, 1.0)
    return Plan(phases, muon_rate=0.012, adamw_rate=2.4e-3, decay=0.5, wide=True)


def build_tokenizer() -> Any:
    """Return the tokenizer of `tiny`.

    It is a `Qwen2Tokenizer` without merges, not a plain fast tokenizer: transformers' AutoTokenizer uses Qwen2Tokenizer
    for every model of that type, whatever its files say, and rebuilds it from the vocabulary. Characters outside of the
    vocabulary are dropped; lvjobs encodes by `Characters`, which has no ids for them.
    """
    import transformers

    make: Any = transformers.Qwen2Tokenizer
    return make(
        # A byte-level vocabulary writes the space as this letter.
        vocab={token.replace(" ", "\u0120"): index for index, token in enumerate(VOCABULARY)},
        merges=[],
        unk_token=SPECIAL[0],
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def new_model() -> Any:
    """Return an untrained `tiny`, scaled for this width: signals keep their size, and all tokens are equally likely."""
    import transformers

    untyped: Any = transformers
    config = untyped.Qwen2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="sdpa",
    )
    model = untyped.Qwen2ForCausalLM(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name == "lm_head.weight" or name.endswith("bias"):
                weights.zero_()
            elif name == "model.embed_tokens.weight":
                weights.normal_(std=0.5)
            elif weights.ndim == 2:  # noqa: PLR2004 - a matrix
                weights.normal_(std=weights.shape[1] ** -0.5)
    return model


def model_in(directory: Path) -> Any:
    """Return the model in a directory, in float32."""
    import transformers

    untyped: Any = transformers
    return untyped.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def tokens(scaled: Floats) -> Tensor:
    """Return token ids (count, steps * 10) of scaled pairs (count, steps, 2) in [0, 10), as the codec writes them."""
    table = {token: index for index, token in enumerate(VOCABULARY)}
    digit = digits(scaled, CODEC.decimals) + table["0"]
    count, steps = scaled.shape[:2]
    text = np.empty((count, steps, 2, 3 + CODEC.decimals), dtype=np.int64)
    text[..., 0], text[..., 1], text[..., 2:-1] = digit[..., 0], table["."], digit[..., 1:]
    text[:, :, 0, -1], text[:, :, 1, -1] = table[VALUE_SEPARATOR], table[STEP_SEPARATOR]
    return torch.from_numpy(text.reshape(count, -1))


class Corpus:
    """An endless, seeded stream of windows; the window at an index is always the same."""

    def __init__(self, seed: int, *, wide: bool = False) -> None:
        """Set the seed and the mix; nothing is drawn yet."""
        self.seed, self.wide = seed, wide
        self._pool: tuple[int, float, Tensor] = (-1, 1.0, torch.empty(0))

    def batch(self, first: int, phase: Phase) -> Tensor:
        """Return `phase.batch` windows from index `first` on, (batch, tokens)."""
        per_step = 2 * (3 + CODEC.decimals)
        length = phase.length * per_step
        rows = []
        for index in range(first, first + phase.batch):
            pool, place = divmod(index, POOL)
            if self._pool[:2] != (pool, phase.pace):
                drawn = pairs(np.random.default_rng([self.seed, pool]), POOL, CODEC, phase.pace, wide=self.wide)
                self._pool = pool, phase.pace, tokens(drawn)
            row = self._pool[2][place]
            # Three of four windows begin at a step, the fourth at any character, as chunks of a training text do.
            rng = np.random.default_rng([self.seed, pool, place])
            start = int(rng.integers(0, len(row) - length + 1))
            rows.append(row[(start if place % 4 == 0 else start - start % per_step) :][:length])
        return torch.stack(rows)


def loss_of(model: Any, ids: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next token, in nats.

    bf16 products are a third faster on processors that have them.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids, use_cache=False).logits
    return functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())


def rate(step: int, plan: Plan) -> float:
    """Return the factor of the learning rates: warm-up, constant, linear to zero over the last part of the steps."""
    return min(1.0, (step + 1) / WARMUP, (plan.steps - step) / (plan.decay * plan.steps))


def optimizers_of(model: Any, plan: Plan) -> list[torch.optim.Optimizer]:
    """Return Muon for the layers' matrices, AdamW for embeddings, head, biases and norms."""
    named = list(model.named_parameters())
    hidden = [p for name, p in named if ".layers." in name and p.ndim == 2]  # noqa: PLR2004 - matrices
    rest = [p for name, p in named if not (".layers." in name and p.ndim == 2)]  # noqa: PLR2004
    return [
        torch.optim.Muon(hidden, lr=plan.muon_rate, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(rest, lr=plan.adamw_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def pretrain(work: Path, plan: Plan, seed: int, start: Path | None = None) -> Any:
    """Train, or continue a saved training, and return the trained model; `start` has the weights to begin with."""
    torch.manual_seed(seed)
    model = model_in(start) if start else new_model()
    optimizers = optimizers_of(model, plan)
    steps, done = plan.steps, 0
    saved = work / "state.pt"
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, values in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        done = state["step"]
    corpus, started, began = Corpus(seed, wide=plan.wide), time.monotonic(), done
    for step in range(done, steps):
        phase, first = place(plan.phases, step)
        for optimizer, base in zip(optimizers, (plan.muon_rate, plan.adamw_rate), strict=True):
            optimizer.param_groups[0]["lr"] = base * rate(step, plan)
        loss = loss_of(model, corpus.batch(first, phase))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            seconds = (time.monotonic() - started) / (step + 1 - began)
            print(f"step {step + 1}/{steps} loss {loss.item():.4f} {seconds:.3f} s a step", flush=True)  # noqa: T201
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step + 1}
            torch.save(state, work / "state.tmp")
            (work / "state.tmp").rename(saved)
    return model


def place(phases: tuple[Phase, ...], step: int) -> tuple[Phase, int]:
    """Return the phase of a step, and the index of its first window in the corpus (no window is used twice)."""
    first = 0
    for phase in phases:
        if step < phase.steps:
            return phase, first + step * phase.batch
        step -= phase.steps
        first += math.ceil(phase.steps * phase.batch / POOL) * POOL
    raise ValueError(f"step {step} is past the plan")


@torch.inference_mode()
def held_out_loss(model: Any, seed: int = 2**31) -> float:
    """Return the loss on 60 whole series of a corpus that was not trained on, nats per token."""
    corpus, phase = Corpus(seed), Phase(1, 5, STEPS, 1.0)
    return float(np.mean([loss_of(model, corpus.batch(5 * index, phase)).item() for index in range(12)]))


def ship(model: Any, directory: Path) -> None:
    """Write model and tokenizer in transformers' format; weights in half precision, to be loaded as float32."""
    import safetensors.torch

    directory.mkdir(parents=True, exist_ok=True)
    build_tokenizer().save_pretrained(directory)
    model.config.dtype = torch.float32
    model.config.architectures = ["Qwen2ForCausalLM"]
    model.config.save_pretrained(directory)
    half = {name: weights.half().contiguous() for name, weights in model.state_dict().items()}
    write_atomic(directory / "model.safetensors", safetensors.torch.save(half, metadata={"format": "pt"}))
    (directory / "model.safetensors").chmod(0o644)  # every user may read installed files


def main() -> None:
    """Read the command line, pretrain, and write the model."""
    parser = argparse.ArgumentParser(prog="python scripts/pretrain_tiny.py", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="directory of the state to resume from")
    parser.add_argument(
        "--out", type=Path, default=TINY_DIRECTORY, help="where the model is written (default: into the package)"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps; 0.1 is a sanity check")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="directory of a model to begin with: a second pretraining")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    plan = (second_plan if options.start else first_plan)(options.scale)
    model = pretrain(options.work, plan, options.seed, options.start)
    print(f"held-out loss {held_out_loss(model):.4f} nats a token")  # noqa: T201
    ship(model, options.out)


if __name__ == "__main__":
    main()
