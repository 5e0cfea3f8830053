"""The verdict on planned runs and the budget, in words: whether they fit, the cause if not, and the plans that do."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lvjobs import remedies
from lvjobs.report.numbers import four_digits, setting


def verdict_lines(estimate: Mapping[str, Any], where: Sequence[str] = ()) -> Iterator[str]:
    """Yield whether it fits, and if not, why not, one sentence each. `where`: see `StudyContext.where`."""
    several = len(estimate["stages"]) > 1
    if estimate["conventions"] or not estimate.get("gpu_hours"):
        yield _verdict(estimate)
    if not estimate["fits"] and several:
        yield from _several_cause_lines(estimate, where)
    elif not estimate["fits"]:
        over = -estimate["spare"]
        advice = "add --fit to submit or sweep to see what fits"
        if estimate["needed_for_evaluation"] >= over:
            advice = "it can be submitted, but not all of its evaluation will fit"
        yield f"That is {short(over)} too many: {advice}."
    if hours := estimate.get("gpu_hours"):
        yield _gpu_hours_line(hours)
    yield from _reuse_lines(estimate)


def _verdict(estimate: Mapping[str, Any]) -> str:
    """Return whether it fits, with what it needs, what is available, and the convention that counts."""
    spent, reserved, limit, free = (estimate[key] for key in ("spent", "reserved", "limit", "free"))
    several = len(estimate["stages"]) > 1
    at_once = " at once (stages run in sequence)" if several else ""
    taken = f", {short(spent)} spent, {short(reserved)} reserved" if spent or reserved else ""
    return (
        f"{'Fits' if estimate['fits'] else 'Does not fit'}: needs {short(estimate['needed'])} FLOPs{at_once}; "
        f"{short(free)} available (limit {short(limit)}{taken}; {estimate['convention']} convention)."
    )


def _reuse_lines(estimate: Mapping[str, Any]) -> Iterator[str]:
    """Yield what costs nothing more, and the price of trials that will be proposed later."""
    runs, existing = estimate["total"]["runs"], estimate["total"]["existing"]
    if existing:
        yield f"In the ledger already: {existing} of {runs_in_words(runs)}; their FLOPs are not needed again."
    for item in estimate["reuse"]:
        reused = runs_in_words(item["runs"])
        yield f"{item['stage']} reuses {reused} of {item['same_as']}, which saves {short(item['saves'])} FLOPs."
    for item in estimate.get("searches", ()):
        trials = "1 trial" if item["trials"] == 1 else f"{item['trials']} trials"
        yield (
            f"{trials} of {item['stage']} will be proposed later; each counts as the most expensive point: "
            f"{', '.join(f'{key} {setting(value)}' for key, value in item['dearest'].items())}."
        )


def _gpu_hours_line(hours: Mapping[str, float]) -> str:
    return (
        f"{'Fits' if hours['needed'] <= hours['free'] else 'Does not fit'}: needs {hours['needed']:.4g} GPU-hours, by "
        f"time limits or the speed of similar runs; {hours['free']:.4g} available (limit {hours['limit']:.4g})."
    )


def refusal(estimate: Mapping[str, Any], where: Sequence[str] = ()) -> str:
    """Return in one line why none of it may start; empty if all of it fits. `where`: see `StudyContext.where`."""
    if estimate["fits"]:
        return ""
    verdict = _verdict(estimate)
    words = verdict[0].lower() + verdict[1:].rstrip(".")
    several = len(estimate["stages"]) > 1
    causes = list(_several_cause_lines(estimate, where)) if several else []
    plans = "; ".join(plan_in_words(plan) for plan in estimate["plans"])
    return "; ".join([words, *(line[0].lower() + line[1:].rstrip(".") for line in causes)]) + (
        f"; what fits: {plans}" if plans else ""
    )


def plan_in_words(plan: Mapping[str, Any]) -> str:
    """Return the changes that a plan makes to what was requested."""
    changes = [f"without {name}" for name in plan["left_out"]] or ["every stage"]
    changes += [
        f"{part['name']} cut from {part['asked_steps']:,} to {part['steps']:,} steps"
        for part in plan["stages"]
        if part["steps"] < part["asked_steps"]
    ]
    return ", ".join(changes)


def _several_cause_lines(estimate: Mapping[str, Any], where: Sequence[str]) -> Iterator[str]:
    cause, limit, free, plans = (estimate[key] for key in ("cause", "limit", "free", "plans"))
    if cause is None:
        yield f"Every stage is submitted already: cancel runs, or raise the limit: {remedies.BUDGET_SET(*where)}"
        return
    name = f"the {cause['stage']} run" if cause["runs"] == 1 else f"stage {cause['stage']}"
    needs = f"needs {short(cause['needs'])}"
    if cause["needs"] > limit:
        needs += ", more than the whole limit"
    elif cause["needs"] > free:
        needs += ", more than is free"
    rest = f"without it the rest fits ({short(cause['rest_needs'])})"
    if not cause["remedies"]:
        yield f"Leaving out one stage is not enough: {name}, the largest, {needs}."
    elif len(cause["remedies"]) == 1:
        yield f"{name[0].upper()}{name[1:]} alone is the cause: it {needs}; {rest}."
    else:
        others = ", ".join(other for other in cause["remedies"] if other != cause["stage"])
        yield f"The largest is {name}, which {needs}; {rest}. The plan also fits without any one of: {others}."
    if all(plan["left_out"] for plan in plans):
        yield f"No plan fits, even with {name} cut to one checkpoint interval."
    if not plans and cause["single"]:
        yield f"Without {cause['single']} it does not fit either."


def short(flops: int) -> str:
    """Return FLOPs in at most four digits, without trailing zeros: 1e17."""
    mantissa, _, exponent = four_digits(flops).partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}" if exponent else "0"


def runs_in_words(count: int) -> str:
    """Return a number of runs: `1 run`, `2 runs`."""
    return "1 run" if count == 1 else f"{count} runs"
