"""The budget's arm inside a job: a run executes no more than was reserved for it, whoever makes passes or not.

Slurm requeues a job by itself, again and again, and each time what was lost since the last checkpoint is executed anew.
Nobody needs to be there for that, so nobody else can say when it is enough.
"""

from lvjobs import remedies
from lvjobs.errors import RunRefused
from lvjobs.records.allowance import parse_allowance
from lvjobs.records.journal import parse_entries
from lvjobs.study.layout import RunLayout


class Purse:
    """What is left of a run's allowance for one generation. Reads what others wrote; writes nothing."""

    def __init__(self, layout: RunLayout, generation: int) -> None:
        """Look once. Raises what `look` does."""
        self._layout = layout
        self._own = layout.journal(generation)
        self._offsets: dict[str, int] = {}
        self._others = 0
        self._allowed: int | None = None
        self.look()

    def look(self) -> None:
        """Read the allowance, which may have been renewed, and what other generations executed since the last look.

        Raises:
            OSError: the file system does not answer now.
            RunRefused: the allowance is none. A run without one (its study set no budget) is not bounded.
        """
        try:
            self._allowed = parse_allowance(self._layout.allowance.read_text(encoding="utf-8")).training
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

    def is_empty(self, executed: int) -> bool:
        """Whether nothing is left once this generation has executed so many steps."""
        return self._allowed is not None and self._others + executed >= self._allowed
