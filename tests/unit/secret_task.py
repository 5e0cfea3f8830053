"""A training function that saves, ends, or fails with a token in its error's words, as a careless library might."""

import os
from pathlib import Path

from lvjobs.worker import Run


def train(run: Run):
    run.resume()
    for step in range(run.step + 1, run.config.steps + 1):
        run.log(step, loss=1.0)
    if run.config.params.get("fails"):
        raise PermissionError(f"401 for https://user:{os.environ['HF_TOKEN']}@hub/model")

    def save(directory):
        (directory / "model.bin").write_bytes(b"weights")
        (directory / "nested").mkdir()

    Path(run.directory, "of my own").write_text("what a training function leaves", encoding="utf-8")
    run.checkpoint(run.config.steps, {"model": save})
