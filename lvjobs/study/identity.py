"""What a run says: its settings without those that are as they would be anyway. That is what its fingerprint is of.

So a release that adds a key leaves every run the one that it was: what was declared before, and what is typed again
without the key, say the same.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel

from lvjobs.study.evaluation import EVALUATE_TASK, EvaluationConfig
from lvjobs.study.training import TRAIN_TASK, TrainingConfig

_Model = TypeVar("_Model", bound=BaseModel)

PARAMS: Mapping[str, type[BaseModel]] = {TRAIN_TASK: TrainingConfig, EVALUATE_TASK: EvaluationConfig}
"""What the bundled tasks take; the params of any other are opaque, and all of them are said."""

MEANT: Mapping[type[BaseModel], Mapping[str, Any]] = {TrainingConfig: {"validation_systems": 0}}
"""Of a key whose default is not what runs did that were declared before the key, or before its new default: what these
did. An entry is for ever: fingerprints hang on it."""


@cache
def silence(model: type[BaseModel]) -> Mapping[str, Any]:
    """What a run that does not say a key of this configuration means by that, for every key that may be left out."""
    fields = {key: field for key, field in model.model_fields.items() if not field.is_required()}
    defaults = {key: field.get_default(call_default_factory=True) for key, field in fields.items()}
    return defaults | dict(MEANT.get(model, {}))


def said(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of this configuration, as plain as JSON, without what silence means; also in its inner tables."""
    meant = silence(model)
    kept: dict[str, Any] = {}
    for key, value in values.items():
        # 1, 1.0 and true are equal in Python, and other text in JSON.
        if key in meant and type(meant[key]) is type(value) and meant[key] == value:
            continue
        inner = _inner(model, key)
        kept[key] = said(inner, value) if inner and isinstance(value, Mapping) else value
    return kept


def content(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return params without the path of data whose hash they have: the same data elsewhere are the same data."""
    kept = {key: content(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    if kept.get("data_sha256"):
        kept.pop("data", None)
    return kept


def read_params(model: type[_Model], params: Mapping[str, Any]) -> _Model:
    """A run's params as it meant them, whichever release it was declared with.

    Raises:
        ValidationError: they are none of this configuration.
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
    """The configuration that a key holds, where it holds one."""
    annotation = model.model_fields[key].annotation if key in model.model_fields else None
    if not isinstance(annotation, type) or get_origin(annotation) is not None:  # list[int] passes for one on 3.10
        return None
    return annotation if issubclass(annotation, BaseModel) else None
