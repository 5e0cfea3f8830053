"""The object of the checks: a study and the requests of its jobs, or a machine without a study."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lvjobs.cluster.backends import backend_of, is_elsewhere
from lvjobs.cluster.profiles import Profile, load_profile
from lvjobs.cluster.protocol import JobRequest
from lvjobs.control.driver.driver import driver_request
from lvjobs.control.submission.send import new_token
from lvjobs.control.submission.slots import choices
from lvjobs.study.config import StudyContext
from lvjobs.study.params import TrainingConfig
from lvjobs.study.tables import Resources

LAB = "lab"
"""The profile of a private cluster, whose GPUs are simulated and whose nodes are this machine."""


@dataclass(frozen=True)
class Asked:
    """The requests of a study's jobs by this profile; without a study (`is_study` is false), those of default jobs.

    `training` is None if runs train a function of the user's own, because lvjobs does not know its model and data.
    """

    study: StudyContext
    is_study: bool
    profile: str
    resources: Resources
    training: TrainingConfig | None
    checkpoint_every: int = 250
    threads: int = 1
    typed: Sequence[str] = ()
    """The arguments of `lvjobs doctor`, except those about how to check, for commands that repeat it."""

    @property
    def is_local(self) -> bool:
        """Return whether jobs are processes of this machine."""
        return not backend_of(self.profile).is_site

    @property
    def is_elsewhere(self) -> bool:
        """Return whether jobs run on other machines than this one."""
        return is_elsewhere(self.profile)

    @cached_property
    def script(self) -> Profile | None:
        """Return the profile's script; None for `local`. Raises UsageError if there is none, or it cannot be read."""
        return None if self.is_local else load_profile(self.profile)

    @cached_property
    def variables(self) -> Mapping[str, Any]:
        """Return a job's requests: from study.toml or the command line, else the profile's defaults.

        A list is joined by commas, as Slurm has it.
        """
        return {**(self.script.defaults() if self.script else {}), **self._own}

    @property
    def _own(self) -> dict[str, Any]:
        return {key: value for key, value in self.resources.variables().items() if key != "time_limit"}

    def request(self, directory: Path, *, log: Path, code: Path, **changes: Any) -> JobRequest:
        """Return a request for a job like a run's, for another purpose; `changes` replace parts of its resources."""
        resources = {**self._own, **choices(self._own)[0], **changes}
        return JobRequest(new_token(), "doctor", [directory], log, code, sys.executable, resources)

    def sample(self, choice: Mapping[str, str] | None = None) -> JobRequest:
        """Return a request for a job of the study, with one of its choices: for checks, not for submission."""
        layout = self.study.layout
        code = layout.code / ("0" * 16)
        return self.request(layout.checkpoints / "run", log=layout.logs / "run", code=code, **(choice or {}))

    def driver(self) -> JobRequest:
        """Return the request for the study's driver: for checks, not for submission."""
        return driver_request(self.study, {**self.variables, **choices(self.variables)[0]})
