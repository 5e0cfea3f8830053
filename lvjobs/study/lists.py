"""Lists as people type them: `--set` and the environment carry nothing but text."""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator


def as_list(value: Any) -> Any:
    """Read `'["a", "b"]'` as the list that it is; leave anything else to pydantic."""
    if not isinstance(value, str) or not value.strip().startswith("["):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(f'{value!r} is not a list; write one, such as ["one", "two"]') from None


def as_texts(value: Any) -> Any:
    """The same; any other text is a list of just that."""
    read = as_list(value)
    return [read] if isinstance(read, str) else read


List = Annotated[list[Any], BeforeValidator(as_list)]
Texts = Annotated[list[str], BeforeValidator(as_texts)]
