"""The program of the contract's jobs, under the name `lvjobs.worker`, in a code directory: it does as `program.json` says.

    {"sleep": seconds, "exit": code, "signal": number, "first": {...what the first run does instead}}

Each run appends a line to `seen.jsonl`: what it was given, and the signals it got.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import lvjobs

run_directory = Path(sys.argv[1])
got = []


def tell(**more):
    line = {
        "environment": dict(os.environ),
        "package": str(Path(lvjobs.__file__).parent.parent),
        "cwd": str(Path.cwd()),
        "python": sys.executable,
        "signals": got,
        "pid": os.getpid(),
        **more,
    }
    with (run_directory / "seen.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


program = json.loads((run_directory / "program.json").read_text())
if "first" in program and not (run_directory / "seen.jsonl").exists():
    program = program["first"]
for name in ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT"):
    signal.signal(getattr(signal, name), lambda number, _frame: got.append(signal.Signals(number).name))
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})  # whoever blocked it wanted it to come now, not earlier
sys.stdout.write(f"hello from {run_directory.name}\n")
tell(event="start")
end = time.monotonic() + program.get("sleep", 0)
leaving = {"SIGTERM", "SIGUSR1", "SIGUSR2"}
while time.monotonic() < end and (program.get("stubborn") or not leaving & set(got)):
    time.sleep(0.05)
tell(event="end")
if leaving & set(got):
    os._exit(75)
if "signal" in program:
    os.kill(os.getpid(), program["signal"])
sys.exit(program.get("exit", 0))
