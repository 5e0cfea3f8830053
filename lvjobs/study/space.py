"""A stage's space: the values that a sampler may propose for keys of [train], and the settings of the search."""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import product
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, Field, ValidationError

from lvjobs.study.fields import Float, Int, leaves
from lvjobs.study.tables import SettingsTable

_STARTUP, _PARALLEL = 10, 4
_MOST_CORNERS = 512
"""With more corners, one key at a time is checked instead of all of them together."""


_Model = TypeVar("_Model", bound=BaseModel)


class Range(SettingsTable):
    """A range of numbers, both ends included. For a key that takes whole numbers, they are whole."""

    low: Float = Field(allow_inf_nan=False, description="lowest value")
    high: Float = Field(allow_inf_nan=False, description="highest value")
    log: bool = Field(default=False, description="sample on a logarithmic scale")
    step: Float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="only low, low + step, low + 2 step, ..."
    )


Values: TypeAlias = Range | list[Any]
"""The possible values of a key: a range, or a list."""


class Search(SettingsTable):
    """The search of a space, by a sampler of Optuna.

    `lvjobs.sweep.sampling` has the meaning; Optuna has the algorithms.

    `trials` are proposed in all, the first `startup` of them at random (None: 10, or a third where that is fewer). At
    most `parallel` are open at once (None: 4; all with the random sampler, because it learns nothing).
    """

    sampler: Literal["tpe", "random"] = Field(
        default="tpe", description="tpe learns from earlier trials; random does not"
    )
    trials: Int = Field(gt=0, description="trials in all")
    seed: Int = Field(default=0, ge=0, description="seed of the sampler")
    parallel: Int | None = Field(
        default=None, gt=0, description="trials that may be open at once; default: 4, or all of them with random"
    )
    startup: Int | None = Field(
        default=None, gt=0, description="random trials at the beginning; default: 10, or a third of fewer than 30"
    )

    @property
    def first(self) -> int:
        """Return how many trials are drawn at random before the sampler learns."""
        return self.startup or min(_STARTUP, -(-self.trials // 3))

    @property
    def at_once(self) -> int:
        """Return how many trials may be open at once."""
        return self.parallel or (self.trials if self.sampler == "random" else _PARALLEL)


def read_space(space: Any, stage: str) -> dict[str, Values]:
    """Return a stage's space from study.toml's or the ledger's form.

    Raises:
        ValueError: the message names the stage, the key, and what is wrong with its values.
    """
    if not isinstance(space, Mapping):
        raise ValueError(f"stage {stage}: write space as a table: {{ lora_rank = [2, 4] }}")  # noqa: TRY004 - pydantic's
    return {key: _values(key, values, stage) for key, values in space.items()}


def _values(key: str, values: Any, stage: str) -> Values:
    try:
        return _list(values) if isinstance(values, list) else _range(values)
    except ValueError as error:
        raise ValueError(f"stage {stage} searches {key}: {error}") from None


def read_search(search: Any, stage: str) -> Search | None:
    """Return the settings of a stage's search from study.toml's or the ledger's form; None where it has no search.

    Raises:
        ValueError: the message names the stage, the key, and what is wrong with it.
    """
    if search is None or isinstance(search, Search):
        return search
    try:
        return _read(Search, search if isinstance(search, Mapping) else {})
    except ValueError as error:
        raise ValueError(f"stage {stage}, search: {error}; write search = {{ trials = 20 }}") from None


def _list(values: list[Any]) -> list[Any]:
    if not values:
        raise ValueError("its list is empty; give it a value")
    if wrong := next((value for value in values if not isinstance(value, (bool, int, float, str))), None):
        raise ValueError(f"{wrong!r} is no value of [train]; write numbers, words, true or false")
    if twice := next((value for number, value in enumerate(values) if value in values[:number]), None):
        raise ValueError(f"{twice!r} is in its list twice; leave one out")
    return list(values)


def _range(values: Any) -> Range:
    if isinstance(values, Range):
        return values
    if not isinstance(values, Mapping):
        raise ValueError("write { low = ..., high = ... }, or a list of values")  # noqa: TRY004 - as above
    found = _read(Range, values)
    low, high = found.low, found.high
    if not low < high:
        raise ValueError(f"low = {low:g} has to be below high = {high:g}; set it lower")
    if found.log and low <= 0:
        raise ValueError(f"log = true needs a low above 0, and low = {low:g}; set it higher, or leave log out")
    if found.log and found.step is not None:
        raise ValueError("log and step do not go together; leave one out")
    if found.step is not None:
        steps = (_exact(high) - _exact(low)) // _exact(found.step)
        last = _exact(low) + steps * _exact(found.step)
        if last != _exact(high):
            raise ValueError(
                f"steps of {found.step:g} from low = {low:g} meet {float(last):g}, not high = {high:g}; set high to "
                "that, or change step"
            )
    return found


def _read(model: type[_Model], values: Mapping[str, Any]) -> _Model:
    """Return the table. Raises ValueError about the first wrong key; unknown keys come before all others."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = error.errors()
        first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
        key, message = first["loc"][-1], first["msg"].removeprefix("Value error, ")
        words = {
            "extra_forbidden": f"unknown key {key!r}; known here: {', '.join(model.model_fields)}",
            "missing": f"{key} is missing",
        }
        said = words.get(first["type"], f"{key} = {first['input']!r}: {message[0].lower()}{message[1:]}")
        raise ValueError(said) from None


def _exact(number: float) -> Decimal:
    """Return the number as it was written, so that tenths add up."""
    return Decimal(repr(number))


def number_of(model: type[BaseModel], key: str) -> type[int] | type[float] | None:
    """Return whether a key of the model takes whole numbers (int) or any (float); None where it takes no numbers."""
    kinds = set(leaves(model.model_fields[key].annotation))
    return float if float in kinds else int if int in kinds else None


def check_keys(space: Mapping[str, Values], stage: str, model: type[BaseModel]) -> None:
    """Refuse values that the keys of the model cannot have.

    Raises:
        ValueError: the message names the stage and the key.
    """
    for key, values in space.items():
        if isinstance(values, Range):
            kind = number_of(model, key)
            if kind is None:
                raise ValueError(f"stage {stage} searches {key}, which is no number: write a list of its values")
            for name, end in (("low", values.low), ("high", values.high), ("step", values.step)):
                if kind is int and end is not None and not end.is_integer():
                    raise ValueError(f"stage {stage} searches {key}, which is a whole number; {name} = {end:g} is not")


def ends(values: Values) -> list[Any]:
    """Return the lowest and the highest value of a range; all values of a list."""
    return [values.low, values.high] if isinstance(values, Range) else list(values)


def corners(space: Mapping[str, Values], keys: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Return every combination of the ends of `keys`, with the other keys at their first value.

    Without `keys`: of all keys, or one key after another where that would be too many combinations.
    """
    every = {key: ends(values) for key, values in space.items()}
    first = {key: values[0] for key, values in every.items()}
    if keys is None and math.prod(map(len, every.values())) > _MOST_CORNERS:
        return [first, *({**first, key: value} for key, values in every.items() for value in values[1:])]
    chosen = list(every) if keys is None else list(keys)
    return [{**first, **dict(zip(chosen, values, strict=True))} for values in product(*(every[key] for key in chosen))]


def in_words(space: Mapping[str, Values]) -> str:
    """Return a text such as `learning_rate 1e-05 to 0.001 (log) x lora_rank [2, 4, 8]`."""
    return " x ".join(f"{key} {_words(values)}" for key, values in space.items())


def _words(values: Values) -> str:
    if not isinstance(values, Range):
        return str(values)
    how = " (log)" if values.log else f" by {values.step:g}" if values.step else ""
    return f"{values.low:g} to {values.high:g}{how}"
