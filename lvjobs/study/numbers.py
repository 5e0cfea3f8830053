"""Numbers as people write them: `1e-5`, `1e3` steps, `1e17` FLOPs, whether TOML, YAML or a shell delivered them."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator


def as_float(value: Any) -> Any:
    """Read a string as a float where it is one; leave anything else to pydantic."""
    if isinstance(value, str):
        try:
            return float(value.replace("_", ""))
        except ValueError:
            raise ValueError(f"{value!r} is not a number; write one, such as 5000 or 1e-5") from None
    return value


def as_int(value: Any) -> Any:
    """Read `"1e3"`, `1e17` or `"5_000"` as the integer it is, exactly; leave anything else to pydantic."""
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
