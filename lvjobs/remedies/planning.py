"""The remedies for stages and their budget."""

from lvjobs.remedies.remedy import Remedy

# -- stages ---------------------------------------------------------------------------------------------------------

SWEEP_PLAN = Remedy(
    "lvjobs plan",
    "A stage is unknown, or does not fit the budget.",
    "Shows whether the declared stages fit, what they cost, and plans that fit.",
    ("see: lvjobs plan", "see what is declared:", "see the cost of its stages:"),
)
PLAN_APPLY = Remedy(
    "lvjobs plan --apply {number}",
    "The declared stages do not fit the budget.",
    "Changes the stages in study.toml to a plan that fits.",
    ("To write a plan into study.toml:",),
)
SWEEP_ALL = Remedy(
    "lvjobs sweep all",
    "A stage depends on another that was not submitted.",
    "Submits every declared stage.",
    ("which was not submitted",),
)
SWEEP_STAGE = Remedy(
    "lvjobs sweep {stage}",
    "A stage has no runs yet, or study.toml was corrected.",
    "Submits the stage; existing runs are not trained again.",
    (
        "has no runs yet; type: lvjobs sweep",
        "then: lvjobs sweep",
        "which was not submitted; type: lvjobs sweep",
        "submits it again",
    ),
)
SWEEP_SHOW = Remedy(
    "lvjobs sweep show {stage}",
    "The run does not belong to the stage, or the stage's grid has no table.",
    "Shows the stage's runs and results.",
    ("is no run of",),
)
SWEEP_WINNER = Remedy(
    'lvjobs sweep {stage} --winner RUN --because "REASON"',
    "No run of a stage can be selected.",
    "Chooses the winner by hand; the reason stays with the results.",
    ("no run can win", "a winner chosen by hand"),
)
SWEEP_WITHOUT_HELD = Remedy(
    "lvjobs sweep {stage} --without-held",
    "A stage waits for runs that are held.",
    "Decides the stage without them.",
    ("or decide without",),
)

# -- FLOPs ----------------------------------------------------------------------------------------------------------

BUDGET = Remedy(
    "lvjobs budget",
    "Runs do not fit the limit.",
    "Shows what was spent, what is reserved and what is free.",
    ("see lvjobs budget",),
)
BUDGET_SET = Remedy(
    'lvjobs budget set FLOPS --because "REASON"',
    "Runs do not fit the limit, and more may be spent.",
    "Sets another limit; runs that wait for FLOPs continue. The reason stays on record.",
    ("lvjobs budget set",),
)
BUDGET_SET_HOURS = Remedy(
    'lvjobs budget set --gpu-hours HOURS --because "REASON"',
    "Runs do not fit the limit of GPU-hours, and more may be spent.",
    "Sets another limit; runs that wait for GPU-hours continue. The reason stays on record.",
    ("GPU-hours (by time limits",),
)
ESTIMATE = Remedy(
    "lvjobs plan",
    "Whether everything that is declared fits the budget is not known.",
    "Counts the FLOPs of all declared stages.",
    ("to see what the declared stages cost",),
)
ESTIMATE_TRAIN = Remedy(
    "lvjobs plan train",
    "study.toml declares no stage.",
    "Counts the FLOPs of the run that [train] describes.",
    ("study.toml declares no [[stage]]",),
)
