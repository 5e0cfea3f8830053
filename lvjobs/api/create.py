"""The creation of a study directory: its study.toml, and notes on its file system and on the site."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from lvjobs.errors import UsageError
from lvjobs.study.config import load_study


def create(root: Path, profile: str, account: str | None, preset: str | None, *, force: bool) -> Path:
    """Write a commented study.toml with every key and its default, and return its path.

    `preset` None means study-tiny if runs train on this machine, else the published study.

    Raises:
        UsageError: study.toml exists and `force` is not given, or it cannot be written, or there is no such profile.
    """
    from lvjobs.cluster.backends import LOCAL
    from lvjobs.files import close_to_others, private, write_atomic
    from lvjobs.study.template import study_toml

    defaults = {}
    if profile != LOCAL:
        from lvjobs.cluster.profiles import load_profile

        defaults = load_profile(profile).defaults()
    preset = preset or ("study-tiny" if profile in (LOCAL, "lab") else "published")
    path = root / "study.toml"
    if path.exists() and not force:
        raise UsageError(f"{path} exists; edit it, or write over it with --force")
    try:
        is_new = not root.exists() or not any(root.iterdir())
        with private():
            root.mkdir(parents=True, exist_ok=True)
        if is_new:  # the permissions of an existing directory are the user's
            close_to_others(root)
        write_atomic(path, study_toml(profile, account, defaults, preset))
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); choose another --study") from error
    return path


def storage_notes(root: Path, profile: str) -> Iterator[str]:
    """Yield notes on the study's file system, with remedies."""
    from lvjobs.control.recovery.check import is_elsewhere
    from lvjobs.ledger import storage

    where = load_study(root).where
    for concern in storage.concerns(storage.storage_of(root), on_slurm=is_elsewhere(profile), where=where):
        yield f"storage: {concern.what}; {concern.remedy}"


def site_lines(root: Path, profile: str) -> list[str]:
    """Return lines on what requeue and preemption do at the profile's site.

    Raises:
        ClusterError: The scheduler was not reached from here.
    """
    from lvjobs.control.backends import cluster_for
    from lvjobs.report.terminal.site_lines import site_lines as worded

    study = load_study(root)
    return list(worded(asdict(cluster_for(study, profile).probe()), study.where))
