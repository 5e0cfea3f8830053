"""A study's clusters, and the copies that it keeps of profiles that are files of the user's."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.cluster.backends import LOCAL, backend_of, defaults_of, open_cluster
from lvjobs.cluster.protocol import DRIVER, Cluster
from lvjobs.cluster.templates import DRIVER_PROFILE, ProfileError, names_file, path_of
from lvjobs.errors import UsageError
from lvjobs.files import make_private, write_atomic
from lvjobs.ledger.records import RunRecord
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import StudyLayout
from lvjobs.study.tables import Resources

_NAMED = 3
"""Runs that one line names."""


def used_profile(layout: StudyLayout, profile: str, copy: str) -> str:
    """Return the profile by which jobs are submitted: the file's copy `copy` where there is one, else `profile`."""
    kept = layout.profile_copy(copy, profile)
    return str(kept) if copy and kept.is_file() else profile


def profile_of(layout: StudyLayout, run: RunRecord) -> str:
    """Return the profile by which the run is submitted: as it was last submitted, whatever became of the file."""
    return used_profile(layout, run.profile, run.profile_copy)


def left_alone(layout: StudyLayout, runs: Sequence[RunRecord], unusable: Mapping[str, ProfileError]) -> Iterator[str]:
    """Yield a line for each profile that cannot be used: which runs get no job for that, and what to do about it."""
    for profile, error in unusable.items():
        names = [run.name for run in runs if not run.state.is_at_rest and profile_of(layout, run) == profile]
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"{error.problem}; no job is submitted for {', '.join(names[:_NAMED])}{more} until you {error.fix}"


def keep_profile(layout: StudyLayout, profile: str) -> str:
    """Keep a copy of a profile's file with the study; return its hash, or "" for a profile that is found by its name.

    Raises:
        ProfileError: the profile cannot be used as it is now.
    """
    if profile == LOCAL:
        return ""
    from lvjobs.cluster.profiles import load_profile

    source = load_profile(profile).source
    if not names_file(profile):
        return ""
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    path = layout.profile_copy(digest, profile)
    if not path.exists():
        make_private([path.parent])
        write_atomic(path, source)
    return digest


def renew_profile(layout: StudyLayout, run: RunRecord, where: Sequence[str] = ()) -> str:
    """Return `keep_profile` of a run that the user resumes: it is submitted by its profile as that is now.

    `where`: see `StudyContext.where`.

    Raises:
        ProfileError: the profile cannot be used; says how to have it back.
    """
    try:
        return keep_profile(layout, run.profile)
    except ProfileError as error:
        fix, kept = error.fix, Path(profile_of(layout, run))
        if str(kept) != run.profile:
            fix += f" (as it was last submitted: {remedies.PROFILE_BACK(copy=kept, profile=run.profile)})"
        command = remedies.RESUME_RUN(*where, run=run.name)
        text = f"{error.problem}; {run.name} stays {run.state.value}: {fix}, then type: {command}"
        raise ProfileError(error.problem, fix, text) from None


def variables_of(layout: StudyLayout, run: RunRecord) -> dict[str, Any]:
    """Return the profile's variables as the run's jobs have them: what is set, else the profile's defaults."""
    set_here = {key: value for key, value in run.resources.items() if value is not None}
    return {**defaults_of(profile_of(layout, run)), **set_here}


def gpus_by_default(profile: str) -> int:
    """The GPUs that a job of this profile gets where nothing else is said; 0 where the profile is no more."""
    return int(defaults_of(profile).get("gpus") or 0)


def check_sbatch_options(study: StudyContext, resources: Resources, profile: str) -> None:
    """Refuse options of sbatch by which lvjobs would lose its jobs: of runs, of their profile, and of the driver.

    Raises:
        UsageError: it names the option, and what to do.
    """
    if backend_of(profile) == LOCAL:
        return
    from lvjobs.cluster.profiles import check_profile_options, load_profile

    with suppress(ProfileError):  # a profile that cannot be used is refused where it is to be used
        check_profile_options(load_profile(profile), resources.extra_sbatch)
    check_profile_options(load_profile(DRIVER_PROFILE), study.config.driver.extra_sbatch)


def digest_of(profile: str) -> str:
    """What tells whether its template is still the same: quickly, as it is read and not compiled. "": there is none."""
    if profile == LOCAL:
        return ""
    try:
        return hashlib.sha256(path_of(profile).read_bytes()).hexdigest()
    except (UsageError, OSError):
        return ""


def cluster_for(study: StudyContext, profile: str) -> Cluster:
    """The cluster that `profile` describes, as this study uses it.

    Raises:
        UsageError: no such profile.
    """
    layout = study.layout
    return open_cluster(profile, layout.local_jobs, layout.submissions, slots=study.config.local_slots)


def driver_token(root: Path) -> str:
    """Return what a study's driver is known by in the queue: of the directory, so that a copy of it has its own."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:12]


def driver_name(study: StudyContext) -> str:
    """Return the name of the driver's job."""
    return f"{DRIVER}.{driver_token(study.root)}"
