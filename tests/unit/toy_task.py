"""A training small enough for hundreds of attempts, with all that a sloppy resume loses: dropout, order, a decaying rate.

In numpy, so that an attempt begins at once: what is tested with it does not depend on what is trained. `params` choose
its pace, or a misbehaviour; `TOY_*` variables (not part of the run's configuration) hurt one attempt.
"""

import gc
import hashlib
import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

import lvjobs
from lvjobs.worker import Run

TRAINING, VALIDATION = 1_000_000, 250_000
"""FLOPs of a step and of a validation of `priced`, as the ledger is to count them."""


def signal_at_sync(count, number):
    """Send this process a signal at its `count`-th fsync from here on: checkpoints are written and published by them."""
    real, left = os.fsync, [count]

    def fsync(descriptor):
        left[0] -= 1
        if left[0] == 0:
            if "TOY_TOLD" in os.environ:
                Path(os.environ["TOY_TOLD"]).touch()
            os.kill(os.getpid(), number)
        return real(descriptor)

    os.fsync = fsync


def wait_at_gate(run, step, should_stop):
    """Wait within `step` while a test keeps a gate closed there (`Study.gate` in tests/slurm/driving.py).

    A worker that is asked to leave waits no longer. `should_stop` says whether it is.
    """
    gates = run.directory.parent.parent / "gates"
    if not gates.is_dir():
        return
    for gate in (gates / name / f"{run.generation}-{step}" for name in (run.directory.name, "any")):
        if gate.exists():
            gate.with_suffix(".reached").touch()
        while gate.exists() and not should_stop():
            time.sleep(0.02)


def misbehave(step):
    if step == int(os.environ.get("TOY_TERM_AT", "0")):
        os.kill(os.getpid(), getattr(signal, os.environ.get("TOY_SIGNAL", "SIGTERM")))
    if step == int(os.environ.get("TOY_KILL_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    if step == int(os.environ.get("TOY_FREEZE_AT", "0")):
        os.kill(os.getpid(), signal.SIGSTOP)
    if step == int(os.environ.get("TOY_DEAF_AT", "0")):
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in which no Python handler runs
    if step == int(os.environ.get("TOY_EXIT_AT", "0")):
        sys.exit(3)


@lvjobs.task(flops={"training": TRAINING, "validation": VALIDATION})
def priced(run: Run):
    """The same, for a ledger that counts what it costs."""
    train(run)


def train(run: Run):
    params = run.config.params
    data = np.sin(np.linspace(-2, 2, 20 * 6)).reshape(20, 6)
    weights, momentum = np.zeros((6, params.get("width", 4))), np.zeros((6, params.get("width", 4)))
    order, position = [], 0
    looks = [gc.get_threshold()]
    time.sleep(params.get("loads_for", 0))
    resumed = run.resume()
    if "TOY_TELL_GC" in os.environ:
        (run.directory / "gc.json").write_text(json.dumps([*looks, gc.get_threshold()]))
    if resumed:
        weights = np.load(resumed.directory("model") / "weights.npy")
        momentum = resumed.state["momentum"]
        order, position = resumed.state["data"]["order"], resumed.state["data"]["position"]
    for variable, number in (("TOY_DIE_AT_SYNC", signal.SIGKILL), ("TOY_TERM_AT_SYNC", signal.SIGTERM)):
        if variable in os.environ:
            signal_at_sync(int(os.environ[variable]), number)

    def save(directory):
        np.save(directory / "weights.npy", weights)
        (directory / "nested").mkdir()
        (directory / "nested" / "note.txt").write_text("kept")
        random.random(), np.random.rand(3)  # noqa: NPY002 - a Saver that draws: it must not show
        if "TOY_FULL_DISK" in os.environ:
            raise OSError(28, "No space left on device")

    for step in range(run.step + 1, run.config.steps + 1):
        if position + 4 > len(order):
            order, position = random.sample(range(20), 20), 0
        batch = data[order[position : position + 4]] * (np.random.rand(6) > 0.2)  # noqa: NPY002
        position += 4
        error = batch @ weights - batch[:, :1].cumsum(0) - 0.01 * random.random()
        decay = 1.0 if params.get("constant") else (1 + math.cos(math.pi * step / run.config.steps)) / 2
        rate = params.get("learning_rate", 0.03) * decay
        momentum = 0.9 * momentum + batch.T @ error
        weights = weights - rate * momentum
        loss = (error**2).mean()
        if step == params.get("fail_at"):
            raise ZeroDivisionError("the toy broke")
        if error_at(params, step):
            raise error_at(params, step)
        time.sleep(params.get("seconds", 0))
        wait_at_gate(run, step, run.should_stop)
        run.log(step, loss=loss, learning_rate=rate, tokens=24)
        if step % run.config.validate_every == 0 or step == run.config.steps:
            run.validated(step, loss=loss * (1 if step < 30 else 2), batches=1, tokens=8)
        if step == params.get("return_at"):
            return
        time.sleep(float(os.environ.get("TOY_PAUSE", "0")))
        misbehave(step)
        ends = step == params.get("end_at")
        stop = run.should_stop()
        if stop or ends or run.due(step):
            state = {"model": save, "momentum": momentum, "data": {"order": order, "position": position}}
            run.checkpoint(step, state, final=ends)
        if stop or ends:
            return


def error_at(params, step):
    """An error of torch's that this step is to raise."""
    if step not in (params.get("cuda_oom_at"), params.get("device_error_at")):
        return None
    import torch

    if step == params.get("cuda_oom_at"):
        return torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: uncorrectable ECC error encountered")
