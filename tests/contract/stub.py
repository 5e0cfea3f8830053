"""The stub that stands for a worker in the tests of a backend: its program, and the lines that it writes."""

import json
from pathlib import Path

STUB = Path(__file__).parent / "stub_worker.py"


def seen(run_directory):
    """Return the whole lines of a run's seen.jsonl; the last one may be half written, and the file absent."""
    path = run_directory / "seen.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
