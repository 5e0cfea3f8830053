"""A Python whose processes have their imports done: each is a fork of one that did them. It stands for `sys.executable`."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from lvjobs.tasks import ask_process

SERVER = Path(__file__).parent / "forked_server.py"


class Forked:
    """`imports` are done once. One process at a time.

    What is to be seen loading, or at its first import, is none of them: the test says so where it matters.
    """

    def __init__(self, *imports):
        for name in imports:  # asked for here, so that `without_torch` skips the test, as it does at an import
            assert importlib.util.find_spec(name.partition(".")[0]), f"{name} is not installed"
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER), *imports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def run(self, command, *, cwd=None, env=None, input="", check=False, **_):  # noqa: A002 - as subprocess has it
        """As `subprocess.run(command, capture_output=True, text=True)`; `command` is [sys.executable, "-c" or "-m", ...]."""
        with tempfile.TemporaryDirectory(prefix="lvforked") as directory:
            streams = [Path(directory, name) for name in ("in", "out", "err")]
            for path, text in zip(streams, (input, "", ""), strict=True):
                path.write_text(text, encoding="utf-8")
            request = {
                "arguments": [str(argument) for argument in command[1:]],
                "directory": str(Path(cwd or ".").resolve()),
                "environment": dict(os.environ if env is None else env),
                "streams": [str(path) for path in streams],
            }
            print(json.dumps(request), file=self.process.stdin, flush=True)
            code = int(self.process.stdout.readline())
            out, err = (path.read_text(encoding="utf-8", errors="replace") for path in streams[1:])
        if check and code:
            raise subprocess.CalledProcessError(code, command, out, err)
        return subprocess.CompletedProcess(command, code, out, err)

    def answers(self, monkeypatch):
        """Have what lvjobs asks a process of its own (tasks/ask_process.py) asked of a fork."""
        forked = SimpleNamespace(run=self.run, TimeoutExpired=subprocess.TimeoutExpired)
        monkeypatch.setattr(ask_process, "subprocess", forked)
