"""TensorBoard's event files: a directory per run, a scalar per metric, at the measured steps and times."""

import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.records.curves import Measurement


def write_events(directory: Path, found: Iterable[Measurement]) -> None:
    """Write the measurements into `directory`, which has none yet.

    Raises:
        UsageError: TensorBoard's own package is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about its own imports
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            command = remedies.INSTALL_EXTRA(python=sys.executable, package="lvjobs[tensorboard]")
            raise UsageError(f"writing event files takes the package tensorboard; type: {command}") from None
    writer = EventFileWriter(str(directory))
    for each in found:
        values = [Summary.Value(tag=f"{each.kind}/{name}", simple_value=value) for name, value in each.values.items()]
        writer.add_event(Event(wall_time=each.time, step=each.step, summary=Summary(value=values)))
    writer.close()
