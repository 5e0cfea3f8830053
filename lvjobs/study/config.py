"""study.toml: what the user declares once. Every key has a default, an unknown key is an error that names it."""

import difflib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from lvjobs.errors import UsageError
from lvjobs.study.layout import StudyLayout
from lvjobs.study.numbers import Float, Int
from lvjobs.study.presets import PUBLISHED
from lvjobs.study.settings import OwnSettings, RunSettings, TrainSettings, find_beside, settings_model
from lvjobs.study.space import check_keys
from lvjobs.study.stages import Stage, in_order

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Model = TypeVar("_Model", bound=BaseModel)


class _Table(BaseModel):
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


class Resources(_Table):
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
    exclude_nodes: list[str] | None = Field(default=None, description="to keep away from; those that fail are added")
    modules: list[str] | None = Field(default=None, description="what `module load` is to load")
    extra_sbatch: list[str] | None = Field(default=None, description='more options of sbatch: ["--mail-type=END"]')
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


class Driver(_Table):
    """[driver]: the tiny job that makes passes while nobody is there. Unset keys are the runs' own."""

    job: bool = Field(default=True, description="false: no such job; make passes by lvjobs watch, or scrontab")
    partition: str | None = Field(default=None, description="best is one without GPUs")
    account: str | None = Field(default=None, description="who pays")
    qos: str | None = Field(default=None, description="quality of service")
    memory_mb: Int | None = Field(default=None, ge=0, description="0: what the site gives by itself")
    modules: list[str] | None = Field(default=None, description="what `module load` is to load")
    extra_sbatch: list[str] | None = Field(default=None, description='more options of sbatch: ["--mail-type=END"]')

    def variables(self) -> dict[str, Any]:
        """The variables of its script that are set here."""
        return {key: value for key, value in self.model_dump(exclude={"job"}).items() if value is not None}


class Notify(_Table):
    """[notify]: who is told, once, that the study has ended, or that something waits for the user."""

    mail: str | None = Field(default=None, description='an address, or "me": the one that the site has of you')
    webhook: str | None = Field(default=None, description="an https address that takes JSON, such as a chat's")

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/\s]+", value):
            raise ValueError("write an address that begins with https://")
        return value

    @field_validator("mail")
    @classmethod
    def _is_one_word(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.+@-]+", value):
            raise ValueError('write one address, or "me"')
        return value


class Budget(_Table):
    """[budget]: FLOPs for everything, by one convention (docs/flops.md)."""

    limit: Int = Field(default=10**17, gt=0, description="FLOPs; nothing starts that would go beyond")
    convention: Literal["official", "exact", "report"] = Field(default="official", description="by which they count")
    count_inference: bool = Field(default=True, description="whether validation, generation and evaluation count")
    renew: bool = Field(default=True, description="reserve another interval for a run whose replays used up its own")


class Evaluation(_Table):
    """[evaluation]: what is asked of each run of a stage once it is trained."""

    series: Int = Field(default=200, ge=0, description="held-out systems that it forecasts; 0: none")


class Policy(_Table):
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
    hung_seconds: Float = Field(default=1800.0, gt=0, description="no journal line for longer: hung")
    lost_seconds: Float = Field(default=120.0, ge=0, description="in neither squeue nor sacct for longer: lost")
    unclear_seconds: Float = Field(default=30.0, ge=0, description="a token nobody knows for longer: no job was made")


class StudyConfig(_Table):
    """The whole of study.toml."""

    profile: str = Field(default="local", description="how the cluster is used (docs/profiles.md)")
    local_slots: Int = Field(default=1, gt=0, description="jobs at once on the local backend")
    resources: Resources = Resources()
    driver: Driver = Driver()
    notify: Notify = Notify()
    train: RunSettings = Field(default_factory=TrainSettings)
    budget: Budget = Budget()
    evaluation: Evaluation = Evaluation()
    policy: Policy = Policy()
    stage: list[Stage] = Field(default_factory=lambda: list(PUBLISHED))

    @field_validator("stage")
    @classmethod
    def _names_are_unique(cls, stages: list[Stage], info: ValidationInfo) -> list[Stage]:
        names = [stage.name for stage in stages]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two stages are called {twice}; give each a name of its own")
        train = type(info.data.get("train", TrainSettings()))
        for stage in stages:
            _check_keys(stage, train)
        return in_order(stages)

    def stage_named(self, name: str) -> Stage:
        """The stage called `name`."""
        for stage in self.stage:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stage) or "none"
        raise UsageError(f"no stage {name!r} in study.toml (declared: {known}); add a [[stage]] with that name")


def _check_keys(stage: Stage, train: type[RunSettings]) -> None:
    """Refuse a stage that names keys which [train] does not have, or asks what its runs cannot be asked."""
    if stage.evaluates and issubclass(train, OwnSettings):
        raise ValueError(
            f"stage {stage.name} evaluates forecasts, and runs of a task of your own make none: leave it out"
        )
    for does, keys in (("takes over", stage.take or ()), ("searches", stage.space)):
        if unknown := next((key for key in keys if key not in train.model_fields), None):
            near = difflib.get_close_matches(unknown, train.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; leave it out"
            raise ValueError(f"stage {stage.name} {does} {unknown!r}, which [train] does not know{hint}")
    check_keys(stage.space, stage.name, train)


def study_model(values: Mapping[str, Any]) -> type[StudyConfig]:
    """The model of a study.toml with these values: what [train] may have depends on its task."""
    given = values.get("train")
    train = settings_model(given if isinstance(given, Mapping) else {})
    fields: dict[str, Any] = {"train": (train, Field(default_factory=train))}
    if issubclass(train, OwnSettings):  # of whom the published stages would make no sense
        fields["stage"] = (list[Stage], Field(default_factory=list))
    return create_model("StudyConfig", __base__=StudyConfig, **fields)


class Study(BaseModel):
    """A study directory and what its study.toml says (an absent file means every default)."""

    model_config = ConfigDict(frozen=True)

    root: Path
    config: StudyConfig

    @property
    def layout(self) -> StudyLayout:
        """Where the study keeps its files."""
        return StudyLayout(self.root)


def load_study(root: Path) -> Study:
    """Read `root`/study.toml.

    Raises:
        UsageError: not a directory, not TOML, or a key or value that study.toml does not know; names the key.
    """
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise UsageError(f"{root} is not a directory; make it, or name another with --study")
    path = root / "study.toml"
    values = read_toml(path) if path.exists() else {}
    config = validated(study_model(values), values, str(path))
    if isinstance(config.train, OwnSettings):
        find_beside(root)
    return Study(root=root, config=config)


def read_toml(path: Path) -> dict[str, Any]:
    """What the file says.

    Raises:
        UsageError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML ({error}); mend it there") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); see that it may be") from None


def validated(model: type[_Model], values: Mapping[str, Any], source: str) -> _Model:
    """`model` from `values`, or a UsageError of one line that names `source`, the key, and the nearest known key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{source}: unknown key {key!r}{_suggestion(model, first['loc'])}") from None
        message = first["msg"].removeprefix("Value error, ")
        given = "" if isinstance(first["input"], (list, dict)) else f" = {first['input']!r}"
        place = f"{source}: {key}{given}" if key else source
        # what pydantic says by itself tells what is wrong with the value, and not what to do
        remedy = "; add it" if first["type"] == "missing" else "; give another value"
        if first["type"] == "value_error":
            remedy = ""
        raise UsageError(f"{place}: {message[0].lower()}{message[1:]}{remedy}") from None


def _suggestion(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """What the user may have meant: the nearest key of the table that `location` leads to."""
    for part in location[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = getattr(annotation, "__args__", (annotation,))[0]
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    known = [field.alias or name for name, field in model.model_fields.items()]
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"
