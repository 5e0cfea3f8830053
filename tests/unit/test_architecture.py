"""The imports that each package may have; and no command of the control plane loads torch."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Forked

import lvjobs
from lvjobs.cli import _COMMANDS

PACKAGE = Path(lvjobs.__file__).parent
BASE = {"errors", "files", "foreign", "processes", "remedies"}
"""Modules that every package may use."""

ARROWS = {
    "study": set(),
    "records": {"study.words"},
    "ledger": {"study"},
    "flops": {"study"},
    "cluster": set(),
    "tasks": {"study", "flops", "records", "forecasting.tasks"},
    "control": {"tasks", "ledger", "cluster", "sweep", "flops", "study", "records"},
    "sweep": {"study"},
    "worker": {"tasks", "study", "records", "cluster.inside"},
    "forecasting": {"worker", "tasks", "study", "flops"},
    "report": {
        *("tasks", "ledger", "records", "study", "forecasting.results", "forecasting.series_forecast"),
        *("forecasting.baselines", "forecasting.comparison", "forecasting.pooling", "forecasting.extra_files"),
    },
    "lab": set(),
    "doctor": {"study", "tasks", "records", "ledger", "cluster", "control", "flops", "forecasting"},
    "rehearsal": {"study", "records", "cluster", "control", "lab"},
    "api": {
        "tasks",
        "study",
        "records",
        "ledger",
        "cluster",
        "control",
        "sweep",
        "flops",
        "forecasting",
        "report",
        "rehearsal",
        "lab",
    },
    "cli": {
        "api",
        "study",
        "ledger",
        "cluster",
        "control",
        "sweep",
        "flops",
        "records",
        "report",
        "lab",
        "rehearsal",
        "doctor",
        "forecasting",
        "worker",
        "tasks",
    },
}
CONTROL = [
    {"backends"},
    {"budget"},
    {"session"},
    {"submission"},
    {"reconcile"},
    {"stages"},
    {"summary", "summary_file"},
    {"driver"},
    {"recovery"},
    {"planning", "inspect"},
    {"loop"},
]
"""The layers of `control`, lowest first: each imports only from those below it."""

TASK_NAMES = re.compile(r"TRAIN_TASK|EVALUATE_TASK|lvjobs\.forecasting\.(train|evaluate)\b")
"""The names of the bundled tasks."""
SETTINGS = re.compile(r"TrainingConfig|EvaluationConfig|PromptName|SplitName|loss_numeric")
"""The settings of the bundled tasks, and the loss that only one of them has."""
ASK_THE_TASK = ("control", "worker", "ledger", "sweep", "cluster", "flops", "rehearsal", "lab")
"""The packages that know of a task only what `lvjobs.tasks.protocol` says. Others show or check those settings."""

HEAVY = {"torch", "transformers", "peft", "bitsandbytes", "accelerate", "statsforecast", "chronos"}
MAY_LOAD_TORCH = {"worker", "forecasting"}


def imports(path):
    """Absolute names that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms():
    return sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())


def test_every_room_is_on_the_plan():
    assert set(rooms()) == set(ARROWS) | {"remedies"}


@pytest.mark.parametrize("room", sorted(ARROWS))
def test_a_room_knows_only_whom_it_may(room):
    strangers = {
        f"{path.relative_to(PACKAGE)} -> {name}"
        for path in (PACKAGE / room).rglob("*.py")
        for name in imports(path)
        if not is_allowed(name.split("."), room)
    }
    assert strangers == set()


def is_allowed(parts, room):
    if parts[0] != "lvjobs" or len(parts) == 1 or parts[1] in {room, *BASE, "__version__"}:
        return True
    prefixes = {".".join(parts[1:depth]) for depth in range(2, len(parts) + 1)}
    # `from lvjobs.cluster import inside` names the package on the way to the one module that may be known
    on_the_way = any(arrow.startswith(".".join(parts[1:]) + ".") for arrow in ARROWS[room])
    return bool(prefixes & ARROWS[room]) or on_the_way


def parts_of_control():
    return sorted(
        path.stem for path in (PACKAGE / "control").iterdir() if (path / "__init__.py").exists() or path.suffix == ".py"
    )


def test_every_part_of_control_has_its_layer():
    layered = sorted(part for layer in CONTROL for part in layer)
    assert [part for part in parts_of_control() if part != "__init__"] == layered


@pytest.mark.parametrize("part", sorted(set().union(*CONTROL)))
def test_a_part_of_control_imports_only_from_layers_below(part):
    place = next(number for number, layer in enumerate(CONTROL) if part in layer)
    allowed = {part}.union(*CONTROL[:place])
    control = PACKAGE / "control"
    files = (control / part).rglob("*.py") if (control / part).is_dir() else [control / f"{part}.py"]
    upward = {
        f"{path.relative_to(control)} -> {name}"
        for path in files
        for name in imports(path)
        if name.startswith("lvjobs.control.") and name.split(".")[2] not in allowed
    }
    assert upward == set()


def files_with(words, packages):
    return {
        str(path.relative_to(PACKAGE))
        for package in packages
        for path in (PACKAGE / package).rglob("*.py")
        if words.search(path.read_text())
    }


def test_no_module_asks_which_task_a_run_has():
    assert files_with(TASK_NAMES, set(rooms()) - {"forecasting", "tasks", "study"}) == set()


def test_what_keeps_runs_going_knows_no_settings_of_the_bundled_tasks():
    assert files_with(SETTINGS, ASK_THE_TASK) == set()


PARAGRAPHS = sorted(
    str(path.parent.relative_to(PACKAGE))
    for path in PACKAGE.rglob("__init__.py")
    if path.parent not in (PACKAGE, PACKAGE / "cli")
)
"""Packages whose paragraph names each of their modules. Those of `cli` are called like their commands."""


@pytest.mark.parametrize("package", PARAGRAPHS)
def test_a_package_names_each_of_its_modules(package):
    """Its paragraph is how a stranger finds the place for a change."""
    directory = PACKAGE / package
    paragraph = ast.get_docstring(ast.parse((directory / "__init__.py").read_text())) or ""
    assert [path.stem for path in directory.glob("[!_]*.py") if f"`{path.stem}`" not in paragraph] == []


@pytest.mark.parametrize("room", sorted(set(ARROWS) - MAY_LOAD_TORCH))
def test_torch_is_imported_only_where_jobs_run_or_flops_are_measured(room):
    heavy = {
        f"{path.relative_to(PACKAGE)} -> {name}"
        for path in (PACKAGE / room).rglob("*.py")
        for name in imports(path)
        if name.split(".")[0] in HEAVY and path != PACKAGE / "flops" / "measured.py"
    }
    assert heavy == set()


def test_opening_a_study_loads_no_command_line_and_nothing_heavy(tmp_path):
    code = f"import sys, lvjobs; lvjobs.Study.open({str(tmp_path)!r}, new=True); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = heads(done.stdout.split())
    assert "pydantic" in loaded
    assert loaded & (HEAVY | {"click", "rich", "matplotlib", "numpy", "sqlalchemy"}) == set()


def test_a_command_that_only_reads_loads_neither_the_ledger_nor_the_loop(tmp_path):
    (tmp_path / "study.toml").write_text("")
    (tmp_path / ".lvjobs").mkdir()
    summary = {"study": str(tmp_path), "time": 0.0, "did": [], "problems": [], "runs": [], "stages": [], "budget": {}}
    summary["closed"] = [0, ""]
    (tmp_path / ".lvjobs" / "summary.json").write_text(json.dumps(summary))
    code = "import sys\nfrom lvjobs.cli import cli\ncli(['status', '--no-pass'], standalone_mode=False)"
    code += "\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = done.stderr.split()
    assert "lvjobs.control.summary_file" in loaded
    assert heads(loaded) & (HEAVY | {"sqlalchemy", "optuna", "numpy", "submitit"}) == set()


@pytest.mark.parametrize("name", sorted(path.name for path in (PACKAGE / "api").glob("*.py")))
def test_the_api_does_not_print_and_knows_no_click(name):
    tree = ast.parse((PACKAGE / "api" / name).read_text())
    assert "click" not in {imported.split(".")[0] for imported in imports(PACKAGE / "api" / name)}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"print", "input"}
    assert not [
        node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr")
    ]


PREPARE = [["init"], ["data", "make", "data.h5", "--systems", "4"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *PREPARE,
        ["submit", "train", "--dry-run", "--profile", "generic"],
        ["status"],
        ["budget"],
        ["flops", "--model", "tiny"],
        ["estimate"],
        ["resume"],
        ["sweep", "stage1", "--dry-run", "--profile", "generic"],
        ["lab", "--help"],
        ["model", "check", "tiny"],
        pytest.param(["doctor"], marks=pytest.mark.torch),
    ],
    ids=" ".join,
)
def test_no_control_plane_command_loads_torch(commands, prepared, tmp_path, arguments):
    """Run in a study where every earlier command of the list was run: `status` has something to show."""
    if arguments in PREPARE:
        loaded = prepared[PREPARE.index(arguments) + 1]
    else:
        shutil.copytree(prepared[0], tmp_path / "study")
        loaded = run(commands, tmp_path / "study", arguments)
    assert heads(loaded) & (HEAVY | {"matplotlib"}) == set()


def test_figures_are_drawn_without_torch_and_without_a_window(commands, prepared, tmp_path):
    shutil.copytree(prepared[0], tmp_path / "study")
    loaded = run(commands, tmp_path / "study", ["figures"])
    assert "matplotlib" in heads(loaded)
    assert heads(loaded) & HEAVY == set()
    assert "matplotlib.pyplot" not in loaded


@pytest.fixture(scope="module")
def commands():
    """Processes in which the modules of all commands are loaded, and so what these load when they are imported."""
    with Forked(*(module for module, _ in _COMMANDS.values())) as commands:
        yield commands


@pytest.fixture(scope="module")
def prepared(commands, tmp_path_factory):
    """A study, and what each of the commands loaded that made it."""
    study = tmp_path_factory.mktemp("prepared")
    return [study, *(run(commands, study, arguments) for arguments in PREPARE)]


def heads(names):
    return {name.split(".")[0] for name in names}


def run(commands, directory, arguments):
    code = (
        "import sys\nfrom lvjobs.cli import cli\n"
        "cli(sys.argv[1:], standalone_mode=False)\n"
        "print('MODULES', *sorted(sys.modules))"
    )
    done = commands.run([sys.executable, "-c", code, *arguments], cwd=directory)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("MODULES")[2].split())
