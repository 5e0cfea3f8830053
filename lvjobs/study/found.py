"""The study that a command means if none is named: the one that contains the current directory."""

import os
from contextlib import suppress
from pathlib import Path

from lvjobs.study.layout import StudyLayout

TYPED_STUDY = "LVJOBS_TYPED_STUDY"
"""The variable with the study as it was named to `lvjobs --host`."""


def study_above(directory: Path) -> Path | None:
    """Return the nearest study that contains `directory`; None if there is none.

    A directory of another user is no study: its study.toml could name code that this user would run.
    """
    for place in (directory, *directory.parents):
        layout = StudyLayout(place)
        with suppress(OSError):
            found = [path for path in (layout.config, layout.database) if path.is_file()]
            if found and place.stat().st_uid == os.getuid() == found[0].stat().st_uid:
                return place
    return None


def options_for(root: Path) -> tuple[str, ...]:
    """Return the options that name the study in `root` to a command; empty if the command finds it without them.

    A command that was typed on another machine (`lvjobs --host`) names it as it was named there.
    """
    if typed := os.environ.get(TYPED_STUDY):
        return "--study", typed
    with suppress(OSError):  # the current directory may be gone
        here = Path.cwd()
        if root == here or root == study_above(here):
            return ()
    return "--study", str(root)
