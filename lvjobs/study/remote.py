"""[remote] of study.toml: the login node on which commands that are typed on a laptop run."""

from pydantic import Field

from lvjobs.study.tables import SettingsTable


class Remote(SettingsTable):
    """A study on a cluster, to which this directory on another machine belongs (docs/remote.md)."""

    host: str | None = Field(
        default=None,
        min_length=1,
        description="login node, as ssh knows it; commands here then run there",
        examples=["me@login.example.org"],
    )
    study: str | None = Field(
        default=None,
        min_length=1,
        description="the study's directory there",
        examples=["~/study"],
    )
    executable: str = Field(default="lvjobs", min_length=1, description="lvjobs there: a name on PATH, or a path")
