"""Reports of studies that limit GPU-hours, and whose programs declare no FLOPs."""

from lvjobs.report.figures.attempts import NO_FLOPS, NOTHING_RAN, by_stage
from lvjobs.report.page.grids import efficiency_table
from lvjobs.report.terminal.verdict_lines import verdict_lines

NOTHING = {"useful": 0, "replayed": 0, "validation": 0, "generation": 0}
USED = {
    "attempts": 1,
    "estimated": 0,
    "allocated_hours": 1.0,
    "allocated_gpu_hours": 2.0,
    "used_gpu_hours": 1.5,
    "goodput": 0.5,
    "ettr": 0.5,
}
HOURS = {"limit": 500.0, "spent": 2.0, "reserved": 24.0, "free": 474.0}


def test_a_stage_that_spent_no_flops_has_run():
    assert by_stage({"by_stage": {"train": 0}, "by_stage_and_kind": {"train": NOTHING}}).missing == NO_FLOPS
    assert by_stage({"by_stage": {}, "by_stage_and_kind": {}}).missing == NOTHING_RAN


def test_the_limit_of_gpu_hours_is_below_the_use_of_the_machines():
    efficiency = {**USED, "by_stage": {"train": USED}}
    assert "GPU-hours: 2 of the limit of 500 are spent, and 24 reserved." in efficiency_table(efficiency, HOURS).notes
    assert not any("limit" in note for note in efficiency_table(efficiency).notes)


def estimate(conventions, needed):
    total = {"runs": 1, "existing": 0}
    flops = {"limit": 10**17, "spent": 0, "reserved": 0, "free": 10**17, "needed": 0, "fits": True}
    hours = {"limit": 500.0, "free": 474.0, "needed": needed}
    return {
        **flops,
        "convention": "official",
        "conventions": conventions,
        "total": total,
        "stages": [{}],
        "reuse": [],
        "gpu_hours": hours,
    }


def test_an_estimate_without_flops_is_of_gpu_hours_alone():
    (said,) = filter(None, verdict_lines(estimate([], 48.0)))
    assert said.startswith("Fits: needs 48 GPU-hours")
    flops, hours = filter(None, verdict_lines(estimate(["official"], 480.0)))
    assert flops.startswith("Fits: needs 0 FLOPs")
    assert hours.startswith("Does not fit: needs 480 GPU-hours")
