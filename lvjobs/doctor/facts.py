"""What Slurm said, understood: read once, for all the checks that need it. Pure."""

import grp
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lvjobs.cluster import sites
from lvjobs.cluster.enquiry import Replies
from lvjobs.cluster.limits import enforces_limits, limits_of
from lvjobs.cluster.parse import parse_load
from lvjobs.cluster.protocol import Limits, Load, Site
from lvjobs.cluster.rights import Association, NodeGroup, of_cluster, parse_associations, parse_nodes
from lvjobs.doctor.asked import Asked


@dataclass(frozen=True)
class Facts:
    """A site, as far as it answered. What it did not say is empty, and `replies` say why."""

    replies: Replies
    config: Mapping[str, str] = field(default_factory=dict)
    partitions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    qos: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    nodes: Sequence[NodeGroup] = ()
    associations: Sequence[Association] = ()
    limits: Limits = field(default_factory=Limits)
    load: Load = field(default_factory=Counter)

    @property
    def site(self) -> Site:
        """What it promises."""
        return sites.site_of(self.config, self.partitions, self.replies["qos"].text)

    @property
    def cluster(self) -> str:
        """Its name."""
        return self.config.get("ClusterName", "")

    @property
    def is_heard(self) -> bool:
        """Whether slurmctld answered."""
        return bool(self.config)

    def partitions_of(self, asked: Asked) -> list[str]:
        """Where the job would go: what is asked for, else the site's default."""
        return asked.names("partition") or [name for name in [sites.default_partition(self.partitions)] if name]

    def account_of(self, asked: Asked) -> str:
        """Which account would be charged; empty where nobody says."""
        own = next((each.account for each in self.associations if each.is_default), "")
        return str(asked.variables.get("account") or own)

    def qos_of(self, asked: Asked) -> list[str]:
        """Under which QOS the job would run: what is asked for, else the account's own."""
        mine = [each for each in self.associations if each.account == self.account_of(asked)]
        return asked.names("qos") or [name for name in [next((each.default_qos for each in mine), "")] if name]


def understand(replies: Replies, asked: Asked) -> Facts:
    """Read what was said."""
    config = sites.parse_config(replies["config"].text)
    partitions = sites.parse_partitions(replies["partitions"].text)
    user = of_cluster(replies["user"].text, config.get("ClusterName", ""))
    qos = replies["qos"].text
    told = (qos, user) if enforces_limits(config) else ()
    return Facts(
        replies=replies,
        config=config,
        partitions=partitions,
        qos=sites.parse_qos(qos),
        nodes=parse_nodes(replies["nodes"].text),
        associations=parse_associations(user),
        limits=limits_of(asked.variables, config, partitions, *told),
        load=parse_load(replies["queue"].text),
    )


def group_names() -> set[str]:
    """The groups of this user."""
    return {_group_name(number) for number in (*os.getgroups(), os.getgid())}


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:  # what has no name is in no list of names
        return ""
