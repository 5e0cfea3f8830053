"""The answers of Slurm, parsed once for all the checks that need them. Pure."""

import grp
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lvjobs.cluster.enquiry import Replies
from lvjobs.cluster.nodes import NodeGroup, parse_groups
from lvjobs.cluster.parse import parse_load
from lvjobs.cluster.protocol import Limits, Load
from lvjobs.cluster.sites import PARSERS, SlurmSite, parse_associations
from lvjobs.doctor.asked import Asked


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
