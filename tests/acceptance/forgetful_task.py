"""A training that resumes its sum, and forgets where its own generator stood."""

import random
import time

from lvjobs.worker import Run


def train(run: Run):
    own = random.Random(run.config.seed)
    resumed = run.resume()
    total = resumed.state["total"] if resumed else 0.0
    for step in range(run.step + 1, run.config.steps + 1):
        total += own.random()
        run.log(step, loss=total)
        if step == run.config.steps - 50 and not resumed and "disturbed-1" in run.directory.parts:
            time.sleep(600)  # until it is killed, however late that comes
        stop = run.should_stop()
        if stop or run.due(step):
            run.checkpoint(step, {"total": total})
        if stop:
            return
