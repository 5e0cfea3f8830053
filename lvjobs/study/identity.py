"""A run's identity: its settings without those that have their default values. The fingerprint is computed from it.

So a release that adds a key changes no run's fingerprint: a run that was declared before, and one that is typed without
the key, have the same settings.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel

from lvjobs.study.evaluation import EVALUATE_TASK, EvaluationConfig
from lvjobs.study.training import TRAIN_TASK, TrainingConfig

_Model = TypeVar("_Model", bound=BaseModel)

PARAMS: Mapping[str, type[BaseModel]] = {TRAIN_TASK: TrainingConfig, EVALUATE_TASK: EvaluationConfig}
"""The models of the bundled tasks' params; the params of other tasks are opaque, and all of them count."""

MEANT: Mapping[type[BaseModel], Mapping[str, Any]] = {TrainingConfig: {"validation_systems": 0}}
"""For a key that was added, or whose default changed, and whose default is not what older runs did: the value that
these used. An entry may never change: fingerprints depend on it.
"""


@cache
def silence(model: type[BaseModel]) -> Mapping[str, Any]:
    """Return the value that a run without a key has for it, for every key that may be left out."""
    fields = {key: field for key, field in model.model_fields.items() if not field.is_required()}
    defaults = {key: field.get_default(call_default_factory=True) for key, field in fields.items()}
    return defaults | dict(MEANT.get(model, {}))


def said(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` of this configuration, as JSON values, without those that `silence` has; also in inner tables."""
    meant = silence(model)
    kept: dict[str, Any] = {}
    for key, value in values.items():
        # 1, 1.0 and true are equal in Python, but different text in JSON.
        if key in meant and type(meant[key]) is type(value) and meant[key] == value:
            continue
        inner = _inner(model, key)
        kept[key] = said(inner, value) if inner and isinstance(value, Mapping) else value
    return kept


def content(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return params without the path of data whose hash they have: the same data in another place are the same data."""
    kept = {key: content(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    if kept.get("data_sha256"):
        kept.pop("data", None)
    return kept


def read_params(model: type[_Model], params: Mapping[str, Any]) -> _Model:
    """Return a run's params with the values that it was declared with, whichever release declared it.

    Raises:
        ValidationError: they do not fit this configuration.
    """
    return model.model_validate(_meant(model, params))


def _meant(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(MEANT.get(model, {})) | dict(values)
    for key, value in values.items():
        if (inner := _inner(model, key)) and isinstance(value, Mapping):
            found[key] = _meant(inner, value)
    return found


@cache
def _inner(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the configuration model that a key holds, or None."""
    return model_of(model.model_fields[key].annotation) if key in model.model_fields else None


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a table, of a list of tables, or of a table's values."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        return annotation  # Python 3.10 takes list[int] for a type
    return next(filter(None, map(model_of, get_args(annotation))), None)
