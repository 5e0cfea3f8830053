"""Encoding series as text, all at once, against LLMTime's own way: one series, one value, one digit at a time.

    python benchmarks/encoding.py [--series 1000] [--repetitions 5] [--smoke]

The peer is what github.com/ngruver/llmtime does (`get_scaler`, `serialize_arr`), rewritten: a scaler for each
series and variable, then digits by repeated division, joined in a loop over values. It writes the same text. CPU
seconds, medians.
"""

import time
from collections.abc import Callable

import numpy as np
from measuring import alternate, command_line, print_table

from lvjobs.forecasting.codec import Codec


def one_by_one(codec: Codec, values: np.ndarray) -> list[str]:
    """The texts of series (series, steps, variables), as LLMTime goes about it."""
    texts = []
    for series in values:
        columns = []
        for column in series.T:
            low = column.min() - codec.beta * (column.max() - column.min())
            unit = np.quantile(column - low, codec.alpha) / codec.target
            whole = np.rint((column - low) / unit * 10**codec.decimals).astype(int)
            columns.append(["".join(map(str, digits)) for digits in digits_of(whole, codec.decimals)])
        numbers = [[f"{text[: -codec.decimals]}.{text[-codec.decimals :]}" for text in column] for column in columns]
        texts.append("".join(",".join(step) + ";" for step in zip(*numbers, strict=True)))
    return texts


def digits_of(whole: np.ndarray, decimals: int) -> list[list[int]]:
    """The digits of each integer, without leading zeros but at least one before the point."""
    places = 7 + decimals  # LLMTime's max_val is 1e7
    digits = np.empty((len(whole), places), dtype=int)
    rest = whole.copy()
    for place in range(places):
        digits[:, place] = rest // 10 ** (places - place - 1)
        rest -= digits[:, place] * 10 ** (places - place - 1)
    return [
        row[min(int(np.argmax(row != 0)) if row.any() else places, places - decimals - 1) :].tolist() for row in digits
    ]


def seconds(work: Callable[[], object]) -> float:
    """Of the CPU that a call takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Encode; check that both texts are the same; print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--series", type=int, default=1000)
    asked = parser.parse_args()
    count, repetitions = (20, 1) if asked.smoke else (asked.series, asked.repetitions)
    rows = []
    values = np.abs(np.random.default_rng(0).normal(size=(count, 100, 2)))
    for name, codec in (("published", Codec(decimals=3, target=1.0)), ("tiny", Codec())):
        if codec.encode(values, codec.fit(values)) != one_by_one(codec, values):
            raise SystemExit("the two do not write the same text")
        works = {
            "ours": lambda codec=codec: seconds(lambda: codec.encode(values, codec.fit(values))),
            "theirs": lambda codec=codec: seconds(lambda: one_by_one(codec, values)),
        }
        found = alternate(works, repetitions)
        ours, theirs = found["ours"], found["theirs"]
        rows.append([name, f"{count:,}", f"{1000 * ours:.0f}", f"{1000 * theirs:.0f}", f"{theirs / ours:.1f}"])
    note = f"Peer: LLMTime's own way, rewritten. CPU time, medians of {repetitions}; more than 1 is faster than it."
    print_table(["codec", "series of 100 x 2", "lvjobs, ms", "one by one, ms", "ratio"], rows, [note])


if __name__ == "__main__":
    main()
