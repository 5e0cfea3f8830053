"""The checks of JSON and of JSON lines."""

import json
import re
from typing import BinaryIO

from lvjobs.worker.program.formats.reading import ALL_OF_IT, is_zero, read_at

_TAIL = 1 << 16
"""The number of bytes at the end of a long file that are read."""

_BLANKS = re.compile(r"[ \t\r\n]*")


def json_flaw(stream: BinaryIO, size: int) -> str:
    """Return "" where a file holds one whole JSON value, or several in a row, else the flaw."""
    if size > ALL_OF_IT:
        return _flaw_of_end(read_at(stream, size - _TAIL, _TAIL))
    data = read_at(stream, 0, size)
    try:
        text, decoder, at = data.decode(json.detect_encoding(data)).strip(), json.JSONDecoder(), 0
        while at < len(text):
            _, end = decoder.raw_decode(text, at)
            blanks = _BLANKS.match(text, end)
            at = blanks.end() if blanks else end
    except RecursionError:
        return _flaw_of_end(data)
    except ValueError:
        return _flaw_of_end(data) or "JSON: it cannot be parsed"
    return "" if text else "JSON: it holds only blanks"


def _flaw_of_end(tail: bytes) -> str:
    """Return "" where a long JSON value may end as `tail` does, else the flaw."""
    if is_zero(tail[-1:]):
        return "JSON: zeros are at its end"
    return "" if tail.rstrip().endswith((b"}", b"]")) else "JSON: it ends within a value"


def lines_flaw(stream: BinaryIO, size: int) -> str:
    """Return "" where the last line of JSON lines is whole or there is none, else the flaw."""
    length = min(size, _TAIL)
    tail = read_at(stream, size - length, length).rstrip()
    line = tail.rpartition(b"\n")[2]
    if length < size and line == tail:
        return _flaw_of_end(tail)
    try:
        if line:
            json.loads(line)
    except (ValueError, RecursionError):
        return _flaw_of_end(line) or "JSON lines: the last line cannot be parsed"
    return ""
