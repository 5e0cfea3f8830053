"""The settings for how a run is carried out: they may change while the run stays the same run.

They are the profile, the resources, and two keys of [train]. The newest value applies: a typed value until study.toml
is changed, and study.toml's value until something is typed.
"""

from collections.abc import Mapping
from typing import Any

from lvjobs.study.config import StudyConfig
from lvjobs.study.run import CARRIED


def declared_settings(config: StudyConfig, profile: str, stage: str) -> dict[str, Any]:
    """Return what study.toml declares about how runs of this stage are carried out.

    Args:
        config: The study.toml.
        profile: Its profile; a file's path is absolute.
        stage: A stage's name, or a name that no stage has for a run that is submitted by itself.

    Returns:
        The keys of `Resources` and `CARRIED`, and `profile`.
    """
    own = next((each.set for each in config.stage if each.name == stage), {})
    train = {key: own.get(key, getattr(config.train, key)) for key in CARRIED}
    return {**config.resources.model_dump(), "profile": profile, **train}


def typed_over(declared: Mapping[str, Any], requested: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return each key whose requested value differs from study.toml's, with both values: [requested, declared]."""
    known = {key: value for key, value in requested.items() if key in declared}
    return {key: [value, declared[key]] for key, value in known.items() if value != declared[key]}


def current(declared: Mapping[str, Any], typed: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return the settings as they are now.

    Args:
        declared: The values in study.toml now.
        typed: The result of `typed_over` when the user last submitted the run. A value applies as long as study.toml
            has the value that it had then.
    """
    kept = {key: value for key, (value, then) in typed.items() if key in declared and declared[key] == then}
    return {**declared, **kept}
