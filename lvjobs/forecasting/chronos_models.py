"""Chronos models on this machine, with which evaluations are compared: found and checked without torch."""

from dataclasses import dataclass
from pathlib import Path

from lvjobs.errors import UsageError
from lvjobs.forecasting.hub import directory_of, parameters_of, pipeline_of, whole

BOLT, CHRONOS_2 = "ChronosBoltPipeline", "Chronos2Pipeline"


@dataclass(frozen=True)
class ChronosModel:
    """A Chronos model that is complete on this machine; `pipeline` is the class that forecasts with it."""

    directory: Path
    parameters: int | None
    pipeline: str


def is_chronos(model: str) -> bool:
    """Return whether a model on this machine is one of Chronos, of any kind."""
    directory = directory_of(model)
    return directory is not None and bool(pipeline_of(directory))


def find_chronos(model: str) -> ChronosModel:
    """Return the Chronos model, if a job of this machine could forecast with it: a directory, or a hub id.

    Raises:
        UsageError: it is not here, or not complete, or of another kind. The text says what to type.
    """
    directory = whole(model)
    pipeline = pipeline_of(directory)
    if pipeline not in (BOLT, CHRONOS_2):
        names = f"names the pipeline {pipeline}" if pipeline else "names no pipeline of Chronos"
        raise UsageError(
            f"model {model!r} is neither Chronos-Bolt nor Chronos-2: {directory / 'config.json'} {names}",
            "name another model",
        )
    return ChronosModel(directory, parameters_of(directory), pipeline)
