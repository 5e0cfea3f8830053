"""A training of a second for several processes: shuffled data, dropout, gradients that are added up."""

import os
import signal
import time
from pathlib import Path

import torch

from lvjobs.worker import Run
from lvjobs.worker.task import task


def step_of(model, optimizer, batch, team):
    mine = batch[team.rank :: team.size]
    loss = (model(mine) - mine[:, :2].cumsum(1)).square().sum() / len(batch)
    optimizer.zero_grad()
    loss.backward()
    for weights in model.parameters():
        team.add_up(weights.grad)
    optimizer.step()
    total = loss.detach().clone()
    team.add_up(total)
    return total


def inject_fault(step, rank):
    """Inject the fault that a variable names into one process: `TEAM_KILL=1:7` kills process 1 in step 7."""
    if os.environ.get("TEAM_STICK") == f"{rank}:{step}":
        Path(os.environ["TEAM_TOLD"]).write_text(f"{os.getpid()}\n", encoding="utf-8")
        time.sleep(3600)
    for word in ("KILL", "FAIL", "FREEZE", "TERM"):
        if os.environ.get(f"TEAM_{word}") == f"{rank}:{step}":
            if word == "FAIL":
                raise ZeroDivisionError("the follower broke")
            os.kill(os.getpid(), getattr(signal, {"FREEZE": "SIGSTOP"}.get(word, f"SIG{word}")))


def wait_at_gate(run, step):
    """Wait within `step` while a test keeps a gate closed there (`Study.gate` in tests/slurm/driving.py)."""
    if run.team.rank != 0:
        return
    gate = run.directory.parent.parent / "gates" / run.directory.name / f"{run.generation}-{step}"
    if gate.exists():
        gate.with_suffix(".reached").touch()
        while gate.exists():
            time.sleep(0.02)


def train(run: Run):
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 12), torch.nn.Dropout(run.config.params["dropout"]), torch.nn.Linear(12, 2)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    data = torch.linspace(-2, 2, 20 * 6).reshape(20, 6).sin()
    resumed = run.resume()
    if resumed:
        model.load_state_dict(resumed.state["weights"])
        optimizer.load_state_dict(resumed.state["optimizer"])
    for step in range(run.step + 1, run.config.steps + 1):
        order = torch.randperm(20, generator=torch.Generator().manual_seed(step))[:4]
        loss = step_of(model, optimizer, data[order], run.team)
        inject_fault(step, run.team.rank)
        wait_at_gate(run, step)
        run.log(step, loss=loss, tokens=24)
        time.sleep(float(os.environ.get("TEAM_PAUSE", "0")))
        if run.due(step) or (stop := run.should_stop()):
            run.checkpoint(
                step,
                {
                    "weights": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "model": lambda d: torch.save(model.state_dict(), d / "model.pt"),
                },
            )
            stop = run.should_stop()
        if stop:
            return


@task(flops=int(1e6))
def priced(run: Run):
    train(run)
