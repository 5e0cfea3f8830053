"""Losses from journals: what was lost and done again is there once, and two objectives never are one curve."""

import pytest
from report_helpers import journal, lines

from lvjobs.report.material import read_losses
from lvjobs.study.layout import RunLayout

pytestmark = pytest.mark.heavy


@pytest.fixture
def files(tmp_path):
    return RunLayout(tmp_path / "one")


def start(resumed_from=None):
    return "start", {"resumed_from": resumed_from}


def step(number, loss, metric="loss"):
    return "step", {"step": number, metric: loss}


def test_a_run_that_nothing_happened_to(files):
    journal(files, 1, [start(), *lines([3.0, 2.0, 1.0, 1.5])])
    losses = read_losses(files)
    assert (losses.run, losses.metric, losses.resumed) == ("one", "loss", ())
    assert losses.training == {1: 2.5, 2: 1.5, 3: 2.0}
    assert losses.validation == {0: 3.0, 1: 2.0, 2: 1.0, 3: 1.5}
    assert losses.best == 2


def test_steps_that_were_lost_are_there_as_they_were_done_again(files):
    journal(files, 1, [start(), step(1, 1.0), step(2, 2.0), step(3, 99.0), step(4, 99.0)])
    journal(files, 2, [start("000001-00000002"), step(3, 3.0)])
    journal(files, 3, [start("000002-00000003"), step(4, 4.0), step(5, 5.0)])
    losses = read_losses(files)
    assert losses.training == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0, 5: 5.0}
    assert losses.resumed == (2, 3)


def test_a_run_that_began_anew_has_no_step_of_its_first_attempt(files):
    journal(files, 1, [start(), step(1, 99.0), step(2, 99.0)])
    journal(files, 2, [start(), step(1, 1.0)])
    losses = read_losses(files)
    assert losses.training == {1: 1.0}
    assert losses.resumed == (0,)


def test_the_numeric_heads_loss_keeps_its_name(files):
    journal(files, 1, [start(), *lines([3.0, 2.0], "loss_numeric")])
    assert read_losses(files).metric == "loss_numeric"


def test_a_torn_line_and_no_journal_are_no_trouble(files):
    assert read_losses(files) is None
    journal(files, 1, [start(), step(1, 1.0)])
    with files.journal(1).open("a") as stream:
        stream.write('{"kind":"step","time":1.0,"step":2,"lo')
    assert read_losses(files).training == {1: 1.0}
