"""Mail through the site: the program that Slurm is told to mail with gets one when a study has ended."""

import pytest
from driving import Study, until

from lvjobs.lab import LabConfig

pytestmark = pytest.mark.slurm


STAGE = """
[[stage]]
name = "two"
steps = 20
grid = { seed = [0, 1] }
"""


@pytest.fixture
def driven(tmp_path, lab_for):
    """A study whose driver is on, for the lab that the test asks for."""
    return Study(tmp_path, driver=True)


def test_the_end_of_a_study_is_mailed_once(tmp_path_factory, lab_for, driven: Study):
    place = tmp_path_factory.mktemp("mail")
    letters, program = place / "letters", place / "mail"
    program.write_text(f'#!/bin/sh\necho "$@" >>{letters}\n')
    program.chmod(0o755)
    place.chmod(0o777)
    lab = lab_for(LabConfig(accounting=True, hold=6, message_timeout=60, extra=(f"MailProg={program}",)))
    toml = driven.root / "study.toml"
    toml.write_text(toml.read_text() + '\n[notify]\nmail = "someone@example.org"\n' + STAGE)
    driven.type("sweep", "two")
    until(lambda: letters.exists() and "study-ended" in letters.read_text(), 600)
    until(lambda: not lab.run("squeue", "-h", "-o", "%i").strip())
    told = letters.read_text().splitlines()
    assert len(told) == 1, told
    assert "someone@example.org" in told[0]
    assert "Ended" in told[0]
    assert {run["state"] for run in driven.summary()["runs"]} == {"completed"}
