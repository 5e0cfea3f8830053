"""Questions that are answered in a separate process, because the answer needs modules that no command may load."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lvjobs.foreign import cleaned


class Unanswered(Exception):
    """A question whose process failed. The text is the last line that the process wrote to stderr."""


def ask(module: str, question: Any, seconds: float) -> Any:
    """Run `python -m module ANSWER < QUESTION` and return the answer; both are JSON, ANSWER is the name of a file.

    The process runs in an empty directory and can import every module that can be imported here. `seconds` is its time
    limit.

    Raises:
        Unanswered: the process failed, or wrote no answer.
        subprocess.TimeoutExpired: the process took longer than `seconds`.
    """
    with tempfile.TemporaryDirectory(prefix="lvjobs-ask-") as directory:
        answer = Path(directory) / "answer.json"
        places = [path or str(Path.cwd()) for path in sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHON_COLORS": "0"}
        done = subprocess.run(
            [sys.executable, "-m", module, str(answer)],
            input=json.dumps(question),
            env=environment,
            cwd=directory,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
        if done.returncode != 0 or not answer.exists():
            raise Unanswered(next(reversed(cleaned(done.stderr).strip().splitlines()), f"exit code {done.returncode}"))
        return json.loads(answer.read_text(encoding="utf-8"))
