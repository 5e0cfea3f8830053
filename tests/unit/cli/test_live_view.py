"""The live view, driven by Textual's own pilot on the simulated cluster: what each key does, and what it refuses."""

import asyncio

import pytest
from remedy_scenes import PRICED, STAGES, typed_scene
from remedy_tasks import scene_task

from lvjobs.api.study import Study
from lvjobs.cli.live_view import LiveView
from lvjobs.errors import LvjobsError


@pytest.fixture
def scene(tmp_path, monkeypatch, typed):
    """A study with a completed stage, and a run that waits."""
    made = typed_scene(tmp_path, monkeypatch, PRICED + STAGES)
    scene_task(made)
    typed("sweep", "first")
    made.go(600)
    typed("submit", "run", "--name", "waiting", "--set", "width=32")
    return made


def driven(scene, act, *, size=(100, 30)):
    """Open the view, wait until it shows the study, and let `act` press keys."""
    view = LiveView(Study.open(scene.study.root), every=3600)

    async def run():
        async with view.run_test(size=size) as pilot:
            await view.workers.wait_for_complete()
            await pilot.pause()
            await act(view, pilot)

    asyncio.run(run())
    return view


def shown(view, name):
    return str(view.query_one(f"#{name}").render())


def test_stages_and_runs_are_rows_and_the_first_run_is_selected(scene):
    async def act(view, pilot):
        keys = [key.value for key in view._table.rows]
        assert keys[0] == "stage:first"
        assert keys[-2:] == ["stage:run", "waiting"]
        assert view.selected is not None
        assert view.selected.stage == "first"
        await pilot.press("up")
        assert view.selected is None, "a stage is no run"
        for key in ("w", "s", "l", "r", "c"):
            await pilot.press(key)
        assert len(view.screen_stack) == 1

    view = driven(scene, act)
    assert view.return_code in (0, None)


def test_a_run_stays_selected_when_the_view_is_updated(scene):
    async def act(view, pilot):
        await pilot.press("ctrl+end")
        assert view.selected.name == "waiting"
        await pilot.press("u")
        await view.workers.wait_for_complete()
        await pilot.pause()
        assert view.selected.name == "waiting"
        assert "waiting" in shown(view, "run")

    driven(scene, act)


@pytest.mark.parametrize("key", ["w", "s"])
def test_a_run_is_explained_on_a_screen_of_its_own(scene, key):
    async def act(view, pilot):
        await pilot.press("ctrl+end", key)
        await view.workers.wait_for_complete()
        await pilot.pause()
        assert len(view.screen_stack) == 2
        assert "waiting: " in str(view.screen.query_one("#text").render())
        await pilot.press("c")
        assert len(view.screen_stack) == 2, "keys for runs act on the table alone"
        await pilot.press("q")
        assert len(view.screen_stack) == 1

    driven(scene, act)


@pytest.mark.parametrize(("answer", "state"), [("n", "queued"), ("y", "cancelled")])
def test_a_run_is_cancelled_only_after_a_yes(scene, answer, state):
    async def act(view, pilot):
        await pilot.press("ctrl+end", "c")
        await pilot.pause()
        await pilot.press(answer)
        await view.workers.wait_for_complete()
        await pilot.pause()

    driven(scene, act)
    assert scene.state("waiting") == state


def test_a_cancelled_run_is_submitted_again(scene, typed):
    typed("cancel", "waiting")

    async def act(view, pilot):
        await pilot.press("ctrl+end", "r")
        await pilot.pause()
        await pilot.press("y")
        await view.workers.wait_for_complete()

    driven(scene, act)
    assert scene.state("waiting") != "cancelled"


def test_a_failed_update_keeps_what_is_shown_and_says_why(scene, monkeypatch):
    async def act(view, pilot):
        before = shown(view, "head")

        def fails(*_arguments, **_options):
            raise LvjobsError("the disk is gone")

        monkeypatch.setattr(Study, "status", fails)
        await pilot.press("u")
        await view.workers.wait_for_complete()
        await pilot.pause()
        assert shown(view, "head") == before
        assert "the disk is gone" in [note.message for note in view._notifications]

    driven(scene, act)


def test_a_study_without_runs_names_the_first_command(tmp_path, monkeypatch):
    scene = typed_scene(tmp_path, monkeypatch, PRICED)

    async def act(view, pilot):
        assert shown(view, "head") == "No runs yet. Type: lvjobs submit run"
        await pilot.press("w", "c", "r", "l", "s")

    driven(scene, act)
