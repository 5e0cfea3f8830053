"""The things that must exist before a run of the bundled tasks is submitted. Checked without torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class UsableModel:
    """A base model that a job can load and use."""

    model: str
    decimals: int
    has_instruction: bool

    def check(self) -> None:
        """Raise UsageError if the model is not on this machine, not complete, or not usable (see `hub.find_model`)."""
        from lvjobs.forecasting.hub import find_model

        find_model(self.model, self.decimals, instruct=self.has_instruction)


@dataclass(frozen=True)
class UsableBaseline:
    """An extra baseline that a job can make."""

    name: str

    def check(self) -> None:
        """Raise UsageError if its package or its model cannot be used (see `baselines.extras.check`)."""
        from lvjobs.forecasting.baselines.extras import check

        check(self.name)
