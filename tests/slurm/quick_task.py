"""A training in numpy that begins at once, with all that a sloppy resume loses: dropout, order, momentum, a decaying rate.

What is tested with it does not depend on what is trained; tests of the bundled training use that.
"""

import math
import random
import time

import numpy as np

import lvjobs

TRAINING, VALIDATION = 1_000_000, 250_000
"""FLOPs of a step and of a validation, as the ledger is to count them."""


@lvjobs.task(flops={"training": TRAINING, "validation": VALIDATION})
def train(run: lvjobs.Run):
    params = run.config.params
    data = np.sin(np.linspace(-2, 2, 20 * 6)).reshape(20, 6)
    weights, momentum = np.zeros((6, params["width"])), np.zeros((6, params["width"]))
    order, position = [], 0
    if resumed := run.resume():
        weights, momentum = resumed.state["weights"], resumed.state["momentum"]
        order, position = resumed.state["data"]

    def save(directory):
        (directory / "weights.bin").write_bytes(weights.tobytes())

    for step in range(run.step + 1, run.config.steps + 1):
        if position + 4 > len(order):
            order, position = random.sample(range(20), 20), 0
        batch = data[order[position : position + 4]] * (np.random.rand(6) > 0.2)  # noqa: NPY002
        position += 4
        error = batch @ weights - batch[:, :1]
        rate = params["learning_rate"] * (1 + math.cos(math.pi * step / run.config.steps)) / 2
        momentum = 0.9 * momentum + batch.T @ error
        weights = weights - rate * momentum
        time.sleep(params["seconds"])
        run.log(step, loss=float((error**2).mean()), learning_rate=rate)
        if step % run.config.validate_every == 0 or step == run.config.steps:
            run.validated(step, loss=float(((data @ weights - data[:, :1]) ** 2).mean()))
        if run.due(step) or run.should_stop():
            state = {"model": save, "weights": weights, "momentum": momentum, "data": (order, position)}
            run.checkpoint(step, state)
        if run.should_stop():
            return
