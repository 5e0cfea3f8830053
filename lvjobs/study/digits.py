"""The text form of large numbers: `1.43e13`, where Python prints `1.43e+13`."""

_SMALL = 1e6


def in_digits(count: float, digits: int = 3) -> str:
    """Return a number with up to `digits` significant digits, such as `1.43e13`; a small one is printed whole."""
    return plain(f"{count:.{digits}g}") if abs(count) >= _SMALL else f"{count:g}"


def plain(text: str) -> str:
    """Return a number's text without `+` and zeros at the start of a positive exponent."""
    mantissa, _, exponent = text.partition("e+")
    return f"{mantissa}e{int(exponent)}" if exponent else text
