"""How a study went over time: what it had spent at each moment, and how many attempts ran. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("useful", "replayed", "validation", "generation")
_MOST_MOMENTS = 300
_PARTS = 150
_MOST_RUNS = 40

Spans = Sequence[Mapping[str, Any]]
"""Attempts as `control.inspect.report_data` tells of them."""


@dataclass(frozen=True)
class Course:
    """Moments; what had been spent by then, kind by kind; and what of the limit was left."""

    times: Sequence[float]
    spent: Mapping[str, Sequence[float]]
    left: Sequence[float]


def course(spans: Spans, budget: Mapping[str, Any]) -> Course | None:
    """None where nothing has run. The last moment's figures are exact sums of charges: the budget's own.

    What an attempt cost is spread evenly over the time that it took.
    """
    if not spans:
        return None
    starts, ends = _times(spans)
    moments = np.unique(np.concatenate([starts, ends]))
    if len(moments) > _MOST_MOMENTS:
        moments = np.linspace(moments[0], moments[-1], _MOST_MOMENTS)
    long = np.maximum(ends - starts, 1e-9)
    shares = np.clip((moments[:, None] - starts) / long, 0.0, 1.0)
    spent: dict[str, list[float]] = {}
    for kind in KINDS:
        flops = [span["flops"].get(kind, 0) for span in spans]
        spent[kind] = [*(shares @ np.array(flops, dtype=float))[:-1].tolist(), sum(flops)]
    counted = KINDS if budget["counts_inference"] else KINDS[:2]
    left = [budget["limit"] - sum(spent[kind][place] for kind in counted) for place in range(len(moments))]
    return Course(moments.tolist(), spent, left)


@dataclass(frozen=True)
class Crowd:
    """The middle of each part of the time, and how many attempts ran on average in it, by how they ended."""

    times: Sequence[float]
    by_cause: Mapping[str, Sequence[float]]


def crowd(spans: Spans) -> Crowd:
    """Of all attempts; causes in the order in which they are met."""
    starts, ends = _times(spans)
    edges = np.linspace(starts.min(), max(ends.max(), starts.min() + 1.0), _PARTS + 1)
    width = edges[1] - edges[0]
    causes = np.array([cause_of(span) for span in spans])
    overlap = np.clip(np.minimum(ends[:, None], edges[1:]) - np.maximum(starts[:, None], edges[:-1]), 0.0, None)
    found = {cause: (overlap[causes == cause].sum(axis=0) / width).tolist() for cause in dict.fromkeys(causes.tolist())}
    return Crowd(((edges[1:] + edges[:-1]) / 2).tolist(), found)


def cause_of(span: Mapping[str, Any]) -> str:
    """Why the attempt ended; `running` where it has not."""
    return span["cause"] or "running"


def rows(spans: Spans) -> tuple[list[str], int]:
    """The runs that have a row of their own among attempts, by when they began; and how many have none.

    Those with most attempts are shown.
    """
    count: dict[str, int] = {}
    first: dict[str, float] = {}
    for span in spans:
        count[span["run"]] = count.get(span["run"], 0) + 1
        first[span["run"]] = min(first.get(span["run"], span["started"]), span["started"])
    chosen = sorted(count, key=lambda run: (-count[run], first[run], run))[:_MOST_RUNS]
    return sorted(chosen, key=lambda run: (first[run], run)), len(count) - len(chosen)


def _times(spans: Spans) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.array([span["started"] for span in spans]), np.array([span["ended"] for span in spans])
