"""Files that are cut at every place that matters."""

import os

from lvjobs.worker.program.formats import flaw_of


def cuts_of(data):
    """Every length of a small file; the lengths near the ends of a larger one."""
    if len(data) <= 3072:
        return range(len(data))
    return [*range(1024), *range(1024, len(data) - 1024, 997), *range(len(data) - 1024, len(data))]


class Cutter:
    """A file that is cut again and again, so that a test does not write it a thousand times."""

    def __init__(self, path, data):
        self.path, self.data = path, data
        path.write_bytes(data)

    def unreported(self):
        """The lengths at which the cut file counts as whole, the longest first."""
        whole = []
        for length in sorted(cuts_of(self.data), reverse=True):
            os.truncate(self.path, length)
            if not flaw_of(self.path):
                whole.append(length)
        return whole
