"""A straight line fitted in numpy: a study of it takes seconds. The notebook study.ipynb uses it."""

import numpy as np

import lvjobs


@lvjobs.task(flops={"training": 1_000, "validation": 500})
def train(run: lvjobs.Run) -> None:
    """Learn the two numbers of a line by gradient descent."""
    x = np.linspace(-1, 1, 50)
    y = 3 * x + 1
    weights = np.zeros(2)
    if resumed := run.resume():
        weights = resumed.state["weights"]
    for step in range(run.step + 1, run.config.steps + 1):
        error = weights[0] * x + weights[1] - y
        weights = weights - run.config.params["learning_rate"] * np.array([(error * x).mean(), error.mean()])
        run.log(step, loss=(error**2).mean())
        if run.due(step):
            run.validated(step, loss=(error**2).mean())
        stop = run.should_stop()
        if stop or run.due(step):
            run.checkpoint(step, {"weights": weights})
        if stop:
            return
