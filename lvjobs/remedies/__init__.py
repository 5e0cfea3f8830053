"""Remedies: every command that a message tells its reader to type, as a registered value.

A message holds no command of its own; it holds a remedy, filled in: `remedies.RESUME_RUN(run=name)`. So a test finds
all of them, and each is typed in a test that brings its trouble about (tests/remedies.py). docs/errors.md lists them.
`work` has those for studies and runs; `planning` those for stages and their budget; `machine` those for files, the
driver, models, packages, the site and the lab. `remedy` is the class.
"""

from collections.abc import Mapping

from lvjobs.remedies import machine, planning, work
from lvjobs.remedies.machine import *  # noqa: F403 - each by its name: remedies.RESUME
from lvjobs.remedies.planning import *  # noqa: F403
from lvjobs.remedies.remedy import Remedy
from lvjobs.remedies.work import *  # noqa: F403


def registry() -> Mapping[str, Remedy]:
    """Return all remedies by their names, in the order in which they are declared."""
    every = {**vars(work), **vars(planning), **vars(machine)}
    return {name: value for name, value in every.items() if isinstance(value, Remedy)}
