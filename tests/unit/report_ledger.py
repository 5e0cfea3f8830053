"""Studies with a ledger of their own, made through its own API and without training: for the report."""

import json
from dataclasses import replace

from report_helpers import Finished, journal, lines

from lvjobs.control.budget.charges import charges_of
from lvjobs.control.loop import open_session
from lvjobs.ledger.records import AttemptRecord, RunRecord
from lvjobs.records.run_files import Done
from lvjobs.study.config import load_study
from lvjobs.study.run import RunConfig
from lvjobs.study.words import Cause, LeaveCause, RunState, StageState

BEGAN = 1.8e9
RATES = {"official": {"training": 7_000_000_000_003, "validation": 11, "generation": 13}}
VERSIONS = {"lvjobs": "0.1.0", "torch": "2.13.0", "device": "NVIDIA A100-SXM4-80GB"}
STAGES = """
[budget]
limit = 1e17

[[stage]]
name = "stage1"
grid = { lora_rank = [2, 8], learning_rate = [1e-3, 4e-3] }

[[stage]]
name = "contexts"
from = "stage1"
grid = { context_length = [128, 512] }

[[stage]]
name = "evaluate"
evaluate = ["stage1", "contexts"]
"""


def small_study(root, data, *, samples=5, zero_shot=True, evaluate=True):
    """Cells, contexts and their evaluations, with deaths on the way; what `lvjobs report` reads of a real study."""
    root.mkdir()
    (root / "study.toml").write_text(f'[train]\ndata = "{data}"\nhistory_steps = 60\nhorizon_steps = 5\n{STAGES}')
    finished = Finished(root, data)
    trained = []
    for rank in (2, 8):
        for rate in (1e-3, 4e-3):
            losses = (1.0, *(1 - rank * rate * step for step in range(1, 9)))
            name = f"stage1-r{rank}-lr{rate:g}"
            trained.append(finished.trained(name, losses=losses, lora_rank=rank, learning_rate=rate))
    for context in (128, 512):
        made = finished.trained(f"contexts-c{context}", "contexts", context_length=context, learning_rate=4e-3)
        trained.append(made)
    if evaluate:
        for number, run in enumerate(trained):
            finished.evaluated(run, noise=0.05 * (number + 1), samples=samples)
        if zero_shot:
            finished.evaluated(noise=0.9, samples=samples)
    keep(finished, [("stage1", "stage1-r8-lr0.004"), ("contexts", "contexts-c512")])
    return finished


def keep(finished, winners=()):
    """Put the runs into a ledger, each with a death and an end; and say of their stages who won."""
    with open_session(load_study(finished.layout.root), wait=1) as session:
        with session.ledger.transaction() as transaction:
            for number, run in enumerate(finished.runs):
                completed = replace(run, state=RunState.COMPLETED, rates=RATES, created=BEGAN)
                transaction.add_runs([completed])
                transaction.add_cells(run.stage, [run.id])
                executed(transaction, completed, BEGAN + 400 * number, [Cause.PREEMPTED, Cause.COMPLETED])
                finish(finished.layout.run(run.name), run.steps)
            for stage, winner in winners:
                because = "lowest validation_loss at the end: 0.9"
                transaction.update_stage(stage, state=StageState.COMPLETED, winner=winner, because=because)
    return finished


def executed(transaction, run, start, causes, *, each=300.0):
    """An attempt for each cause, one after another; all but the last lose half of their steps. Their charges."""
    attempts, reached = [], 0
    for number, cause in enumerate(causes, 1):
        last = number == len(causes)
        steps = (run.steps - reached) if last else max(2, run.steps // 4)
        attempt = AttemptRecord(
            id=0,
            run_id=run.id,
            token=f"{run.id}-{number}",
            job_id=f"{1000 + number}",
            restart_count=number - 1,
            started=start + each * (number - 1),
            ended=start + each * number - 20,
            generation=number,
            host=f"node{number}",
            cause=cause,
            evidence=f"Slurm says {cause.value if cause else 'RUNNING'}",
            resumed_from=reached,
            resumed_generation=number - 1,
            step=reached + steps,
            executed=steps,
            checkpoint_step=reached + steps // 2,
            validation_windows=4,
            train_seconds=each / 2,
            finished=cause is Cause.COMPLETED,
            leave_cause=LeaveCause.PREEMPTED if cause is Cause.PREEMPTED else LeaveCause.NONE,
        )
        attempts += transaction.save_attempts([attempt])
        reached += 0 if last else steps // 2
    transaction.replace_charges({run.id: charges_of(run, attempts)})


def finish(files, steps):
    """The last words of a run: which attempt and checkpoint its result came from, and what ran it."""
    done = Done(generation=2, step=steps, checkpoint=f"000002-{steps:08d}", time=BEGAN)
    files.done.write_text(done.to_json())
    start = {"resumed_from": None, "versions": VERSIONS, "host": "node2"}
    if files.journal(1).exists():
        first, *rest = files.journal(1).read_text().splitlines()
        line = {**json.loads(first), **start}
        files.journal(1).write_text("\n".join([json.dumps(line), *rest]) + "\n")
    else:
        journal(files, 1, [("start", start)])


def large_study(root, runs=1000):
    """A grid of many runs with a history: completed, preempted again and again, some held, some still running."""
    root.mkdir()
    (root / "study.toml").write_text('[budget]\nlimit = 1e20\n\n[[stage]]\nname = "wide"\ngrid = { seed = [0] }\n')
    causes = [cause for cause in Cause if cause is not Cause.COMPLETED]
    with open_session(load_study(root), wait=1) as session:
        with session.ledger.transaction() as transaction:
            for number in range(runs):
                params = {"width": 2 ** (number % 8), "rate": 1e-4 * (1 + number // 8)}
                config = RunConfig(task="lab.models:train", steps=40, checkpoint_every=5, params=params)
                ends = [causes[(number + other) % len(causes)] for other in range(number % 4)]
                state, last = [(RunState.COMPLETED, Cause.COMPLETED), (RunState.HELD, Cause.CODE_ERROR)][
                    number % 10 == 0
                ]
                if number % 50 == 1:
                    state, last = RunState.RUNNING, None
                name = f"wide-w{params['width']}-{number:04d}"
                document = config.model_dump(mode="json")
                run = RunRecord(name, name, "wide", config.fingerprint, document, "local", {}, "c0de", BEGAN, state=state,
                          rates=RATES, reason="a layer has no such width" if state is RunState.HELD else "")  # fmt: skip
                transaction.add_runs([run])
                executed(transaction, run, BEGAN + 60 * (number // 8), [*ends, last], each=500.0)
                files = session.study.layout.run(name)
                files.root.mkdir(parents=True, exist_ok=True)
                curve = (2.0, *(2.0 - 0.02 * step + 0.3 * ((number * step) % 7) / 7 for step in range(1, 41)))
                journal(files, 1, [("start", {"resumed_from": None, "versions": VERSIONS}), *lines(curve)])
                if state is RunState.COMPLETED:
                    finish(files, run.steps)
            transaction.add_cells("wide", [run.id for run in transaction.runs()])
            transaction.update_stage("wide", state=StageState.RUNNING)
    return root
