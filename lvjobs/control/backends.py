"""A study's clusters, and the copies that the study keeps of the user's profile files."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.cluster.backends import SLURM, backend_of, defaults_of
from lvjobs.cluster.protocol import DRIVER, Cluster
from lvjobs.cluster.templates import ProfileError, names_file, path_of
from lvjobs.errors import UsageError
from lvjobs.files import write_atomic
from lvjobs.ledger.records import RunRecord
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import StudyLayout
from lvjobs.study.tables import Resources

_NAMED = 3
"""The number of runs that one line names."""


def used_profile(layout: StudyLayout, profile: str, copy: str) -> str:
    """Return the profile by which jobs are submitted: the study's copy if it has one, else `profile`.

    `copy` is the hash of the copy, or "" for none.
    """
    kept = layout.profile_copy(copy, profile)
    return str(kept) if copy and kept.is_file() else profile


def profile_of(layout: StudyLayout, run: RunRecord) -> str:
    """Return the profile by which the run was last submitted, even if the user's file has changed since."""
    return used_profile(layout, run.profile, run.profile_copy)


def left_alone(layout: StudyLayout, runs: Sequence[RunRecord], unusable: Mapping[str, ProfileError]) -> Iterator[str]:
    """Yield a line for each profile that cannot be used: the runs that get no job, and the remedy."""
    for profile, error in unusable.items():
        names = [run.name for run in runs if not run.state.is_at_rest and profile_of(layout, run) == profile]
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"{error.problem}; no jobs for {', '.join(names[:_NAMED])}{more} until you {error.fix}"


def keep_profile(layout: StudyLayout, profile: str) -> str:
    """Keep a copy of a profile's file with the study and return its hash; "" for a profile that has a name, no file.

    Raises:
        ProfileError: the profile cannot be used as it is now.
    """
    if not backend_of(profile).is_site:
        return ""
    from lvjobs.cluster.profiles import load_profile

    source = load_profile(profile).source
    if not names_file(profile):
        return ""
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    path = layout.profile_copy(digest, profile)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, source)
    return digest


def renew_profile(layout: StudyLayout, run: RunRecord, where: Sequence[str] = ()) -> str:
    """Return `keep_profile` for a run that the user resumes: the run uses its profile as the file is now.

    `where`: see `StudyContext.where`.

    Raises:
        ProfileError: the profile cannot be used. The message names the remedy.
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
    """Return the profile's variables for the run's jobs: the run's resources, else the profile's defaults."""
    set_here = {key: value for key, value in run.resources.items() if value is not None}
    return {**defaults_of(profile_of(layout, run)), **set_here}


def gpus_by_default(profile: str) -> int:
    """Return the GPUs that a job of this profile gets by default; 0 if the profile does not exist any more."""
    return int(defaults_of(profile).get("gpus") or 0)


def check_sbatch_options(study: StudyContext, resources: Resources, profile: str) -> None:
    """Refuse sbatch options by which lvjobs would lose its jobs: in `resources`, in the profile, and in [driver].

    Raises:
        UsageError: there is such an option. The message names it and the remedy.
    """
    if not backend_of(profile).is_site:
        return
    from lvjobs.cluster.profiles import check_profile_options, load_profile

    with suppress(ProfileError):  # an unusable profile is refused where it is used
        check_profile_options(load_profile(profile), resources.extra_sbatch)
    check_profile_options(load_profile(driver_profile(study)), study.config.driver.extra_sbatch)


def digest_of(profile: str) -> str:
    """Return a hash of the profile's template, by which a change is found; "" for a profile without a template.

    The file is read and not compiled, so that this is fast.
    """
    try:
        return hashlib.sha256(path_of(profile).read_bytes()).hexdigest() if backend_of(profile).is_site else ""
    except (UsageError, OSError):
        return ""


def cluster_for(study: StudyContext, profile: str) -> Cluster:
    """Return the cluster that `profile` describes, with this study's directories and local slots.

    Raises:
        UsageError: there is no such profile.
    """
    layout, slots = study.layout, study.config.local_slots
    return backend_of(profile).open(profile, layout.local_jobs, layout.submissions, slots)


def driver_token(root: Path) -> str:
    """Return the token of a study's driver in the queue. It follows from the path, so that a copy has another one."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:12]


def driver_profile(study: StudyContext) -> str:
    """Return the profile of the driver's own script: that of the study's backend, or of Slurm where it has none."""
    return backend_of(study.config.profile).driver_profile or SLURM.driver_profile


def driver_name(study: StudyContext) -> str:
    """Return the name of the driver's job."""
    return f"{DRIVER}.{driver_token(study.root)}"
