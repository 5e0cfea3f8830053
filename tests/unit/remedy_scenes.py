"""A study that commands are typed in, on the simulated cluster: for scenarios of remedies (tests/remedies.py)."""

from control_scenes import Scene, make_haste

from lvjobs.control import loop

TOML = """\
profile = "lab"

[train]
task = "toy_task:train"
steps = 12
checkpoint_every = 4
name = "one"

[driver]
job = false
"""

PRICED = """\
profile = "lab"

[train]
task = "toy_task:priced"
steps = 12
checkpoint_every = 4
width = 4
learning_rate = 0.03

[driver]
job = false
"""
STAGES = """
[[stage]]
name = "first"
grid = { width = [2, 4] }
select = { metric = "training_loss" }

[[stage]]
name = "second"
from = "first"
grid = { learning_rate = [0.1, 0.2] }
select = { metric = "training_loss" }
"""
"""Two stages, the second from the winner of the first, for `PRICED`."""


def typed_scene(tmp_path, monkeypatch, toml=TOML, **options):
    """Return a `Scene` in whose directory one is, and whose cluster and clock the commands that are typed there use."""
    make_haste(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LVJOBS_STUDY", raising=False)
    (tmp_path / "study.toml").write_text(toml, encoding="utf-8")
    scene = Scene(tmp_path, **options)
    defaults = loop.open_session.__wrapped__.__kwdefaults__
    monkeypatch.setitem(defaults, "factory", lambda _study, _profile: scene.shown)
    monkeypatch.setitem(defaults, "clock", scene.clock)
    monkeypatch.setattr("lvjobs.control.backends.defaults_of", lambda _profile: {})
    return scene
