"""A training small enough for hundreds of attempts, with all that a sloppy resume loses: dropout, order, a decaying rate.

`params` choose a misbehaviour; `TOY_*` variables (not part of the run's configuration) hurt one attempt.
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
import torch

from lvjobs.worker import Run


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


def build():
    torch.manual_seed(torch.initial_seed())
    model = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(12, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 0.5 * (1 + math.cos(math.pi * n / 200)))
    return model, optimizer, schedule


def train(run: Run):
    params = run.config.params
    model, optimizer, schedule = build()
    data = torch.linspace(-2, 2, 20 * 6).reshape(20, 6).sin()
    order, position = [], 0
    looks = [gc.get_threshold()]
    resumed = run.resume()
    if "TOY_TELL_GC" in os.environ:
        (run.directory / "gc.json").write_text(json.dumps([*looks, gc.get_threshold()]))
    if resumed:
        model.load_state_dict(torch.load(resumed.directory("model") / "model.pt", weights_only=True))
        optimizer.load_state_dict(resumed.state["optimizer"])
        schedule.load_state_dict(resumed.state["schedule"])
        order, position = resumed.state["data"]["order"], resumed.state["data"]["position"]
    for variable, number in (("TOY_DIE_AT_SYNC", signal.SIGKILL), ("TOY_TERM_AT_SYNC", signal.SIGTERM)):
        if variable in os.environ:
            signal_at_sync(int(os.environ[variable]), number)

    def save(directory):
        torch.save(model.state_dict(), directory / "model.pt")
        (directory / "nested").mkdir()
        (directory / "nested" / "note.txt").write_text("kept")
        random.random(), torch.rand(3)  # a Saver that draws: it must not show
        if "TOY_FULL_DISK" in os.environ:
            raise OSError(28, "No space left on device")

    for step in range(run.step + 1, run.config.steps + 1):
        if position + 4 > len(order):
            order, position = torch.randperm(20).tolist(), 0
        batch = data[order[position : position + 4]]
        position += 4
        noise = 0.01 * (random.random() + np.random.rand())  # noqa: NPY002
        loss = (model(batch) - batch[:, :2].cumsum(0) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step == params.get("fail_at"):
            raise ZeroDivisionError("the toy broke")
        if step == params.get("cuda_oom_at"):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if step == params.get("device_error_at"):
            raise getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: uncorrectable ECC error encountered")
        run.log(step, loss=loss, learning_rate=schedule.get_last_lr()[0], tokens=24)
        if step % run.config.validate_every == 0:
            run.validated(step, loss=loss.item() * (1 if step < 30 else 2), batches=1, tokens=8)
        if step == params.get("return_at"):
            return
        time.sleep(float(os.environ.get("TOY_PAUSE", "0")))
        misbehave(step)
        ends = step == params.get("end_at")
        if run.due(step) or run.should_stop() or ends:
            run.checkpoint(
                step,
                {
                    "model": save,
                    "optimizer": optimizer.state_dict(),
                    "schedule": {k: v for k, v in schedule.state_dict().items() if k != "lr_lambdas"}
                    | {"lr_lambdas": [None]},
                    "data": {"order": order, "position": position},
                },
                final=ends,
            )
        if run.should_stop() or ends:
            return
