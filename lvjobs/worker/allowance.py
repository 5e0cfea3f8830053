"""The budget's limit inside a job: a run executes no more steps than were reserved for it.

Slurm may requeue a job many times, and each attempt repeats the steps since the last checkpoint. No reconcile pass need
run in between, so the worker itself has to stop when the allowance is used up.
"""

from lvjobs import remedies
from lvjobs.errors import RunRefused
from lvjobs.records.journal import parse_entries
from lvjobs.records.run_files import Allowance
from lvjobs.study.layout import RunLayout


class AllowanceMeter:
    """The rest of a run's allowance for one generation. It reads files of others and writes nothing."""

    def __init__(self, layout: RunLayout, generation: int) -> None:
        """Read the allowance for the first time. Raises the same errors as `refresh`."""
        self._layout = layout
        self._own = layout.journal(generation)
        self._offsets: dict[str, int] = {}
        self._others = 0
        self._allowed: int | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the allowance, which may have been renewed, and the steps that other generations executed since.

        Raises:
            OSError: the file system does not answer now.
            RunRefused: the allowance cannot be parsed. A run without one (its study set no budget) has no limit.
        """
        try:
            self._allowed = Allowance.from_json(self._layout.allowance.read_text(encoding="utf-8")).training
        except FileNotFoundError:
            self._allowed = None
        except ValueError as error:
            raise RunRefused(
                f"{self._layout.allowance}: what this run may spend cannot be read ({error}); see that the disk is "
                f"there, then: {remedies.RESUME_RUN(run=self._layout.root.name)}"
            ) from None
        for path in self._layout.journals.glob("*.jsonl"):
            offset = self._offsets.get(path.name, 0)
            if path == self._own or path.stat().st_size <= offset:
                continue
            with path.open("rb") as stream:
                stream.seek(offset)
                entries, consumed = parse_entries(stream.read())
            self._offsets[path.name] = offset + consumed
            self._others += sum(entry.kind == "step" for entry in entries)

    def is_used_up(self, executed: int) -> bool:
        """Return whether the allowance is used up once this generation has executed `executed` steps."""
        return self._allowed is not None and self._others + executed >= self._allowed
