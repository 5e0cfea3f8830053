"""The interface of a check: it reads what is `Asked` and Slurm's answers (`Facts`), and yields a `Diagnosis`."""

import grp
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lvjobs.cluster.backends import backend_of, is_elsewhere
from lvjobs.cluster.enquiry import Replies
from lvjobs.cluster.nodes import NodeGroup, parse_groups
from lvjobs.cluster.parse import parse_load
from lvjobs.cluster.profiles import Profile, load_profile
from lvjobs.cluster.protocol import JobRequest, Limits, Load
from lvjobs.cluster.sites import PARSERS, SlurmSite, parse_associations
from lvjobs.control.driver.driver import driver_request
from lvjobs.control.recovery.findings import Finding
from lvjobs.control.submission.send import new_token
from lvjobs.control.submission.slots import choices
from lvjobs.study.config import StudyContext
from lvjobs.study.params import TrainingConfig
from lvjobs.study.program.container import ContainerConfig
from lvjobs.study.tables import Resources

LAB = "lab"
"""The profile of a private cluster, whose GPUs are simulated and whose nodes are this machine."""


@dataclass(frozen=True)
class Asked:
    """The requests of a study's jobs by this profile; without a study (`is_study` is false), those of default jobs.

    `training` is None if runs train a function of the user's own, because lvjobs does not use its model and data.
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
    container: ContainerConfig | None = None
    """The container of the study's program, if it has one."""

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
        directory, log, code = layout.checkpoints / "run", layout.logs / "run", layout.code / ("0" * 16)
        return self.request(directory, log=log, code=code, **(choice or {}))

    def driver(self) -> JobRequest:
        """Return the request for the study's driver: for checks, not for submission."""
        return driver_request(self.study, {**self.variables, **choices(self.variables)[0]})


@dataclass(frozen=True)
class Diagnosis(Finding):
    """One finding. `fine`: as it should be. `note`: worth knowing. `error`: runs fail, or never start, until fixed.

    `what` is the fact, `means` the consequence for a study, `remedy` what to do; the last two may be empty.
    """

    means: str = ""


def fine(subject: str, what: str, means: str = "", remedy: str = "") -> Diagnosis:
    """Return a finding that all is as it should be."""
    return Diagnosis("fine", subject, what, remedy, means)


def note(subject: str, what: str, means: str = "", remedy: str = "") -> Diagnosis:
    """Return a finding that is worth knowing."""
    return Diagnosis("note", subject, what, remedy, means)


def error(subject: str, what: str, means: str = "", remedy: str = "") -> Diagnosis:
    """Return a finding that has to be fixed."""
    return Diagnosis("error", subject, what, remedy, means)


@dataclass(frozen=True)
class Facts(SlurmSite):
    """A site, as far as it answered. Fields without an answer are empty, and `replies` have the reasons."""

    replies: Replies = field(default_factory=Replies)
    nodes: Sequence[NodeGroup] = ()
    limits: Limits = field(default_factory=Limits)
    load: Load = field(default_factory=Counter)

    @property
    def is_heard(self) -> bool:
        """Return whether slurmctld answered."""
        return bool(self.config)

    def account_of(self, asked: Asked) -> str:
        """Return the account that would be charged; empty if it is not known."""
        own = next((each.account for each in self.associations if each.is_default), "")
        return str(asked.variables.get("account") or own)


def understand(replies: Replies, asked: Asked) -> Facts:
    """Return the facts of the replies."""
    parts = {name: parse(replies[name].text) for name, parse in PARSERS.items()}
    facts = Facts(
        **parts,
        associations=parse_associations(replies["user"].text, parts["config"].get("ClusterName", "")),
        replies=replies,
        nodes=parse_groups(replies["nodes"].text),
        load=parse_load(replies["queue"].text),
    )
    return replace(facts, limits=facts.limits_of(asked.variables))


def group_names() -> set[str]:
    """Return the groups of this user."""
    return {_group_name(number) for number in (*os.getgroups(), os.getgid())}


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:  # a group without a name cannot be in a list of names
        return ""
