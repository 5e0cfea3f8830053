"""A new study whose runs are a program: study.toml from a command line, or from an existing batch script."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lvjobs.api.program_questions import Ask, ask_for, check_text
from lvjobs.api.settings import write_new
from lvjobs.cluster.options import check_options
from lvjobs.errors import UsageError
from lvjobs.foreign import secrets_in
from lvjobs.study.config import validated
from lvjobs.study.program.batch_script import read_script
from lvjobs.study.program.command_line import BatchScript
from lvjobs.study.program.guess import Guess, guess_command, literal
from lvjobs.study.program.presets import with_preset
from lvjobs.study.program.source import checkpoint_of, preset_of, progress_of, reports_itself, resume_of, script_of
from lvjobs.study.program.template import Open, toml_text, train_text
from lvjobs.study.settings import settings_model
from lvjobs.study.tables import Resources
from lvjobs.study.template import program_toml

_MOST_BYTES = 1_000_000
"""Bytes of a script that are read."""

_DATA = ("data", "datasets")
"""Directories beside a program that are linked, not copied."""

_FLOPS = {"parameters": 124e6, "tokens": 491520}
_ORDER = (
    "preset",
    "launch",
    "command",
    "directory",
    "link",
    "resume",
    "checkpoint",
    "progress",
    "steps",
    "checkpoint_every",
    "seed",
)


@dataclass(frozen=True)
class ProgramStudy:
    """The content of a new study.toml, and what was guessed.

    Attributes:
        train: The text of [train].
        resources: The keys of [resources].
        said: What was guessed, one line each.
        notes: What was not taken over, one line each.
        missing: The keys that are to be filled in, and why.
    """

    train: str
    resources: Mapping[str, Any] = field(default_factory=dict)
    said: Sequence[str] = ()
    notes: Sequence[str] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


def read_batch_file(path: Path) -> BatchScript:
    """Return what a batch script says; it is only read.

    Raises:
        UsageError: it cannot be read, or has no command that can be the run; one line has the place and the remedy.
    """
    text = _text_of(path)
    if text is None:
        raise UsageError(f"{path} cannot be read as text; name an existing batch script: --from job.sbatch")
    try:
        script = read_script(text)
    except UsageError as error:
        words = str(error).replace("bash SCRIPT", f"bash {path}")
        raise UsageError(f"{path}: {words}") from None
    kept = []
    for option in script.resources.pop("extra_sbatch", ()):
        if why := _refusal(option):
            script.notes.append(f"{option} was left out: {why}")
        else:
            kept.append(option)
    if kept:
        script.resources["extra_sbatch"] = kept
    return script


def _refusal(option: str) -> str:
    """Return why lvjobs does not pass on an option of sbatch; empty if it does."""
    try:
        check_options([option], "the script", tuple(Resources.model_fields))
    except UsageError as error:
        return str(error)
    return ""


def create_program(
    root: Path, profile: str, resources: Mapping[str, Any], plan: Callable[[], ProgramStudy], *, force: bool
) -> tuple[Path, ProgramStudy]:
    """Write a study.toml for the program that `plan` returns; return its path, and the plan.

    `resources` are keys of [resources], beside those of the plan.

    Raises:
        UsageError: see `lvjobs.api.settings.write_new`, and `plan_program`; there is no such profile.
    """
    from lvjobs.cluster.backends import backend_of
    from lvjobs.cluster.profiles import load_profile

    defaults = load_profile(profile).defaults() if backend_of(profile).is_site else {}
    made: list[ProgramStudy] = []

    def text() -> str:
        made.append(plan())
        return program_toml(profile, {**made[0].resources, **resources}, defaults, made[0].train)

    return write_new(root, text, force=force), made[0]


def plan_program(root: Path, script: BatchScript, given: Mapping[str, Any], ask: Ask | None) -> ProgramStudy:
    """Return the study of a program: what it says, what can be guessed, and what is to be filled in.

    Args:
        root: The study's directory.
        script: The program and its surroundings.
        given: Keys of [train] that the user gave.
        ask: Asks for what cannot be guessed; None without a terminal.

    Raises:
        UsageError: The keys of [train] or [resources] cannot be used; nothing was written.
    """
    check_text([*script.command, *script.environment.values(), *map(str, given.values())])
    guess = guess_command(script.command, script.resources.get("gpus"))
    here = Path.cwd() / script.directory
    source = _text_of(here / script_of(script.command)) or ""
    values: dict[str, Any] = {"command": guess.command, **guess.settings, **given}
    if script.launch:
        values.setdefault("launch", script.launch)
        guess.said.append(f'launch = "{script.launch}": srun starts it on {script.tasks.nodes} nodes')
    _place(values, guess, root, here)
    _library(values, guess, script.command, source)
    if environment := _environment(script):
        values["environment"] = environment
    missing = _missing(values, guess, source)
    if ask is not None:
        ask_for(values, missing, ask)
    live = {key: value for key, value in values.items() if key not in missing}
    validated(settings_model(live), live, "the program")
    validated(Resources, script.resources, "the batch script")
    varied = [key for key in guess.settings if f"{{{key}}}" in "".join(guess.command) and key not in _ORDER]
    ordered = {key: values[key] for key in (*_ORDER, *values) if key in values}
    return ProgramStudy(
        train_text(ordered, missing, varied),
        script.resources,
        guess.said,
        script.notes,
        {key: each.why for key, each in missing.items() if each.is_needed},
    )


def _environment(script: BatchScript) -> dict[str, str]:
    """Return the environment variables of the program, without secrets: what a study declares is kept and shown."""
    found = {}
    for name, value in script.environment.items():
        if secrets_in({name: value}):
            script.notes.append(f"{name} was left out: study.toml keeps no secrets; export it before you submit")
        else:
            found[name] = literal(value)
    return found


def _place(values: dict[str, Any], guess: Guess, root: Path, here: Path) -> None:
    """Set the directory that is copied, and what is linked into the copy."""
    base, place = root.resolve(), here.resolve()
    if place != base:
        is_near = base.is_relative_to(place) or place.is_relative_to(base)
        values["directory"] = os.path.relpath(place, base) if is_near else str(here.absolute())
        guess.said.append(f"directory = {toml_text(values['directory'])}: the program starts in a copy of it")
    if "link" not in values and (found := [name for name in _DATA if (here / name).is_dir()]):
        values["link"] = found
        guess.said.append(f"link = {toml_text(found)}: linked into each copy of the program's directory, not copied")


def _library(values: dict[str, Any], guess: Guess, words: Sequence[str], source: str) -> None:
    """Set what the source of the program shows: its library, its checkpoint, and the lines that it prints."""
    found = preset_of(words, source)
    if found and "preset" not in values:
        values["preset"] = found[0]
        guess.said.append(f'preset = "{found[0]}": {found[1]}')
    known = with_preset(values)
    if found and found[0] == "torch-save" and "checkpoint" not in values:  # its path is only an example
        known["checkpoint"] = checkpoint_of(source) and ""
    for key, value in (("checkpoint", checkpoint_of(source)), ("progress", progress_of(source))):
        if value and not known.get(key):
            values[key] = value
            guess.said.append(f"{key} = {toml_text(value)}: as {script_of(words)} writes it")
    if not known.get("resume") and not known.get("resume_command") and (arguments := resume_of(source)):
        values["resume"] = arguments
        guess.said.append(f"resume = {toml_text(arguments)}: an argument of {script_of(words)}")


def _missing(values: Mapping[str, Any], guess: Guess, source: str) -> dict[str, Open]:
    """Return the keys that are to be filled in."""
    known = with_preset(values)
    examples = {"steps": 1000, "checkpoint_every": 250, "out": "out"}
    found = {key: Open(examples[key], why) for key, why in guess.missing.items() if key not in values}
    if not known.get("checkpoint"):
        found["checkpoint"] = Open(
            "{out}/checkpoint-{step}",
            "its checkpoint, a file or a directory in {out}; {step} where the name has the step. Without it, a run "
            "begins again after each interruption",
        )
    if not known.get("resume") and not known.get("resume_command"):
        found["resume"] = Open(
            ["--resume={checkpoint}"],
            "arguments that are added where a checkpoint exists; leave it out if the program finds its checkpoint in "
            "{out} by itself",
            is_needed=False,
        )
    elif "checkpoint" in found and "resume" in values:
        found["resume"] = Open(values["resume"], "remove the # once checkpoint is set", is_needed=False)
    if not known.get("progress") and not known.get("progress_file") and not reports_itself(source):
        found["progress"] = Open(
            r"step (?P<step>\d+): loss (?P<loss>\S+)",
            "regular expression of the lines that it prints, with a group step; or progress_file; or the program "
            "reports its steps itself (docs/programs.md)",
        )
    elif "progress" in values and progress_of(source) == values["progress"]:
        found["first_step"] = Open(0, "set 0 if the program gives its first step the number 0", is_needed=False)
    if "flops" not in values:
        found["flops"] = Open(
            _FLOPS, "FLOPs of one step: a number such as 6e9, or the parameters that train and the tokens of one step"
        )
    return found


def _text_of(path: Path) -> str | None:
    """Return the text of a file; None if there is none, or it is not text."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES)
        return None if b"\0" in data else data.decode("utf-8", "replace")
    except OSError:
        return None  # the caller says what follows from that
