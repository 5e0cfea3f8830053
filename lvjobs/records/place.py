"""The place of a study: the directory that it lives in, and its id. Pure.

runs.db holds it (`lvjobs.control.recovery.place`). `.lvjobs/study.json` repeats it for readers that may not open
runs.db: another study that was copied from this one, and `lvjobs ledger rebuild`.
"""

import json
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class StudyLocation:
    """The directory of a study.

    `study` is the study's random id, `path` the absolute resolved path of its root, `device` and `inode` those of the
    root directory. `former` are the other paths that the root had, oldest first.
    """

    study: str
    path: str
    device: int
    inode: int
    former: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return one JSON object; the same text for the same place."""
        return json.dumps(asdict(self), sort_keys=True) + "\n"


def parse_place(text: str) -> StudyLocation:
    """Return the place that `StudyLocation.to_json` wrote. Keys of a newer release are ignored.

    Raises:
        ValueError: the text is no place.
    """
    try:
        value = json.loads(text)
        known = {item.name: value[item.name] for item in fields(StudyLocation)}
        return StudyLocation(**{**known, "former": tuple(known["former"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the place of a study: {error}") from None
