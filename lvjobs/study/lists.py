"""Lists as users type them: `--set` and the environment can only carry text."""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator


def as_list(value: Any) -> Any:
    """Return the list in a text such as `'["a", "b"]'`; return any other value as it is, for pydantic.

    Raises:
        ValueError: the text begins like a list but is none.
    """
    if not isinstance(value, str) or not value.strip().startswith("["):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(f'{value!r} is not a list; write one, such as ["one", "two"]') from None


def as_texts(value: Any) -> Any:
    """Return the same as `as_list`; any other text becomes a list of that one text."""
    read = as_list(value)
    return [read] if isinstance(read, str) else read


List = Annotated[list[Any], BeforeValidator(as_list)]
Texts = Annotated[list[str], BeforeValidator(as_texts)]
