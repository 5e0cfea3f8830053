"""Encoding series as text, all at once, against LLMTime's own way: one series, one value, one digit at a time.

    python benchmarks/encoding.py [--series 1000]

The peer is what github.com/ngruver/llmtime does (`get_scaler`, `serialize_arr`), written anew: a scaler for each
series and variable, then digits by repeated division, joined in a loop over values. It writes the same text.
"""

import argparse
import time

import numpy as np

from lvjobs.forecasting.codec import PUBLISHED, Codec


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


def seconds(work: object, times: int) -> float:
    """The least time that a call took."""
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def main() -> None:
    """Encode; check that both texts are the same; print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1000)
    count = parser.parse_args().series
    values = np.abs(np.random.default_rng(0).normal(size=(count, 100, 2)))
    for name, codec in (("published", PUBLISHED), ("tiny", Codec())):
        if codec.encode(values, codec.fit(values)) != one_by_one(codec, values):
            raise SystemExit("the two do not write the same text")
        ours = seconds(lambda codec=codec: codec.encode(values, codec.fit(values)), 5)
        theirs = seconds(lambda codec=codec: one_by_one(codec, values), 2)
        print(f"{name}: {count} series of 100 x 2 in {1000 * ours:.0f} CPU ms, ", end="")
        print(f"one by one {1000 * theirs:.0f}: {theirs / ours:.1f} x")


if __name__ == "__main__":
    main()
