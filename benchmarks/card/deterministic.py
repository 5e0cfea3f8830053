"""The cost of deterministic arithmetic on this card, and a check that the same steps give the same bits twice."""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from typing import Any

import torch
import training
from card.parts import Found, config_of
from card.words import words_of
from peers.tuning import GPU
from torch.nn.attention import SDPBackend, sdpa_kernel

from lvjobs.forecasting.train import Trainer

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
"""The implementations that torch's scaled_dot_product_attention chooses from."""
CHOSEN = "torch's choice"


class Start:
    """A trainer's state before its first step, to begin from as often as needed."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.weights = {name: weights.detach().clone() for name, weights in self._learning()}
        self.order = trainer.order.state()

    def again(self) -> None:
        """Put weights, optimizer, data and random generators back."""
        with torch.no_grad():
            for name, weights in self._learning():
                weights.copy_(self.weights[name])
        self.trainer.optimizer.state.clear()
        self.trainer.order.restore(self.order)
        torch.manual_seed(0)

    def digest(self) -> str:
        """Return the SHA-256 of all weights that learn."""
        found = hashlib.sha256()
        for _, weights in self._learning():
            found.update(weights.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def _learning(self) -> Iterator[tuple[str, torch.Tensor]]:
        model: Any = self.trainer.model
        return ((name, weights) for name, weights in model.named_parameters() if weights.requires_grad)


def deterministic(asked: dict[str, Any]) -> Found:
    """Train the same steps twice for each setting: with and without deterministic algorithms, by each attention."""
    began = time.perf_counter()
    config = config_of(asked).model_copy(update={"packing": asked["packing"]})
    start = Start(training.trainer_of(config))
    steps = 2
    settings = [(on, CHOSEN) for on in (True, False)]
    if asked["kernels"]:
        settings += [(on, kernel) for kernel in KERNELS for on in (True, False)]
    for index, (on, kernel) in enumerate(settings):
        row = {
            "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG", "not set"),
            "deterministic": on,
            "attention": kernel,
            "packing": asked["packing"],
        }
        try:
            repeat = training.ours(start.trainer, 2, deterministic=on)
            with _attention(kernel):
                start.again()
                repeat()
                started = time.perf_counter()
                repeat()
                a_step = (time.perf_counter() - started) / 2
                if index == 0 and not asked["smoke"]:
                    left = asked["seconds"] - (time.perf_counter() - began)
                    steps = min(max(int(left / (2 * len(settings) * a_step)), 5), 50)
                trials = [_trial(start, steps, on=on) for _ in range(2)]
            rates, digests = zip(*trials, strict=True)
            row |= {"rate": max(rates), "steps": steps, "same": digests[0] == digests[1]}
            if kernel == CHOSEN:
                row["operation"] = _operation(start.trainer)
        except Exception as error:  # noqa: BLE001 - a setting that does not work is a result
            row["failed"] = words_of(error)
        yield "row", row


def _trial(start: Start, steps: int, *, on: bool) -> tuple[float, str]:
    start.again()
    rate = training.ours(start.trainer, steps, deterministic=on)()
    return rate, start.digest()


def _attention(kernel: str) -> contextlib.AbstractContextManager[None]:
    chosen: contextlib.AbstractContextManager[None] = (
        contextlib.nullcontext() if kernel == CHOSEN else sdpa_kernel(KERNELS[kernel])
    )
    return chosen


def _operation(trainer: Trainer) -> str:
    """Return the name of the operation that attention ran as."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        trainer.step(1)
    if GPU:
        torch.cuda.synchronize()
    prefix = "aten::_scaled_dot_product"
    names = {each.key for each in seen.key_averages() if each.key.startswith(prefix) and "backward" not in each.key}
    return ", ".join(sorted(name.removeprefix("aten::") for name in names)) or "none found"
