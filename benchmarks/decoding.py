"""Forecasts by `tiny` under the grammar, batched, against a plain `generate` loop, one series at a time.

    python benchmarks/decoding.py [--series 200] [--plain 10] [--threads 1]

Prints two ratios, of CPU seconds: the time a series, and what choosing under the grammar adds to a plain argmax, per
call of the model.
The peer of the first is `model.generate(max_new_tokens=200, do_sample=False)`, its time taken from `--plain` series.
"""

import argparse
import functools
import time
from typing import Any

import numpy as np
import torch

from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.decode import Decoding, forecast
from lvjobs.forecasting.models import load_base
from lvjobs.forecasting.systems import draw_systems, sample_times, solve
from lvjobs.forecasting.tokenizer import Characters
from lvjobs.study.training import TrainingConfig

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


def argmax_beside(model: torch.nn.Module, rows: int, calls: int) -> float:
    """Seconds that a plain greedy loop spends beside the model: argmax, and the token for the next call."""
    logits = torch.randn(rows, 1, model.config.vocab_size)
    began = time.process_time()
    written = [logits[:, -1].argmax(-1)[:, None] for _ in range(calls)]
    torch.cat(written, dim=1).numpy()
    return time.process_time() - began


def main() -> None:
    """Forecast both ways; print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--plain", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, tokenizer = load_base(TrainingConfig(data="unused"))
    codec = Codec()
    table = Characters(tokenizer, "tiny", codec)
    history = solve(draw_systems(options.series, 0), sample_times())[:, :HISTORY]
    texts = codec.encode(history[: options.plain], codec.fit(history[: options.plain]))

    with torch.inference_mode():
        began = time.process_time()
        for text in texts:
            ids = torch.from_numpy(table.encode(text))[None]
            model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=HORIZON * 10, do_sample=False)
    plain = (time.process_time() - began) / options.plain

    watched = Stopwatch(model)
    began = time.process_time()
    forecast(model, table, codec, history, HORIZON, decoding=Decoding())
    total = time.process_time() - began
    batches = int(np.ceil(options.series / Decoding().batch))
    beside = (total - watched.seconds) / watched.calls
    bare = argmax_beside(model, Decoding().batch, watched.calls) / watched.calls
    print(f"{options.series} series x {HORIZON} steps in {total:.1f} CPU s, {watched.calls} calls in {batches} batches")
    print(f"a series: {1000 * total / options.series:.0f} ms, plain generate {1000 * plain:.0f} ms: ", end="")
    print(f"{plain / (total / options.series):.1f} x")
    print(
        f"beside the model, encoding and parsing included: {1e6 * beside:.0f} us a call, plain argmax {1e6 * bare:.0f}"
    )
    print(f"grammar overhead: {100 * (beside - bare) / (watched.seconds / watched.calls):.2f} % of a call")


if __name__ == "__main__":
    main()
