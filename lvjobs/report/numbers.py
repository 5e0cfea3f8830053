"""The formats of numbers in the tables and figures of a report, and the names of variables."""

from typing import Any

from lvjobs.study.digits import plain


def short(value: float) -> str:
    """Return three significant digits, trailing zeros included; `.0710` without a leading zero, as papers print it."""
    text = plain(f"{value:#.3g}".rstrip("."))
    return text.removeprefix("0") if text.startswith("0.") else text


def signed(value: float) -> str:
    """Return three significant digits with a sign: `+.0150`, `-.0036`; `0` for none."""
    return f"{'-' if value < 0 else '+'}{short(abs(value))}" if value else "0"


_SMALL_P = 0.001


def p_value(value: float) -> str:
    """Return a p-value in two digits: `.012`; `< .001` below that."""
    return "< .001" if value < _SMALL_P else f"{value:.2g}".removeprefix("0")


MINUTE, HOUR, DAY = 60, 3600, 86_400


def duration(seconds: float) -> str:
    """Return a time span in words: `45 s`, `12 min`, `5.3 h`, `2.1 d`."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 2 * DAY else f"{seconds / DAY:.1f} d"


def counted(number: int, words: str) -> str:
    """Return a number with its noun, which is given in the plural: `1 run`, `2 runs`, `2,000 runs`."""
    return f"{number:,} {words.removesuffix('s') if number == 1 else words}"


def flops(count: int) -> str:
    """Return FLOPs in two digits: `1.2e15`; `0` for none."""
    return plain(f"{count:.1e}") if count else "0"


def four_digits(flops: int) -> str:
    """Return FLOPs in four digits: `1.000e17`; `0` for none."""
    return plain(f"{flops:.3e}") if flops else "0"


def percent(ratio: float | None) -> str:
    """Return a ratio as `12.3 %`; empty if it is None."""
    return "" if ratio is None else f"{100 * ratio:.1f} %"


_LEAST_SHARE = 0.0005
"""The share that is the first to be rounded to 0.1 %."""


def percent_of(part: float, whole: float) -> str:
    """Return a part of a whole as `12.3 %`; `< 0.1 %` if it is less than that and not 0."""
    share = part / whole
    return "< 0.1 %" if 0 < share < _LEAST_SHARE else percent(share)


def setting(value: Any) -> str:
    """Return the value of a key of [train] as a table shows it; empty if it is None."""
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


def variable_names(count: int) -> list[str]:
    """Return `prey` and `predator` for two variables, as in the study's file, else numbered names."""
    return ["prey", "predator"] if count == 2 else [f"variable {number + 1}" for number in range(count)]  # noqa: PLR2004
