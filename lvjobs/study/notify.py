"""[notify] of study.toml: who is notified, and by which address."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from lvjobs.study.fields import Mark
from lvjobs.study.tables import SettingsTable


def _has_a_host(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Notify(SettingsTable):
    """The notice that lvjobs sends once when the study has ended, or when a run or stage is held."""

    mail: str | None = Field(
        default=None,
        description='e-mail address, or "me": the address that the site has of you; Slurm only',
        examples=["me"],
    )
    webhook: Annotated[str | None, Mark.SECRET] = Field(
        default=None,
        repr=False,
        description="URL that receives JSON, in the form that Slack, Mattermost and Discord accept",
        examples=["https://chat.example.org/hook"],
    )

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not (re.fullmatch(r"https?://[^/\s]+\S*", value) and _has_a_host(value)):
            raise ValueError("write an address that begins with https://, without blanks")
        return value

    @field_validator("mail")
    @classmethod
    def _is_one_word(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.+@-]+", value):
            raise ValueError('write one address, or "me"')
        return value
