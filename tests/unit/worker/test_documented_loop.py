"""The training loop that the documentation shows: an attempt that is asked to stop ends with its last step saved."""

import runpy
from pathlib import Path

import pytest
import toy_task
from docs_blocks import ROOT, blocks_of

from lvjobs.study.run import RunConfig
from lvjobs.worker import interface
from lvjobs.worker.interface import SilentRun
from lvjobs.worker.process_group import Alone


class AskedToStop(SilentRun):
    """A run whose signal arrives just before a certain call of `should_stop`."""

    def __init__(self, config, call):
        super().__init__(config, Path("/nowhere"), Alone())
        self.left, self.logged, self.saved = call, 0, 0

    def resume(self):
        return None

    def log(self, step, **_metrics):
        self.logged = step

    def should_stop(self):
        self.left -= 1
        return self.left <= 0

    def checkpoint(self, step, state, *, final=False):
        self.saved = step
        return super().checkpoint(step, state, final=final)


@pytest.mark.parametrize("train", [toy_task.train, runpy.run_path(str(ROOT / "examples" / "line.py"))["train"]])
def test_whenever_the_signal_arrives_the_last_step_is_in_a_checkpoint(train):
    config = RunConfig(
        task="line:train", steps=40, checkpoint_every=10, validate_every=10, params={"learning_rate": 0.1}
    )
    ends = []
    for call in range(1, 30):
        run = AskedToStop(config, call)
        train(run)
        assert run.saved == run.logged
        ends.append(run.logged)
    assert ends == list(range(1, 30))


def test_every_page_shows_that_loop():
    (page,) = [block.text for block in blocks_of(ROOT / "docs" / "tasks.md", "python") if "should_stop" in block.text]
    shown = [page, interface.__doc__, *[path.read_text() for path in (ROOT / "examples").glob("*.py")]]
    loops = [text for text in shown if "should_stop" in text]
    assert len(loops) >= 4
    for text in loops:
        assert text.count("should_stop()") == 1
        assert "stop = run.should_stop()" in text
        assert "if stop or run.due(step):" in text
