"""A program of any language as a task (docs/programs.md).

lvjobs does not link it: `lvjobs.worker.program` starts it, reads its progress and takes its checkpoints. What a step
costs is declared, because nothing can count it.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.flops.conventions import BINDING
from lvjobs.study.layout import StudyLayout
from lvjobs.study.program.command import CommandConfig
from lvjobs.study.run import NAME, RunConfig, read_params
from lvjobs.tasks.activation import check_activation, read_activation
from lvjobs.tasks.code_copies import ProgramFiles
from lvjobs.tasks.copy_limits import Limits
from lvjobs.tasks.image import ImageNeed
from lvjobs.tasks.protocol import Need, Params, Rates, Task, several

_MB = 10**6
_RUNNERS = frozenset({"env", "nice", "stdbuf", "python", "python3", "torchrun", "accelerate", "launch", "srun"})
"""Words of a command that say how a program is started, and not which one it is."""


@dataclass(frozen=True)
class ProgramNeed(Need):
    """The need for a program: `name` is a path in `directory`, or a command on PATH.

    `searched` are directories before those of PATH. None: only a job knows them, so a command is not looked for.
    """

    name: str
    directory: Path
    searched: tuple[Path, ...] | None = ()

    @property
    def is_beside(self) -> bool:
        """Return whether the program is in the directory, and so not in an image."""
        return os.sep in self.name and not Path(self.name).is_absolute()

    def check(self) -> None:
        """Raise UsageError where there is no such program, or it cannot be executed."""
        if os.sep not in self.name:
            if self.searched is None:
                return
            path = os.pathsep.join([*map(str, self.searched), os.environ.get("PATH", os.defpath)])
            if shutil.which(self.name, path=path) is None:
                raise UsageError(
                    f"command: {self.name} is not on PATH; nothing was submitted: load or activate what it is in, or "
                    "write its path"
                )
            return
        program = self.directory / self.name
        if not program.is_file():
            raise UsageError(
                f"command: {program} does not exist; nothing was submitted: correct the path under [train]"
            )
        if not os.access(program, os.X_OK):
            raise UsageError(
                f"command: {program} is not executable; nothing was submitted: make it so, or begin the command with "
                "its interpreter"
            )


@dataclass(frozen=True)
class ScriptNeed(Need):
    """The need for a script that torchrun starts."""

    path: Path

    def check(self) -> None:
        """Raise UsageError where there is none."""
        if not self.path.is_file():
            raise UsageError(
                f"command: torchrun finds no script {self.path}; nothing was submitted: begin command with the "
                "script's path, or with -m and a module"
            )


@dataclass(frozen=True)
class CheckpointNeed(Need):
    """The need for a checkpoint from which a run begins."""

    path: Path

    def check(self) -> None:
        """Raise UsageError where there is none."""
        if not self.path.exists():
            raise UsageError(f"from_checkpoint: {self.path} does not exist; nothing was submitted: correct the path")


@dataclass(frozen=True)
class EnvironmentNeed(Need):
    """The need for the environment that `activate` of [resources] names, in the study in `root`."""

    activate: str
    root: Path

    def check(self) -> None:
        """Raise UsageError where there is none."""
        check_activation(self.activate, self.root)


class CommandTask(Task):
    """A program that lvjobs starts and watches."""

    is_program = True

    def default_name(self, config: RunConfig, prefix: str = "", varied: Iterable[str] = ()) -> str:
        """Return a name that begins with that of the program, such as `train-lr0.001-s0-3fa9`."""
        return super().default_name(config, prefix or _program_name(config.params["command"]), varied)

    def rates(self, config: RunConfig) -> Rates:
        """Return the FLOPs that [train] declares, the same by every convention; empty where it declares none."""
        flops = read_params(CommandConfig, config.params).flops
        if flops is None:
            return {}
        by_kind = {"training": flops.of_a_step, "validation": flops.validation, "generation": 0}
        return {name: dict(by_kind) for name in BINDING}

    def check_continuation(self, parent: Params, params: Params) -> None:
        """Refuse a command that is not told how many steps to train: it would end where it ended before."""
        if "steps" not in read_params(CommandConfig, params).used:
            raise UsageError(
                "the command has no {steps}, so its program would not notice that there are more; write {steps} into "
                "command, and train from the beginning"
            )

    def launch(self, params: Params, gpus: int, processes: int | None, nodes: int = 1) -> dict[str, Any]:
        """Return the nodes, and the processes of each node that lvjobs or torchrun starts: by default one a GPU.

        Raises:
            UsageError: `launch` of [train] does not fit them.
        """
        launch = params.get("launch", "once")
        if nodes > 1 and launch == "once":
            raise UsageError(
                f'nodes = {nodes}, and launch = "once" starts the program on the first node alone; set launch under '
                '[train] to "torchrun", "process" or "node"'
            )
        found = several("nodes", nodes)
        if launch in ("process", "torchrun"):
            return {**found, **several("processes", processes or max(1, gpus))}
        if processes and processes > 1:
            raise UsageError(
                f'processes = {processes}, and launch = "{launch}" leaves processes to the program; set launch under '
                '[train] to "process" or "torchrun", or leave processes out of [resources]'
            )
        return found

    def needs(self, params: Params, root: Path, activate: str = "") -> Sequence[Need]:
        """Return the environment, the programs that the command and `resume_command` begin with, and a checkpoint."""
        config = read_params(CommandConfig, params)
        commands = [config.command, *([config.resume_command] if config.resume_command else [])]
        directory = read_activation(activate, root).directory if activate else None
        searched = (directory / "bin",) if directory else None if activate else ()
        scripts: list[Need] = []
        if config.launch == "torchrun":
            names = [command[0] for command in commands if not command[0].startswith("-")]
            scripts = [ScriptNeed(root / config.directory / name) for name in names]
            commands = [["torchrun"]]
        programs = [ProgramNeed(command[0], root / config.directory, searched) for command in commands]
        needs: list[Need] = [EnvironmentNeed(activate, root)] if activate else []
        needs += [need for need in programs if config.container is None or need.is_beside]
        needs += scripts
        if config.container is not None:
            links = [root / config.directory / name for name in config.link]
            paths = (StudyLayout(root).checkpoints, StudyLayout(root).code, *links)
            needs.append(ImageNeed(config.container, root, paths, tuple(config.environment.items())))
        return [*needs, *([CheckpointNeed(root / config.from_checkpoint)] if config.from_checkpoint else [])]

    def placed(self, params: Params, root: Path) -> Params:
        """Return the settings with absolute paths of the directory, the image, and the checkpoint to begin from."""
        config = read_params(CommandConfig, params)
        found = {"directory": config.directory, "from_checkpoint": config.from_checkpoint}
        moved: dict[str, Any] = {key: str((root / path).absolute()) for key, path in found.items() if path}
        if config.container is not None and (image := config.container.path(root)) is not None:
            moved["container"] = {**params["container"], "image": str(image)}
        return {**params, **moved}

    def program_files(self, params: Params, root: Path) -> ProgramFiles | None:
        """Return the program's directory, the paths that are linked, and the limits of the copy."""
        config = read_params(CommandConfig, params)
        limits = config.snapshot
        return ProgramFiles(
            root / config.directory,
            tuple(config.link),
            Limits(limits.files, int(limits.total_mb * _MB), int(limits.file_mb * _MB)),
        )


def _program_name(command: Sequence[str]) -> str:
    """Return the name of the program that a command runs: its script, or the first word that is no launcher."""
    words = [Path(word).name for word in command if not word.startswith("-")]
    scripts = [word for word in words if Path(word).suffix in (".py", ".sh", ".jl", ".R", ".lua")]
    others = [word for word in words if word not in _RUNNERS]
    chosen = Path(next(iter([*scripts, *others]), words[0])).stem
    return chosen if NAME.match(chosen) else "run"
