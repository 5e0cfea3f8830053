"""Numbers as the tables and figures of a report write them."""


def short(value: float) -> str:
    """Three significant digits, zeros at the end too; `.0710` as the tables of the field have it."""
    text = f"{value:#.3g}".rstrip(".")
    return text.removeprefix("0") if text.startswith("0.") else text


_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def duration(seconds: float) -> str:
    """A time span: `45 s`, `12 min`, `5.3 h`, `2.1 d`."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h" if seconds < 2 * _DAY else f"{seconds / _DAY:.1f} d"


def counted(number: int, words: str) -> str:
    """`1 run`, `2 runs`, `2,000 runs`."""
    return f"{number:,} {words.removesuffix('s') if number == 1 else words}"


def flops(count: int) -> str:
    """FLOPs in two digits: `1.2e+15`; `0` for none."""
    return f"{count:.1e}" if count else "0"
