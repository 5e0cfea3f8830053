"""The tables of study.toml that say how runs are run: resources, driver, notices, budget, evaluation, policy."""

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lvjobs.study.lists import Texts
from lvjobs.study.numbers import Float, Int


class Table(BaseModel):
    """One table of study.toml: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def parse_time_limit(text: str) -> int:
    """Minutes in Slurm's notation: `90`, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`; also `36h`, `90m`.

    Seconds count as a started minute, as Slurm counts them.
    """
    text = text.strip()
    short = re.fullmatch(r"(\d+)\s*([hmd])", text)
    if short:
        return int(short[1]) * {"m": 1, "h": 60, "d": 1440}[short[2]]
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not match:
        raise ValueError(f"{text!r} is not a time limit; write 12:00:00, 1-12:00:00, 36h, 90m or auto")
    days, first, second, third = (int(group) if group else 0 for group in match.groups())
    if match[1]:
        seconds = days * 86400 + first * 3600 + second * 60 + third
    elif match[4]:
        seconds = first * 3600 + second * 60 + third
    elif match[3]:
        seconds = first * 60 + second
    else:
        seconds = first * 60
    if seconds == 0:
        raise ValueError(f"{text!r} is no time at all; write 12:00:00, 1-12:00:00, 36h, 90m or auto")
    return -(-seconds // 60)


AUTO = "auto"
"""The time limit that lvjobs computes from measured step times."""


class Resources(Table):
    """[resources]: what a job asks for. Unset keys are the profile's defaults (`slurm_templates/<profile>.sh.j2`)."""

    partition: str | None = Field(default=None, description="or a list: Slurm takes what lets the job start first")
    account: str | None = Field(default=None, description="who pays")
    qos: str | None = Field(default=None, description="or a list, in order of preference")
    time_limit: str | None = Field(
        default=None, description='of one job, as Slurm writes it, or 36h, 90m; "auto": from measured step times'
    )
    gpus: Int | None = Field(default=None, ge=0, description="of one node; a training uses them all")
    processes: Int | None = Field(default=None, gt=0, description="that train one run together; None: one a GPU")
    cpus: Int | None = Field(default=None, gt=0, description="cores of one job")
    memory_mb: Int | None = Field(default=None, ge=0, description="0: what the site gives by itself")
    signal_lead_seconds: Int | None = Field(
        default=None, gt=0, description="how long before the time limit the worker is told; a tenth of it at most"
    )
    max_queued: Int | None = Field(
        default=None, ge=0, description="jobs you may have in the queue; 0: as the site says"
    )
    exclude_nodes: Texts | None = Field(default=None, description="to keep away from, always")
    modules: Texts | None = Field(default=None, description="what `module load` is to load")
    extra_sbatch: Texts | None = Field(default=None, description='more options of sbatch: ["--mail-type=END"]')
    extra: dict[str, Any] = Field(default_factory=dict, description="variables of a profile of one's own")
    max_parallel: Int | None = Field(default=None, gt=0, description="members of one array that may run at once")
    pack: Int | None = Field(default=None, gt=0, le=200, description="runs that share one job; None: each has its own")
    side_by_side: Int | None = Field(default=None, gt=0, description="of a pack's runs; None: one after another")

    @field_validator("partition", "qos", mode="before")
    @classmethod
    def _choice(cls, value: Any) -> Any:
        """A list is kept as Slurm writes one."""
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

    @model_validator(mode="after")
    def _shares(self) -> "Resources":
        if self.side_by_side is not None and (self.pack or 1) == 1:
            raise ValueError("side_by_side is of runs that share a job: say how many do, with pack")
        return self

    def variables(self) -> dict[str, Any]:
        """The profile's variables that are set here."""
        own = ("max_parallel", "processes", "extra", "pack", "side_by_side")
        values = {k: v for k, v in self.model_dump().items() if v is not None and k not in own}
        values |= self.extra
        if values.get("time_limit", AUTO) != AUTO:
            values["time_limit_minutes"] = parse_time_limit(values.pop("time_limit"))
        return values


class Driver(Table):
    """[driver]: the tiny job that makes passes while nobody is there. Unset keys are the runs' own."""

    job: bool = Field(default=True, description="false: no such job; make passes by lvjobs watch, or scrontab")
    partition: str | None = Field(default=None, description="best is one without GPUs")
    account: str | None = Field(default=None, description="who pays")
    qos: str | None = Field(default=None, description="quality of service")
    memory_mb: Int | None = Field(default=None, ge=0, description="0: what the site gives by itself")
    modules: Texts | None = Field(default=None, description="what `module load` is to load")
    extra_sbatch: Texts | None = Field(default=None, description='more options of sbatch: ["--mail-type=END"]')

    def variables(self) -> dict[str, Any]:
        """The variables of its script that are set here."""
        return {key: value for key, value in self.model_dump(exclude={"job"}).items() if value is not None}


def _has_a_host(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Notify(Table):
    """[notify]: who is told, once, that the study has ended, or that something waits for the user."""

    mail: str | None = Field(default=None, description='an address, or "me": the one that the site has of you')
    webhook: str | None = Field(
        default=None, repr=False, description="an https address that takes JSON, such as a chat's"
    )

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not (re.fullmatch(r"https?://[^/\s]+\S*", value) and _has_a_host(value)):
            raise ValueError("write an address that begins with https://, without blanks")
        return value

    @field_validator("mail")
    @classmethod
    def _is_one_word(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.+@-]+", value):
            raise ValueError('write one address, or "me"')
        return value


class Budget(Table):
    """[budget]: FLOPs for everything, by one convention (docs/flops.md)."""

    limit: Int = Field(default=10**17, gt=0, description="FLOPs; nothing starts that would go beyond")
    convention: Literal["official", "exact", "report"] = Field(default="official", description="by which they count")
    count_inference: bool = Field(default=True, description="whether validation, generation and evaluation count")
    renew: bool = Field(default=True, description="reserve another interval for a run whose replays used up its own")


class Evaluation(Table):
    """[evaluation]: what is asked of each run of a stage once it is trained."""

    series: Int = Field(default=200, ge=0, description="held-out systems that it forecasts; 0: none")


class Policy(Table):
    """[policy]: how often each cause of death is forgiven, and how long a pass waits before it believes in one."""

    killed_retries: Int = Field(default=5, ge=0, description="times in a row that a run goes on after it")
    launch_failed_retries: Int = Field(default=5, ge=0, description="the same of a job that did not start")
    hung_retries: Int = Field(default=5, ge=0, description="the same of one that showed no life")
    lost_retries: Int = Field(default=5, ge=0, description="the same of one that nobody knows")
    out_of_memory_retries: Int = Field(default=2, ge=0, description="the same of one that took too much memory")
    out_of_memory_factor: Float = Field(default=1.5, gt=1, description="times so much memory the next time")
    no_progress_deaths: Int = Field(default=3, gt=0, description="in a row, without a new checkpoint: held")
    no_progress_preemptions_warn: Int = Field(default=3, gt=0, description="of preempted and node_fail: says so")
    no_progress_preemptions: Int = Field(default=10, gt=0, description="of preempted and node_fail: held")
    backoff_seconds: Float = Field(default=30.0, ge=0, description="doubled from the second time on; an hour at most")
    exclude_hours: Float = Field(default=24.0, ge=0, description="that the study avoids a node that failed; 0: none")
    hung_seconds: Float = Field(default=1800.0, gt=0, description="no journal line for longer: hung")
    lost_seconds: Float = Field(default=120.0, ge=0, description="in neither squeue nor sacct for longer: lost")
    unclear_seconds: Float = Field(default=30.0, ge=0, description="a token nobody knows for longer: no job was made")
