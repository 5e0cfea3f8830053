"""The base of the records that are one JSON object in a file of their own."""

import json
from dataclasses import asdict, dataclass
from typing import TypeVar

from lvjobs.files import json_text
from lvjobs.foreign import clean

Record = TypeVar("Record", bound="JsonRecord")


@dataclass(frozen=True)
class JsonRecord:
    """A record whose fields are the keys of a JSON object."""

    def to_json(self) -> str:
        """Return one JSON object as text."""
        return json_text(asdict(self))

    @classmethod
    def from_json(cls: type[Record], text: str) -> Record:  # noqa: PYI019 - Self is not in Python 3.10
        """Return the record that `to_json` wrote. Raises ValueError when the text is not one."""
        try:
            return cls(**clean(json.loads(text)))
        except TypeError as error:
            raise ValueError(f"not of the format of {cls.__name__}: {error}") from None
