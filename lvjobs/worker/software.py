"""The record of the software that an attempt runs with: a line in its journal, and its list of packages in the study.

The line says what changed since the attempt before, or since the submission, so that no reader needs the lists.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lvjobs
from lvjobs.records.software import KIND, changed_code, changed_packages, drift_of, record_of
from lvjobs.study.layout import RunLayout
from lvjobs.tasks.origin import first_lines, read_origin
from lvjobs.tasks.packages import keep_packages, read_packages
from lvjobs.worker.journal import JournalWriter
from lvjobs.worker.versions import python_path, versions


def record_software(
    layout: RunLayout,
    generation: int,
    journal: JournalWriter,
    packages: Mapping[str, str],
    problem: str = "",
    image: Mapping[str, Any] | None = None,
) -> list[str]:
    """Journal what an attempt runs with, and return in words how that differs from what ran before.

    Args:
        layout: The run's directory.
        generation: The attempt.
        journal: Its journal.
        packages: Versions by name; empty where they are not known.
        problem: Why they, or the image, are not known, in one line.
        image: The image of the program's container, as it is now; empty without one, or where it is not known.
    """
    code = Path(lvjobs.__file__).parents[1]
    origin = read_origin(code)
    record: dict[str, Any] = {key: value for key, value in origin.items() if key != "packages"}
    record.pop("image", None)  # that of the submission
    record |= {"versions": versions(packages), **({"image": dict(image)} if image else {})}
    store = layout.study.packages
    try:
        if packages:
            record["packages"] = keep_packages(store, packages)
    except OSError as error:  # the run is worth more than the list
        problem = f"the list of packages cannot be kept in {store} ({error.strerror})"
    if problem:
        record["problem"] = problem
    since, before = _before(layout, generation, origin)
    if before:
        old = read_packages(store, str(before.get("packages", "")))
        known = (packages, old) if packages and old else ({}, {})
        changes = {
            "changed_packages": changed_packages(known[1], known[0]),
            "changed_code": changed_code(before, record),
        }
        if found := {key: words for key, words in changes.items() if words}:
            record |= {"since": since, **found}
    journal.write(KIND, **record)
    return [*([problem] if problem else []), *drift_of(generation, record)]


def _before(layout: RunLayout, generation: int, origin: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Return the newest earlier attempt with a record, and the record; 0 and the submission's where there is none."""
    for number in range(generation - 1, 0, -1):
        found = record_of(first_lines(layout.journal(number)))
        if found is not None and any(map(found.get, ("packages", "commit", "image"))):
            return number, found
    # PYTHONPATH of the job may add packages that the submission did not see.
    keys = ("image",) if python_path() else ("image", "packages")
    return 0, {key: origin[key] for key in keys if key in origin}
