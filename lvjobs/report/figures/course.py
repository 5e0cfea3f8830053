"""A study's course over time: the FLOPs spent at each moment, and how many attempts ran. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.report.figures.palette import KINDS

_MOST_MOMENTS = 300
_PARTS = 150
_MOST_RUNS = 40

Spans = Sequence[Mapping[str, Any]]
"""Attempts in the form of `control.inspect.report_data`."""


@dataclass(frozen=True)
class Course:
    """Moments; the FLOPs spent by then, kind by kind; and the rest of the limit."""

    times: Sequence[float]
    spent: Mapping[str, Sequence[float]]
    left: Sequence[float]


def course(spans: Spans, budget: Mapping[str, Any]) -> Course | None:
    """Return the course of the study; None if nothing has run.

    The FLOPs of an attempt are spread evenly over its time. The last moment has exact sums of charges, as the budget
    has.
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
    counted = KINDS if budget["counts_inference"] else ("useful", "replayed")
    left = [budget["limit"] - sum(spent[kind][place] for kind in counted) for place in range(len(moments))]
    return Course(moments.tolist(), spent, left)


@dataclass(frozen=True)
class Crowd:
    """The middle of each time interval, and the mean number of attempts that ran in it, by how they ended."""

    times: Sequence[float]
    by_cause: Mapping[str, Sequence[float]]


def crowd(spans: Spans) -> Crowd:
    """Return the counts over all attempts; causes are in the order of their first attempt."""
    starts, ends = _times(spans)
    edges = np.linspace(starts.min(), max(ends.max(), starts.min() + 1.0), _PARTS + 1)
    width = edges[1] - edges[0]
    causes = np.array([cause_of(span) for span in spans])
    overlap = np.clip(np.minimum(ends[:, None], edges[1:]) - np.maximum(starts[:, None], edges[:-1]), 0.0, None)
    found = {cause: (overlap[causes == cause].sum(axis=0) / width).tolist() for cause in dict.fromkeys(causes.tolist())}
    return Crowd(((edges[1:] + edges[:-1]) / 2).tolist(), found)


def cause_of(span: Mapping[str, Any]) -> str:
    """Return why the attempt ended; `running` if it has not."""
    return span["cause"] or "running"


def rows(spans: Spans) -> tuple[list[str], int]:
    """Return the runs that get a row of their own, ordered by their start, and the number of the others.

    The runs with the most attempts get a row.
    """
    count = Counter(span["run"] for span in spans)
    first: dict[str, float] = {}
    for span in spans:
        first[span["run"]] = min(first.get(span["run"], span["started"]), span["started"])
    chosen = sorted(count, key=lambda run: (-count[run], first[run], run))[:_MOST_RUNS]
    return sorted(chosen, key=lambda run: (first[run], run)), len(count) - len(chosen)


def _times(spans: Spans) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.array([span["started"] for span in spans]), np.array([span["ended"] for span in spans])
