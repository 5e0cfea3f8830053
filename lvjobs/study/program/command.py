r"""A program as a run: the keys of [train] that say how it is started, watched and resumed (docs/programs.md).

[train]
command = ["python", "train.py", "--out={out}", "--steps={steps}", "--lr={learning_rate}"]
resume = ["--resume={checkpoint}"]
checkpoint = "{out}/step-{step}"
progress = '^step (?P<step>\d+): loss (?P<loss>\S+)'
flops = { parameters = 124e6, tokens = 491520 }
learning_rate = 1e-3
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from lvjobs.foreign import secrets_in
from lvjobs.study.fields import Float, Int, Texts
from lvjobs.study.program.container import ContainerConfig
from lvjobs.study.program.placeholders import BUILT_IN, OF_A_CHECKPOINT, fill, names_in
from lvjobs.study.tables import SettingsTable

COMMAND_TASK = "lvjobs.worker.program.execution:run"

_OUTPUT = re.compile(
    r"--?((output|out|save|log|logging|checkpoint|ckpt|default_root)([_-]?(dir|path|folder))?|project)"
)
"""Options that name the place of a program's output."""

_TOKEN = re.compile(r"\b(hf_|ghp_|sk-)[A-Za-z0-9_-]{20,}")
"""A token of Hugging Face, GitHub or OpenAI."""

STEP = "step"
"""The group of a regular expression, and the key of a line, that has the step."""


class StepFlops(SettingsTable):
    """FLOPs of one step: 6 x parameters x tokens, or `training` itself."""

    parameters: Float | None = Field(default=None, gt=0, description="parameters that are trained through")
    tokens: Float | None = Field(default=None, gt=0, description="tokens of one step")
    training: Int | None = Field(default=None, gt=0, description="FLOPs of one step")
    validation: Int = Field(default=0, ge=0, description="FLOPs of one validation")

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "StepFlops":
        by_size = self.parameters is not None and self.tokens is not None
        if by_size is (self.training is not None) or (self.parameters is None) is not (self.tokens is None):
            raise ValueError("write flops = 6e9, or flops = { parameters = 124e6, tokens = 491520 }")
        return self

    @property
    def of_a_step(self) -> int:
        """Return the FLOPs of one step."""
        if self.training is not None:
            return self.training
        return round(6 * (self.parameters or 0) * (self.tokens or 0))


class Snapshot(SettingsTable):
    """Limits of the copy of the program's directory that is made at submission."""

    files: Int = Field(default=2000, gt=0, description="files in the copy, at most")
    total_mb: Float = Field(default=50.0, gt=0, description="MB of the whole copy, at most")
    file_mb: Float = Field(default=10.0, gt=0, description="MB of one file, at most")


class CommandConfig(SettingsTable):
    """A program of any language. A placeholder such as {steps}, {out} or {learning_rate} is filled in."""

    model_config = ConfigDict(extra="allow")

    command: list[str] = Field(min_length=1, description="the program and its arguments; no shell reads them")
    launch: Literal["once", "node", "process", "torchrun"] = Field(
        default="once", description="how it is started: once, once a node, `processes` times a node, or by torchrun"
    )
    resume: Texts = Field(default_factory=list, description="arguments that are added where a checkpoint exists")
    resume_command: Texts = Field(default_factory=list, description="what replaces `command` where one exists")
    checkpoint: str = Field(
        default="", description="its checkpoint, a file or a directory; {step} and * where the name varies"
    )
    from_checkpoint: str = Field(default="", description="checkpoint that exists already, from which the run begins")
    complete: str = Field(default="", description="file of a checkpoint that the program writes last")
    progress: Texts = Field(
        default_factory=list, description="regular expressions of the lines that it prints, with a group `step`"
    )
    validation: Texts = Field(
        default_factory=list, description="the same, for lines of a validation; without `step`: of the last step"
    )
    metrics: Texts = Field(
        default_factory=list, description="regular expressions of metrics without a step; each group is a metric"
    )
    progress_file: str = Field(
        default="", description="file that it appends to: JSON lines, CSV (.csv) or TensorBoard's; * in its name"
    )
    progress_key: str = Field(default=STEP, min_length=1, description="key of the step in progress_file")
    first_step: Int = Field(default=1, ge=0, description="number that the program gives to its first step")
    first_checkpoint: Int = Field(default=1, ge=0, description="number in a checkpoint's name after one step")
    out: str = Field(default="out", min_length=1, description="{out}: directory for what it writes")
    directory: str = Field(default=".", description="directory that is copied at submission; jobs start in the copy")
    link: Texts = Field(default_factory=list, description="paths in it that are linked, not copied")
    environment: dict[str, str] = Field(default_factory=dict, description="environment variables of the program")
    container: ContainerConfig | None = Field(default=None, description="container in which it runs")
    stop: Literal["", "TERM", "INT", "USR1", "USR2"] = Field(
        default="", description="signal at which the program itself saves and ends"
    )
    may_end_early: bool = Field(default=False, description="exit code 0 before the last step also means done")
    retry_exit_codes: list[Int] = Field(default_factory=list, description="exit codes after which the run is retried")
    flops: StepFlops | None = Field(default=None, description="FLOPs of one step")
    snapshot: Snapshot = Field(default=Snapshot(), description="limits of that copy")

    @field_validator("flops", mode="before")
    @classmethod
    def _flops_of_a_step(cls, value: Any) -> Any:
        return {"training": value} if isinstance(value, (int, float, str)) and not isinstance(value, bool) else value

    @field_validator("progress", "validation", "metrics")
    @classmethod
    def _names_its_groups(cls, expressions: list[str], info: ValidationInfo) -> list[str]:
        for text in expressions:
            try:
                groups = re.compile(_with_numbers(text)).groupindex
            except re.error as error:
                raise ValueError(f"{text!r} is not a regular expression ({error}); correct it") from None
            if info.field_name == "progress" and STEP not in groups:
                raise ValueError(f"{text!r} has no step; name the group of its number: (?P<step>\\d+)")
            if not groups:
                raise ValueError(f"{text!r} names no metric; name a group: (?P<loss>\\S+)")
        return expressions

    @field_validator("environment")
    @classmethod
    def _keeps_no_secret(cls, variables: dict[str, str]) -> dict[str, str]:
        for name, value in variables.items():
            is_named_so = secrets_in({name: value}) and "TOKENIZ" not in name.upper()
            if is_named_so and not value.isdecimal() and not names_in([value]):
                raise ValueError(
                    f"the variable {name} looks like a secret, and reports show study.toml; export it before you submit"
                )
        return variables

    @field_validator("out", "complete")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"{path!r} leaves the run's working directory; write a relative path")
        return path

    @field_validator("checkpoint", "progress_file")
    @classmethod
    def _is_in_out(cls, path: str) -> str:
        if path and (not path.startswith("{out}/") or ".." in PurePosixPath(path).parts):
            raise ValueError(f"{path!r} is outside of {{out}}; begin it with {{out}}/, and let the program write there")
        return path

    @model_validator(mode="after")
    def _torchrun_gets_a_script(self) -> "CommandConfig":
        first = PurePosixPath(self.command[0]).name
        if self.launch == "torchrun" and re.fullmatch(r"torchrun|python[\d.]*|accelerate|srun|mpirun", first):
            raise ValueError(
                f'launch = "torchrun" writes torchrun before command, and {first} is no script; begin command with '
                "the script, or with -m and a module"
            )
        return self

    @model_validator(mode="after")
    def _placeholders_are_known(self) -> "CommandConfig":
        own = self.own
        used = {key: names_in(texts) for key, texts in self._texts().items()}
        for key, names in used.items():
            for name in names:
                if name not in BUILT_IN | own.keys():
                    known = ", ".join(sorted([*BUILT_IN, *own]))
                    raise ValueError(f"{key} has the unknown placeholder {{{name}}}; known: {known}")
                if name in OF_A_CHECKPOINT and key in ("command", "environment"):
                    raise ValueError(f"{key} has {{{name}}}, which a first attempt does not have; move it to resume")
                if isinstance(own.get(name), Mapping):
                    words = f"{name} is a table, which cannot be an argument; make a key of each value"
                    raise ValueError(words)  # noqa: TRY004 - pydantic's
        if unused := sorted(own.keys() - self.used):
            raise ValueError(
                f"nothing uses the key {unused[0]!r}, so runs that differ in it would be the same; write "
                f"{{{unused[0]}}} into command"
            )
        if (self.resume or self.resume_command or self.from_checkpoint) and not self.checkpoint:
            raise ValueError('resume needs to know the checkpoint; add checkpoint = "{out}/..."')
        return self

    @field_validator("command", "resume", "resume_command")
    @classmethod
    def _has_no_token(cls, words: list[str]) -> list[str]:
        if any(_TOKEN.search(word) for word in words):
            raise ValueError(
                "a word of it looks like a secret token, and reports show study.toml; export it as a variable before "
                "you submit, and let the program read that"
            )
        return words

    @field_validator("command", "resume", "resume_command")
    @classmethod
    def _writes_no_shared_path(cls, words: list[str]) -> list[str]:
        options = [word.partition("=") if "=" in word else (word, "=", after) for word, after in pairwise([*words, ""])]
        for option, _, value in [*options, *([words[-1].partition("=")] if words else [])]:
            if _OUTPUT.fullmatch(option) and value.startswith("/") and not {"run", "work"} & set(names_in([value])):
                raise ValueError(
                    f"{option} {value} is one place for all runs and all attempts, and nothing there can be fenced; "
                    "write {out} instead"
                )
        return words

    @property
    def own(self) -> dict[str, Any]:
        """Return the user's own keys and their values."""
        mine = CommandConfig.model_fields
        fields = {key: getattr(self, key) for key in type(self).model_fields if key not in mine}
        return {**{key: value for key, value in fields.items() if key not in _NOT_OWN}, **(self.model_extra or {})}

    @property
    def used(self) -> set[str]:
        """Return the names of the placeholders that are used anywhere."""
        return {name for texts in self._texts().values() for name in names_in(texts)}

    def _texts(self) -> dict[str, list[str]]:
        """Return the texts that have placeholders, by their keys."""
        return {
            "command": self.command,
            "resume": self.resume,
            "resume_command": self.resume_command,
            "environment": list(self.environment.values()),
            "checkpoint": [self.checkpoint],
            "progress": [*self.progress, *self.validation, *self.metrics],
        }


def _with_numbers(expression: str) -> str:
    """Return a regular expression as it may look once its placeholders are filled in."""
    return fill(expression, dict.fromkeys(names_in([expression]), "0"))


_NOT_OWN = frozenset({
    *("task", "preset", "seed", "steps", "checkpoint_every", "validate_every", "threads", "keep_last", "keep_best"),
})  # fmt: skip
"""The keys of every run (`lvjobs.study.settings.RunSettings`), which a program may leave unused."""
