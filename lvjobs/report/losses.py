"""What the journals say of a run's losses: one curve, as if nothing had ever died, and where it was taken up again."""

from dataclasses import dataclass

from lvjobs.records.checkpoint import parse_checkpoint_name
from lvjobs.records.journal import Entry, parse_entries
from lvjobs.study.layout import RunLayout

METRICS = ("loss", "loss_numeric")
"""The full softmax's loss and the numeric head's: two objectives, which no figure may put on one axis."""


@dataclass(frozen=True)
class Losses:
    """A run's losses under one metric, in nats a token: step -> loss, in the order of steps.

    `validation` begins at step 0, the untrained model's. `resumed` are the steps after which an attempt took the run up
    again; the steps that were lost with its predecessor are there once, as they were done again.
    """

    run: str
    metric: str
    training: dict[int, float]
    validation: dict[int, float]
    resumed: tuple[int, ...] = ()

    @property
    def best(self) -> int | None:
        """The step of the lowest validation loss, the first of equal ones."""
        return min(self.validation, key=lambda step: (self.validation[step], step), default=None)


def read_losses(files: RunLayout) -> Losses | None:
    """Of the run in this directory; None where its journals hold no loss yet."""
    training: dict[str, dict[int, float]] = {metric: {} for metric in METRICS}
    validation: dict[str, dict[int, float]] = {metric: {} for metric in METRICS}
    resumed = []
    for number, path in enumerate(sorted(files.journals.glob("*.jsonl"))):
        for entry in parse_entries(path.read_bytes())[0]:
            if entry.kind == "start":
                begun = _resumed_step(entry)
                if number:
                    resumed.append(begun)
                for values in (*training.values(), *validation.values()):
                    _forget_after(values, begun)
            elif entry.kind in ("step", "validation"):
                into = training if entry.kind == "step" else validation
                for metric in METRICS:
                    if metric in entry.fields:
                        into[metric][int(entry.fields["step"])] = float(entry.fields[metric])
    for metric in METRICS:
        if training[metric] or validation[metric]:
            trained, validated = dict(sorted(training[metric].items())), dict(sorted(validation[metric].items()))
            return Losses(files.root.name, metric, trained, validated, tuple(resumed))
    return None


def _resumed_step(entry: Entry) -> int:
    name = entry.fields.get("resumed_from")
    found = parse_checkpoint_name(name) if name else None
    return found.step if found else 0


def _forget_after(values: dict[int, float], step: int) -> None:
    """What a dead attempt did after the checkpoint that the next one begins from: it is done again."""
    for lost in [other for other in values if other > step]:
        del values[lost]
