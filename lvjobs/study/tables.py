"""The tables of study.toml about how runs are run: resources, driver, budget, evaluation, policy."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lvjobs.errors import UsageError
from lvjobs.study.fields import Float, Int, Mark, Mebibytes, Texts
from lvjobs.study.words import FORMER_CONVENTIONS, BudgetConvention


class SettingsTable(BaseModel):
    """A table of study.toml: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), populate_by_name=True)


def parse_time_limit(text: str) -> int:
    """Return the minutes in a time limit.

    Slurm's notation: `90`, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`; also `36h`, `90m`. A started minute
    counts as a whole one, as in Slurm.

    Raises:
        ValueError: the text is no time limit, or is zero.
    """
    text, forms = text.strip(), "12:00:00, 1-12:00:00, 36h, 90m or auto"
    short = re.fullmatch(r"(\d+)\s*([hmd])", text)
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if short:
        seconds = int(short[1]) * {"m": 60, "h": 3600, "d": 86400}[short[2]]
    elif match:
        days, *parts = (int(group) if group else 0 for group in match.groups())
        # Without days, two numbers are minutes and seconds.
        units = (3600, 60, 1) if match[1] or match[4] else (60, 1, 0)
        seconds = days * 86400 + sum(part * unit for part, unit in zip(parts, units, strict=True))
    else:
        raise ValueError(f"{text!r} is not a time limit; write {forms}")
    if seconds == 0:
        raise ValueError(f"{text!r} is no time at all; write {forms}")
    return -(-seconds // 60)


AUTO = "auto"
"""The time limit that lvjobs computes from measured step times."""


def check_time_unit(text: str | None, source: str) -> None:
    """Refuse a time limit without a unit, which Slurm reads as minutes. `source` names it: `--time-limit`.

    Raises:
        UsageError: the text is a number alone.
    """
    if text is not None and text.strip().isdigit() and int(text):
        raise UsageError(f"{source} {text}: the unit is missing; write {text}m for minutes, or {text}h for hours")


class Resources(SettingsTable):
    """The resources of each job. A key that is left out has the profile's default (docs/profiles.md)."""

    partition: Annotated[str | None, Mark.OF_A_SITE] = Field(
        default=None,
        description="Slurm partition, or a list: Slurm takes the one that starts the job first",
        examples=["icelake"],
    )
    account: Annotated[str | None, Mark.OF_A_SITE] = Field(
        default=None, description="Slurm account that is charged", examples=["MYPROJECT-CPU"]
    )
    qos: Annotated[str | None, Mark.OF_A_SITE] = Field(
        default=None, description="quality of service, or a list in order of preference", examples=["normal"]
    )
    time_limit: str | None = Field(
        default=None,
        description='walltime of one job (12:00:00, 36h, 90m), or "auto": from measured step times',
        examples=["12:00:00"],
    )
    nodes: Int | None = Field(
        default=None, gt=0, description="nodes of one job, which train one run together", examples=[1]
    )
    gpus: Int | None = Field(
        default=None, ge=0, description="GPUs of each node of a job; its run trains on all of them", examples=[1]
    )
    processes: Int | None = Field(
        default=None,
        gt=0,
        description="processes of each node that train one run together; default: one per GPU",
        examples=[1],
    )
    cpus: Int | None = Field(default=None, gt=0, description="CPU cores of each node of a job", examples=[1])
    memory_mb: Mebibytes | None = Field(
        default=None,
        ge=0,
        description='memory per node in MB, or "16G"; raised after a job ran out of it; 0: the site\'s default',
        examples=[8000],
    )
    signal_lead_seconds: Int | None = Field(
        default=None,
        gt=0,
        description="seconds before the time limit at which a job is warned; at most a tenth of it",
        examples=[90],
    )
    max_queued: Int | None = Field(
        default=None, ge=0, description="jobs you may have in the queue at once; 0: the site's limit", examples=[0]
    )
    exclude_nodes: Texts | None = Field(
        default=None, description="nodes that no job of the study may use", examples=[["node17"]]
    )
    modules: Texts | None = Field(
        default=None, description="environment modules that each job loads (`module load`)", examples=[["gcc"]]
    )
    activate: str | None = Field(
        default=None,
        description="environment of a program: a shell line, the directory of a virtual environment, or conda:NAME",
        examples=["/rds/venv"],
    )
    extra_sbatch: Texts | None = Field(
        default=None, description="further options of sbatch, one per entry", examples=[["--mail-type=END"]]
    )
    extra: dict[str, Any] = Field(
        default_factory=dict, description="values for variables of a profile of your own (docs/profiles.md)"
    )
    max_parallel: Int | None = Field(
        default=None,
        gt=0,
        description="members of a job array that may run at the same time; default: all",
        examples=[4],
    )
    pack: Int | None = Field(
        default=None,
        gt=0,
        le=200,
        description="runs that share one job and its wait in the queue; default: one job per run",
        examples=[9],
    )
    side_by_side: Int | None = Field(
        default=None,
        gt=0,
        description="runs of a pack that train at the same time; default: one after another",
        examples=[3],
    )

    @field_validator("partition", "qos", mode="before")
    @classmethod
    def _choice(cls, value: Any) -> Any:
        """Return a list as Slurm writes one."""
        if not isinstance(value, list):
            return value
        if not value or not all(isinstance(name, str) and name and "," not in name for name in value):
            raise ValueError('write one name, or a list of names: ["ampere", "ampere-long"]')
        return ",".join(value)

    @field_validator("time_limit", mode="before")
    @classmethod
    def _time_limit(cls, value: Any) -> Any:
        if value is None:
            return None
        if value != AUTO:
            parse_time_limit(str(value))
        return str(value)

    @field_validator("activate")
    @classmethod
    def _is_one_line(cls, value: str | None) -> str | None:
        if value and not value.isprintable():
            raise ValueError("write one line; put a longer one into a file: source setup.sh")
        return value or None

    @model_validator(mode="after")
    def _shares(self) -> "Resources":
        if self.side_by_side is not None and (self.pack or 1) == 1:
            raise ValueError("side_by_side needs runs that share a job: set pack")
        return self

    def variables(self) -> dict[str, Any]:
        """Return the profile's variables that are set here."""
        own = ("max_parallel", "nodes", "processes", "extra", "pack", "side_by_side", "activate")
        values = {k: v for k, v in self.model_dump().items() if v is not None and k not in own}
        values |= self.extra
        if values.get("time_limit", AUTO) != AUTO:
            values["time_limit_minutes"] = parse_time_limit(values.pop("time_limit"))
        return values


class Driver(SettingsTable):
    """The driver, a small job that keeps the study going (docs/driver.md). Keys left out are those of [resources]."""

    job: bool = Field(
        default=True, description="false: submit no driver; run `lvjobs watch` or `lvjobs driver install` instead"
    )
    partition: str | None = Field(
        default=None, description="partition of the driver; best is one without GPUs", examples=["icelake"]
    )
    account: str | None = Field(default=None, description="Slurm account that is charged", examples=["MYPROJECT-CPU"])
    qos: str | None = Field(default=None, description="quality of service", examples=["normal"])
    memory_mb: Int | None = Field(
        default=None, ge=0, description="memory of the driver in MB; 0: the site's default", examples=[500]
    )
    modules: Texts | None = Field(
        default=None, description="environment modules that the driver loads (`module load`)", examples=[["gcc"]]
    )
    extra_sbatch: Texts | None = Field(
        default=None, description="further options of sbatch, one per entry", examples=[["--mail-type=END"]]
    )

    def variables(self) -> dict[str, Any]:
        """Return the variables of the driver's script that are set here."""
        return {key: value for key, value in self.model_dump(exclude={"job"}).items() if value is not None}


class Budget(SettingsTable):
    """The budget of the whole study: FLOPs of one convention (docs/flops.md), GPU-hours, or both."""

    limit: Int = Field(
        default=10**17, gt=0, description="FLOPs for everything; lvjobs starts nothing that could exceed it"
    )
    gpu_hours: Float | None = Field(
        default=None,
        ge=0.001,
        allow_inf_nan=False,
        description="GPU-hours for everything, beside the FLOPs; default: no limit of them",
        examples=[500],
    )
    convention: BudgetConvention = Field(default="official", description="how FLOPs are counted (`lvjobs flops`)")
    count_inference: bool = Field(default=True, description="count validation, generation and evaluation, too")
    renew: bool = Field(
        default=True, description="renew a reservation that was used up, by repeated steps or time; false: hold the run"
    )

    @field_validator("convention", mode="before")
    @classmethod
    def _as_it_is_named_now(cls, value: Any) -> Any:
        return FORMER_CONVENTIONS.get(value, value) if isinstance(value, str) else value


class Evaluation(SettingsTable):
    """The evaluation of each run of a stage once it is trained (docs/evaluate.md)."""

    series: Int = Field(
        default=200, ge=0, description="held-out series that each trained run of a stage forecasts; 0: none"
    )
    origins: list[Int] = Field(
        default_factory=list,
        description="forecast origins (observed steps) from which stages evaluate as well as from history_steps",
    )
    baselines: Texts = Field(
        default_factory=list,
        description="extra baselines of all evaluations: auto-arima, auto-ets, auto-theta, chronos:MODEL",
    )

    @field_validator("origins")
    @classmethod
    def _are_steps(cls, value: list[int]) -> list[int]:
        if wrong := [origin for origin in value if origin < 1]:
            raise ValueError(f"{wrong[0]} is no forecast origin: write numbers of observed steps, such as [40, 60]")
        return list(dict.fromkeys(value))


class Policy(SettingsTable):
    """The retries after each cause of failure, and the time until a failure is believed (docs/resume.md)."""

    killed_retries: Int = Field(default=5, ge=0, description="retries in a row after the worker was killed")
    launch_failed_retries: Int = Field(default=5, ge=0, description="retries in a row after a job failed to start")
    hung_retries: Int = Field(default=5, ge=0, description="retries in a row after a run hung")
    lost_retries: Int = Field(default=5, ge=0, description="retries in a row after Slurm lost a job")
    out_of_memory_retries: Int = Field(default=2, ge=0, description="retries in a row after a job ran out of memory")
    out_of_memory_factor: Float = Field(
        default=1.5, gt=1, description="memory of each such retry, as a multiple of the last"
    )
    no_progress_deaths: Int = Field(
        default=3, gt=0, description="failures in a row without a new checkpoint after which the run is held"
    )
    no_progress_preemptions_warn: Int = Field(
        default=3, gt=0, description="preemptions and node failures in a row without a new checkpoint: warn"
    )
    no_progress_preemptions: Int = Field(
        default=10, gt=0, description="preemptions and node failures in a row without a new checkpoint: hold the run"
    )
    backoff_seconds: Float = Field(
        default=30.0, ge=0, description="wait before the second retry in a row; doubles each time, up to an hour"
    )
    exclude_hours: Float = Field(
        default=24.0, ge=0, description="hours for which the study avoids a node that failed; 0: avoid none"
    )
    hung_seconds: Float = Field(
        default=1800.0, gt=0, description="seconds without a journal line after which a run counts as hung"
    )
    lost_seconds: Float = Field(
        default=120.0, ge=0, description="seconds in neither squeue nor sacct after which a job counts as lost"
    )
    unclear_seconds: Float = Field(
        default=30.0, ge=0, description="seconds without a trace of its job until an unclear sbatch counts as failed"
    )
