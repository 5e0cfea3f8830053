"""Forecasts by `tiny` under the grammar, batched, against plain `generate`: one series at a time, and batched too.

    python benchmarks/decoding.py [--series 100] [--plain 5] [--repetitions 5] [--threads 1] [--smoke]

The peers are `model.generate(max_new_tokens=200, do_sample=False)`: of one series at a time (`--plain` of them), and of
as many at once as lvjobs takes, padded on the left. They write whatever comes, and know no grammar: what lvjobs
writes is a forecast of 20 steps, whatever the model prefers. CPU seconds, medians of alternating repetitions; the
last line tells what choosing under the grammar adds to a plain argmax, per call of the model.
"""

import functools
import time
from collections.abc import Sequence
from typing import Any

import torch
from measuring import alternate, command_line, print_table
from peers.tuning import clock
from transformers import __version__ as transformers_version

from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.data import draw_systems, sample_times, solve
from lvjobs.forecasting.decode import Decoding, sample
from lvjobs.forecasting.models import load_base
from lvjobs.forecasting.tokens import Characters
from lvjobs.study.params import TrainingConfig

HISTORY, HORIZON = 80, 20


class Stopwatch:
    """How long is spent in a model from now on."""

    def __init__(self, model: Any) -> None:
        self.seconds, self.calls = 0.0, 0
        forward = model.forward

        @functools.wraps(forward)
        def watched(*args: Any, **inputs: Any) -> Any:
            began = time.process_time()
            output = forward(*args, **inputs)
            self.seconds += time.process_time() - began
            self.calls += 1
            return output

        model.forward = watched


def argmax_beside(model: Any, rows: int, calls: int) -> float:
    """Seconds that a plain greedy loop spends beside the model: argmax, and the token for the next call."""
    logits = torch.randn(rows, 1, model.config.vocab_size)
    began = time.process_time()
    written = [logits[:, -1].argmax(-1)[:, None] for _ in range(calls)]
    torch.cat(written, dim=1).numpy()
    return time.process_time() - began


def generate(model: Any, encoded: Sequence[Any]) -> float:
    """Seconds a series (by `clock`) of a plain `generate` of all of them at once, padded on the left."""
    length = max(map(len, encoded))
    ids = torch.zeros(len(encoded), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(encoded):
        ids[row, length - len(tokens) :] = torch.from_numpy(tokens)
        mask[row, length - len(tokens) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    began = clock()
    with torch.inference_mode():
        model.generate(ids, attention_mask=mask, max_new_tokens=HORIZON * 10, do_sample=False)
    return (clock() - began) / len(encoded)


def main() -> None:
    """Forecast in all ways; print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--plain", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    series, plain, repetitions = (2, 1, 1) if asked.smoke else (asked.series, asked.plain, asked.repetitions)
    torch.set_num_threads(asked.threads)
    model, tokenizer = load_base(TrainingConfig(data="unused"))
    codec, batch = Codec(), Decoding().batch
    table = Characters(tokenizer, "tiny", codec)
    history = solve(draw_systems(series, 0), sample_times())[:, :HISTORY]
    encoded = [table.encode(text) for text in codec.encode(history, codec.fit(history))]

    def ours() -> float:
        began = time.process_time()
        sample(model, table, codec, history, HORIZON, decoding=Decoding())
        return (time.process_time() - began) / series

    def batched() -> float:
        parts = [encoded[at : at + batch] for at in range(0, series, batch)]
        return sum(generate(model, part) * len(part) for part in parts) / series

    works = {
        "lvjobs": ours,
        "`generate`, one at a time": lambda: sum(generate(model, [one]) for one in encoded[:plain]) / plain,
        f"`generate`, {min(batch, series)} at a time": batched,
    }
    found = alternate(works, repetitions)
    rows = [
        [name, f"{1000 * seconds:.1f}", f"{seconds / found['lvjobs']:.2f}", goal]
        for (name, seconds), goal in zip(found.items(), ("", "5", "1.3"), strict=True)
    ]
    watched = Stopwatch(model)
    total = ours() * series
    beside = (total - watched.seconds) / watched.calls
    bare = argmax_beside(model, min(batch, series), watched.calls) / watched.calls
    share = 100 * (beside - bare) / (watched.seconds / watched.calls)
    what = f"{series} series, {HISTORY} steps of history, {HORIZON} forecast; threads: {asked.threads}"
    grammar = f"Beside the model, encoding and parsing included: {1e6 * beside:.0f} us a call, a plain argmax"
    notes = [
        f"Peer: transformers {transformers_version}. {what}. CPU time, medians of {repetitions}.",
        f"{grammar} {1e6 * bare:.0f}; that is {share:.2f} % of a call.",
    ]
    print_table(["way", "ms a series", "times lvjobs'", "goal"], rows, notes)


if __name__ == "__main__":
    main()
