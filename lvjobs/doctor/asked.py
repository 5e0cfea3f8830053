"""What is looked at: a study and what its jobs ask for, or a machine where there is no study yet."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lvjobs.cluster.backends import LOCAL
from lvjobs.cluster.profiles import Profile, load_profile
from lvjobs.cluster.protocol import JobRequest
from lvjobs.control.driver.driver import driver_request
from lvjobs.control.recovery.check import is_elsewhere
from lvjobs.control.submission.send import new_token
from lvjobs.control.submission.slots import choices
from lvjobs.control.submission.time_limits import is_automatic
from lvjobs.study.config import StudyContext
from lvjobs.study.tables import Resources
from lvjobs.study.training import TrainingConfig

LAB = "lab"
"""The profile of a private cluster, whose GPUs are pretended and whose nodes are this machine."""


@dataclass(frozen=True)
class Asked:
    """What jobs of this study, by this profile, ask for. Without a study (`is_study`), what they would by default.

    `training` is None where runs train a function of the user's own, whose model and data lvjobs knows nothing of.
    """

    study: StudyContext
    is_study: bool
    profile: str
    resources: Resources
    training: TrainingConfig | None
    checkpoint_every: int = 250
    threads: int = 1
    typed: Sequence[str] = ()
    """What was typed with `lvjobs doctor`, but for how it looks: to be typed again with it."""

    @property
    def is_local(self) -> bool:
        """Whether jobs are processes of this machine."""
        return self.profile == LOCAL

    @property
    def is_elsewhere(self) -> bool:
        """Whether jobs run on other machines than this one."""
        return is_elsewhere(self.profile)

    @cached_property
    def script(self) -> Profile | None:
        """The profile's script; None for `local`. Raises UsageError: there is none, or it cannot be read."""
        return None if self.is_local else load_profile(self.profile)

    @cached_property
    def variables(self) -> Mapping[str, Any]:
        """What a job asks for: what study.toml or the user says, else the profile's defaults. Lists as Slurm's."""
        own = self.resources.variables()
        own.pop("time_limit", None)
        return {**(self.script.defaults() if self.script else {}), **own}

    def is_needed(self, key: str) -> bool:
        """Whether the profile asks for it and has no default."""
        return self.script is not None and key in self.script.variables - self.script.defaults().keys()

    @property
    def is_automatic(self) -> bool:
        """Whether time limits are computed."""
        return is_automatic(self.resources.variables())

    def names(self, key: str) -> list[str]:
        """The partitions or QOS that are asked for, in their order; none where that is left to the site."""
        return [name for name in str(self.variables.get(key) or "").split(",") if name]

    def request(self, directory: Path, *, log: Path, code: Path, **changes: Any) -> JobRequest:
        """A job as a run's would be, for another purpose; `changes` are of its resources."""
        own = self.resources.variables()
        own.pop("time_limit", None)
        resources = {**own, **choices(own)[0], **changes}
        return JobRequest(new_token(), "doctor", [directory], log, code, sys.executable, resources)

    def sample(self, choice: Mapping[str, str] | None = None) -> JobRequest:
        """A job as the study's would be, to be looked at and not to be submitted; by one of its choices."""
        layout = self.study.layout
        code = layout.code / ("0" * 16)
        return self.request(layout.checkpoints / "run", log=layout.logs / "run", code=code, **(choice or {}))

    def driver(self) -> JobRequest:
        """The study's driver, to be looked at and not to be submitted."""
        return driver_request(self.study, {**self.variables, **choices(self.variables)[0]})
