"""The forecast of one series, with the baselines: taken from an evaluation that has it, or prepared as a job."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lvjobs import __version__
from lvjobs.api.evaluate import (
    Subject,
    baselines_of_study,
    check_settings_of_runs,
    done_evaluations,
    find_subjects,
    systems_in,
)
from lvjobs.api.settings import Overrides, settle
from lvjobs.api.submit import PreparedRuns
from lvjobs.control.submission.declare import EVALUATE, RunRequest, default_name
from lvjobs.errors import UsageError
from lvjobs.files import write_atomic, write_json
from lvjobs.forecasting.evaluations import EvaluationRequest, evaluation, same_forecast
from lvjobs.forecasting.splits import training_split
from lvjobs.report.evaluated import Evaluated
from lvjobs.report.extras import read_kept
from lvjobs.report.outputs import claim
from lvjobs.study.config import StudyContext
from lvjobs.study.params import PromptName

_MARKER = "forecast.json"


@dataclass(frozen=True)
class PreparedForecast:
    """One series and the model that forecasts it. `role`: the series's role in training, a key of `_SEEN`, or ""."""

    subject: Subject
    series: int
    runs: PreparedRuns
    role: str

    @property
    def warning(self) -> str:
        """Return a warning if the model has seen the series in training or validation; else an empty string."""
        if not self.role:
            return ""
        what, meaning = _SEEN[self.role]
        return f"series {self.series} is {what} of {self.subject.name}: {meaning}"

    def found(self) -> Evaluated | None:
        """Return an evaluation that forecast this series with the same model in the same way; None if there is none.

        Raises:
            UsageError: There is one, but the adapter has changed since.
        """
        from lvjobs.forecasting.results import sha256_of_adapter

        (config,) = self.runs.wanted.configs
        for each in (part for found in done_evaluations(self.runs.study) for part in found.alone):
            if self.series in each.scores["systems"] and same_forecast(each.run, config):
                if each.scores["adapter_sha256"] != sha256_of_adapter(each.config.adapter):
                    raise UsageError(
                        f"{each.config.adapter} was changed since {each.files.root.name} was made with it; copy the "
                        f"adapter to a new directory and name that"
                    )
                return each
        return None

    def write(self, found: Evaluated, out: Path | None) -> dict[str, Any]:
        """Write the forecast and a plot into `out` (None: forecasts/ in the study); return the files and evidence.

        Raises:
            UsageError: The directory holds something else.
        """
        from lvjobs.forecasting.results import load_series
        from lvjobs.report.figures.draw import save
        from lvjobs.report.figures.forecasts import forecast as forecast_chart

        made = load_series(found.files.final, found.run, self.series, read_kept(found))
        evidence = {
            **made.evidence,
            "name": self.subject.name,
            "evaluation": found.files.root.name,
            "evaluation_fingerprint": found.run.fingerprint,
            **{key: key == self.role for key in _SEEN},
            "lvjobs": __version__,
        }
        directory = out or self.runs.study.root / "forecasts" / f"{self.subject.name}-series-{self.series}"
        keys = ("name", "adapter_sha256", "data_sha256", "prompt", "samples", "temperature", "top_p", "seed")
        claim(directory, _MARKER, {"series": made.series, **{key: evidence[key] for key in keys}})
        write_atomic(directory / "forecast.csv", made.to_csv())
        replace(made, evidence=evidence).write_hdf5(directory / "forecast.h5")
        chart = forecast_chart(
            made,
            label=f"{self.subject.name}{' (median)' if made.quantiles else ''}",
            warning=f"{_SEEN[self.role][0]} of this model" if self.role else "",
        )
        drawn = save(chart, directory, "forecast")
        described = {**evidence, "series": made.series, "errors": made.errors()}
        write_json(directory / _MARKER, described)
        return {"directory": str(directory), "files": ["forecast.csv", "forecast.h5", *drawn, _MARKER], **described}


def prepare_forecast(
    study: StudyContext,
    given: Overrides,
    trial: EvaluationRequest,
    series: int,
    run: str | None = None,
    zero_shot: PromptName | None = None,
    adapter: Path | None = None,
) -> PreparedForecast:
    """Prepare the forecast of one series by a run, the base model with a prompt, or an adapter: exactly one of these.

    Raises:
        UsageError: None or several models are given; the run, the adapter or the series does not exist; or settings of
            a training are given with a run.
    """
    settings, resources, profile = settle(study, given)
    runs = [run] if run else []
    (subject,) = find_subjects(study, runs, zero_shot, adapter, settings)
    check_settings_of_runs(given, runs)
    role = _role(subject, series)
    trial = replace(trial, baselines=baselines_of_study(study))
    config = evaluation(subject.training, trial, [series], subject.adapter, subject.prompt)
    name = default_name(config, f"{subject.name}-series-{series}")
    wanted = RunRequest([config], [name], EVALUATE, profile, resources, after=[subject.after])
    return PreparedForecast(subject, series, PreparedRuns(study, wanted, default_name, given=given), role)


_SEEN = {  # by the key that the evidence has
    "trained_on": ("TRAINING DATA", "its error is no evidence for other series"),
    "validated_on": ("VALIDATION DATA", "its checkpoints may have been chosen by how well they forecast it"),
}


def _role(subject: Subject, series: int) -> str:
    """Return the series's role in the model's training: a key of `_SEEN`, or "" if it had none.

    Raises:
        UsageError: the data file has no such series.
    """
    total = systems_in(subject.training)
    if series >= total:
        raise UsageError(
            f"--series {series}: {subject.training.data} holds series 0 to {total - 1}; choose one of them"
        )
    if not subject.adapter:
        return ""
    split = training_split(total, subject.training)
    if series in split.train:
        return "trained_on"
    return "validated_on" if series in split.validating[: subject.training.validation_limit] else ""
