"""Errors in one line, as the page shows them."""

LONGEST = 240
"""Characters of an error's message."""


def words_of(error: BaseException) -> str:
    """Return the error's type and the first line of its message."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first[:LONGEST]}".removesuffix(": ")
