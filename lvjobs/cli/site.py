"""The proposal of `lvjobs init` for this machine: the profile, the account and the partition."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from lvjobs.cli.common import print_lines
from lvjobs.cluster.backends import backend_of
from lvjobs.cluster.presence import Presence, find_slurm, lab_profile
from lvjobs.cluster.profiles import load_profile
from lvjobs.errors import UsageError

_LOCAL, _GENERIC = "local", "generic"


@dataclass(frozen=True)
class Site:
    """A profile, and keys of [resources] that name something of the site."""

    profile: str
    resources: Mapping[str, Any] = field(default_factory=dict)


def choose_site(profile: str | None, account: str | None, *, local: bool, yes: bool) -> Site:
    """Return where runs are to train.

    Without a profile, Slurm decides: where it answers, this may be a login node, and runs do not train here unless the
    user says so. In a terminal, the proposal can be changed; `yes` takes it.

    Args:
        profile: The profile that was typed, or None.
        account: The Slurm account that was typed, or None.
        local: Whether runs are to train on this machine.
        yes: Whether to take what is proposed, without asking.

    Raises:
        UsageError: Slurm is configured here, and nobody can be asked; or two profiles were typed.
    """
    typed = {"account": account} if account else {}
    if local and profile not in (None, _LOCAL):
        raise UsageError(f"--local and --profile {profile} are two profiles; give one of them")
    if local or profile:
        return Site(profile or _LOCAL, typed or _needed_account(profile or _LOCAL, yes=yes))
    found = find_slurm()
    if found is None:
        return Site(_LOCAL, typed)
    if found.is_silent:
        raise UsageError(
            "Slurm is configured here but did not answer, so this may be a login node; add --profile generic for jobs "
            "on the cluster, or --local to train on this machine"
        )
    proposed = _proposal(found, typed)
    words = ", ".join(f"{key} {value}" for key, value in proposed.resources.items())
    if yes:
        print_lines([f"proposed: profile {proposed.profile}" + (f", {words}" if words else "")])
        return proposed
    if not sys.stdin.isatty():
        raise UsageError(
            f"Slurm answers here, so this may be a login node; add --yes to use profile {proposed.profile}"
            f"{f' ({words})' if words else ''}, name one with --profile, or add --local to train on this machine"
        )
    return _ask(found, proposed)


def _needed_account(profile: str, *, yes: bool) -> dict[str, Any]:
    """Ask for the account if the profile needs one; without a terminal, print that it does."""
    if not backend_of(profile).is_site or "account" in load_profile(profile).defaults():
        return {}
    if sys.stdin.isatty() and not yes:
        return {"account": click.prompt(f"Slurm account to charge (profile {profile} needs one)")}
    click.echo(f"note: profile {profile} needs an account: set account under [resources] in study.toml", err=True)
    return {}


def _proposal(found: Presence, typed: Mapping[str, Any]) -> Site:
    """Return the usual profile, the user's account if there is one only, and the first partition with GPUs."""
    profile = lab_profile() or _GENERIC
    resources = dict(typed)
    if profile == _GENERIC:
        if len(found.accounts) == 1:
            resources.setdefault("account", found.accounts[0])
        if found.with_gpus:
            resources["partition"] = found.partitions[0]
    return Site(profile, resources)


def _ask(found: Presence, proposed: Site) -> Site:
    """Ask for the profile, the account and the partition, with the proposal as the default."""
    click.echo("Slurm answers on this machine. Runs can be jobs on the cluster, or processes of this machine (local):")
    click.echo("do not choose local on a login node, where the site may kill them.")
    profile = click.prompt("Profile (generic, a site's, lab, or local)", default=proposed.profile)
    if profile == _LOCAL:
        return Site(profile)
    resources: dict[str, Any] = {}
    for key, known in (("account", found.accounts), ("partition", found.partitions)):
        if known:
            shown = f"Slurm {key} ({', '.join(known)}; - for none)"
            answer = click.prompt(shown, default=proposed.resources.get(key, "-"))
            resources |= {} if answer == "-" else {key: answer}
    return Site(profile, resources)
