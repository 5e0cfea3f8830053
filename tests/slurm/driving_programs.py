"""Studies whose [train] is a program."""

import json
import shutil
from contextlib import contextmanager

import psutil
from driving import TESTS, Study, until

PROGRAMS = TESTS / "programs"
STEPS, EVERY = 200, 20
PROGRESS = r"^step (?P<step>\d+):? (loss|residual) (?P<loss>\S+)"


class ProgramStudy(Study):
    """A study whose [train] is a program; its directory holds that program."""

    def __init__(self, root, command, *, steps=STEPS, every=EVERY, **keys):
        super().__init__(root)
        values = {
            "command": command,
            "progress": PROGRESS,
            "flops": 1e6,
            "steps": steps,
            "checkpoint_every": every,
            **keys,
        }
        before, _, after = (root / "study.toml").read_text().partition("[train]\n")
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        (root / "study.toml").write_text("\n".join([before, "[train]", *lines, after[after.index("[driver]") :]]))
        (root / "toy_task.py").unlink()
        shutil.copy(PROGRAMS / "counter.py", root)

    def result(self, name="run"):
        (path,) = (self.files(name) / "final" / "out").glob("result.*")
        return path.read_bytes()

    @contextmanager
    def waiting(self, step, **which):
        """Yield the claim of the attempt that waits at this gate; open it once the processes of that attempt have ended."""
        claim, processes = self.reach("run", step, **which), self.processes()
        yield claim
        until(lambda: not any(process.is_running() for process in processes))
        self.open_program(step)

    def saved(self, name="run"):
        """The steps of all published checkpoints, in their order."""
        return [line["step"] for line in self.journal(name) if line["kind"] == "checkpoint"]

    def processes(self):
        """All processes that work in a run directory."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd().startswith(str(self.root / "checkpoints")):
                    found.append(process)
            except (psutil.Error, OSError):  # noqa: PERF203 - it ended, or is another user's
                continue
        return found
