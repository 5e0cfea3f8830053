"""The properties of a site in words, as its scheduler reports them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lvjobs import remedies


def site_lines(site: Mapping[str, Any], where: Sequence[str] = ()) -> Iterator[str]:
    """Yield what requeue, preemption and accounting mean at this site, one line each.

    `site` has the fields of `cluster.Site`. `where`: see `StudyContext.where`.
    """
    mode = site["preempt_mode"]
    if mode in (None, "off"):
        yield "this site does not preempt jobs"
    else:
        yield f"this site preempts jobs (PreemptMode={mode.upper()}); lvjobs brings them back"
    if site["requeue_hold_seconds"]:
        yield f"a requeued job is held for {site['requeue_hold_seconds']:.0f} s; lvjobs lifts that hold"
    if not site["accounting"]:
        kept = site["min_job_age_seconds"]
        age = f" {kept:.0f} s" if kept else " a while"
        keep = f"keep {remedies.WATCH(*where)} running"
        yield f"there is no accounting: how a job ended is known for{age} only, so {keep}"
    limits = [
        f"{name} no limit" if minutes is None else f"{name} {minutes / 60:g} h"
        for name, minutes in site["partitions"].items()
    ]
    if limits:
        yield f"partitions and their longest time limits: {', '.join(limits)}"
    yield from (*site["notes"], *site["ways"])
