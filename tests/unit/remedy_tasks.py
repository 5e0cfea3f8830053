"""The toy task, which says what it costs, in a study that commands are typed in: for scenarios of remedies."""

import shutil

import toy_task

GRID = """\
width = 4

[[stage]]
name = "grid"
grid = { width = [4, 8] }
"""


def beside(root):
    """Put the toy task beside a study.toml."""
    shutil.copy(toy_task.__file__, root / "toy_task.py")


def scene_task(scene):
    """Name a task that says what it costs."""
    beside(scene.root)
    path = scene.root / "study.toml"
    path.write_text(path.read_text().replace('toy_task:train"', 'toy_task:priced"').replace('name = "one"\n', ""))
