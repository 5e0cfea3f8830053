"""Numbers as people write them: `1e-5`, `1e3` steps, `1e17` FLOPs, whether they come from TOML, YAML or a shell."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator


def as_float(value: Any) -> Any:
    """Return a string's number as a float; return any other value as it is, for pydantic.

    Raises:
        ValueError: the string is no number.
    """
    if isinstance(value, str):
        try:
            return float(value.replace("_", ""))
        except ValueError:
            raise ValueError(f"{value!r} is not a number; write one, such as 5000 or 1e-5") from None
    return value


def as_int(value: Any) -> Any:
    """Return `"1e3"`, `1e17` or `"5_000"` as an exact integer; return any other value as it is, for pydantic.

    Raises:
        ValueError: the value is no whole number.
    """
    if isinstance(value, bool) or not isinstance(value, (str, float)):
        return value
    try:
        exact = Decimal(value.replace("_", "")) if isinstance(value, str) else Decimal(repr(value))
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number; write one, such as 5000 or 1e-5") from None
    if not exact.is_finite() or exact != exact.to_integral_value():
        raise ValueError(f"{value!r} is not a whole number; write one, such as 5000")
    return int(exact)


Float = Annotated[float, BeforeValidator(as_float)]
Int = Annotated[int, BeforeValidator(as_int)]
