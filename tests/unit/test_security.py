"""Bad actors: nothing is unpickled, no value reaches a shell as code, nobody else reads or plants files, no token leaks."""

import ast
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from control_scenes import Scene, begun, make_haste

import lvjobs
from lvjobs.cluster.local import LocalCluster
from lvjobs.cluster.local_files import jobs_in
from lvjobs.cluster.profiles import load_profile, render
from lvjobs.cluster.protocol import JobRequest
from lvjobs.cluster.templates import DRIVER_PROFILE, available_profiles
from lvjobs.control.loop import open_session
from lvjobs.control.recovery.check import check
from lvjobs.control.stages.submit_runs import enter
from lvjobs.control.submission.declare import RunRequest
from lvjobs.errors import UsageError
from lvjobs.study.config import load_study
from lvjobs.study.run import NAME, RunConfig
from lvjobs.study.tables import Resources

# -- what is read ---------------------------------------------------------------------------------------------------

UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "eval", "exec"}


def misdeeds(source):
    """Yield each thing that a module does and that none here may, with its line."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in UNPICKLERS:
                yield node.lineno, f"imports {name}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called == "torch.load" and words.get("weights_only") != "True":
            yield node.lineno, "torch.load without weights_only=True"
        if words.get("allow_pickle", "False") != "False":
            yield node.lineno, "allow_pickle"
        if words.get("shell", "False") != "False":
            yield node.lineno, "shell=True"
        if called in SHELLS:
            yield node.lineno, called
        if called.endswith("create_subprocess_shell"):
            yield node.lineno, called


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", "imports pickle"),
        ("from joblib import load", "imports joblib"),
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=flag)", "torch.load without weights_only=True"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("subprocess.run(text, shell=True)", "shell=True"),
        ("os.system('ls')", "os.system"),
        ("eval(text)", "eval"),
    ],
)
def test_the_scan_sees_each_misdeed(source, found):
    assert [what for _, what in misdeeds(source)] == [found]


def test_each_except_that_catches_everything_states_its_reason():
    package = Path(lvjobs.__file__).parent
    broad = [
        (path.relative_to(package), line)
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.lstrip().startswith(("except Exception", "except BaseException", "except:"))
    ]
    assert broad
    assert [place for place in broad if not re.search(r":  # (noqa: BLE001 - )?\w", place[1])] == []


def test_nothing_is_unpickled_and_no_shell_is_started_anywhere():
    package = Path(lvjobs.__file__).parent
    sources = [*package.rglob("*.py"), *(package.parent / "benchmarks").rglob("*.py")]
    assert len(sources) > 150
    found = [f"{path}:{line}: {what}" for path in sources for line, what in misdeeds(path.read_text())]
    assert found == []


# -- what reaches a shell -------------------------------------------------------------------------------------------

HOSTILE = [
    "it's",
    'say "x"',
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned #",
    "&& touch pwned",
    "| tee pwned",
    "> pwned",
    "-rf",
    "--wrap=touch pwned",
    "${HOME}",
    "~root",
    "*",
    "a b\u00a0c",
    "{{ 7 * 7 }}{% raw %}",
    "été ☃ \u202e\U0001d518",
    "!!",
    "'; touch pwned; '",
    "#SBATCH --uid=0",
]
BROKEN = ["a\nb", "a\r\ntouch pwned", "\x00", "\x1b[2J", "a\tb"]

STUBS = """
tell() { printf '%s\\0' "$@"; }
srun() { tell srun "$@" "$VALUE" "$PYTHONPATH" "$RUN_DIRECTORY"; }
timeout() { tell timeout "$@"; }
module() { tell module "$@"; }
cd() { tell cd "$@"; }
scontrol() { :; }
sleep() { :; }
exec() { "$@"; }
[() { return 0; }
function . { :; }
"""
"""Everything that a script starts, replaced by what tells its words."""


def ran(text, directory):
    """The words that the script's commands are given when it is run by a real bash, which finds nothing to expand."""
    directory.mkdir(exist_ok=True)
    script = directory / "job.sh"
    script.write_text(STUBS + text)
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, check=False).stderr == b""
    done = subprocess.run(["bash", str(script)], cwd=directory, capture_output=True, check=True)
    assert done.stderr == b""
    assert os.listdir(directory) == ["job.sh"], "something was executed"  # noqa: PTH208
    return done.stdout.decode().split("\0")[:-1]


def request(value, **resources):
    return JobRequest(
        token="0123456789ab",
        name=value,
        run_directories=[Path(f"/runs/{value}")],
        log_directory=Path("/logs") / value,
        code_directory=Path(f"/code/{value}"),
        python=f"/bin/{value}",
        resources=resources,
        environment={"VALUE": value},
    )


@pytest.mark.parametrize("profile", [*available_profiles(), "driver"])
def test_no_value_is_expanded_by_any_profiles_script(profile, tmp_path):
    loaded = load_profile(DRIVER_PROFILE if profile == "driver" else profile)
    for value in HOSTILE:
        resources = {"partition": value, "account": value, "qos": value, "modules": [value], "exclude_nodes": [value]}
        resources |= {"extra_sbatch": [f"--comment={value}"]}
        asked = request(value, **{key: item for key, item in resources.items() if key in loaded.variables})
        words = ran(render(loaded, asked), tmp_path / "empty")
        if profile == "driver":
            assert words[-1] == str(Path(f"/runs/{value}"))
            continue
        run, code = str(Path(f"/runs/{value}")), str(Path(f"/code/{value}"))
        assert words[-7:] == [f"/bin/{value}", "-m", "lvjobs.worker", run, value, code, run]
        assert words[words.index("cd") + 1] == code
        if "load" in words:
            assert words[words.index("load") + 1] == value


def test_no_value_is_expanded_by_the_local_backends_script(tmp_path):
    for value in HOSTILE:
        text = LocalCluster(tmp_path / "local").script(request(value))
        told = text.replace(f"{shlex_quoted(f'/bin/{value}')} -m", "srun -m")
        assert told != text
        words = ran(told, tmp_path / "empty")
        assert words[words.index("lvjobs.worker") + 1 :][:2] == [str(Path(f"/runs/{value}")), value]


def shlex_quoted(value):
    import shlex

    return shlex.quote(value)


@pytest.mark.parametrize("value", BROKEN)
def test_what_no_quotes_can_carry_is_refused_by_name(value):
    for key in ("partition", "account", "qos"):
        with pytest.raises(UsageError, match=f"{key}: .* which a batch script cannot contain"):
            render(load_profile("generic"), request("x", **{key: value}))
    for key in ("modules", "exclude_nodes", "extra_sbatch"):
        with pytest.raises(UsageError, match=f"{key}: .* which a batch script cannot contain"):
            render(load_profile("generic"), request("x", **{key: [value]}))
    with pytest.raises(UsageError, match="which a batch script cannot contain"):
        render(load_profile("generic"), request(value))


@pytest.mark.parametrize("value", [*HOSTILE, *BROKEN])
def test_no_such_thing_is_a_runs_name(value):
    assert not NAME.match(value)


def test_strings_of_study_toml_come_out_as_they_went_in(tmp_path, typed, monkeypatch):
    """From study.toml, in a directory of a hostile name, to what bash makes of the script."""
    from lvjobs.forecasting.data import make_dataset

    root = tmp_path / "a study; $(touch pwned) 'it' `x`"
    root.mkdir()
    make_dataset(root / "data.h5", systems=10, seed=0)
    hostile = "".join(f"{value} " for value in HOSTILE)
    quoted = hostile.replace("\\", "\\\\").replace('"', '\\"')
    (root / "study.toml").write_text(
        f'profile = "generic"\n[resources]\npartition = "{quoted}"\naccount = "{quoted}"\nmodules = ["{quoted}"]\n'
        f'extra_sbatch = ["--comment={quoted}"]\n[train]\ndata = "data.h5"\nsteps = 4\n'
    )
    monkeypatch.chdir(root)
    code, out, err = typed("submit", "train", "--name", "one", "--dry-run")
    assert (code, err) == (0, "")
    words = ran(out, tmp_path / "empty")
    assert words[words.index("load") + 1] == hostile
    assert str(root / "checkpoints" / "one") in words
    assert sorted(path.name for path in root.iterdir() if not path.name.startswith((".", "runs"))) == [
        "data.h5",
        "study.toml",
    ]


# -- who may read and write -----------------------------------------------------------------------------------------

SECRETS = {"HF_TOKEN": "hf_abcdefghijklmnop", "WANDB_API_KEY": "0123456789abcdef0123", "MY_PASSWORD": "correct horse"}


@pytest.fixture
def trained(tmp_path_factory):
    """A study on the local backend, by commands whose umask lets everybody read and write, with tokens about."""
    root = tmp_path_factory.mktemp("secure") / "study"
    before, kept = os.umask(0), dict(os.environ)
    os.environ |= SECRETS
    try:
        command = [sys.executable, "-m", "lvjobs", "init", "--study", str(root)]
        assert subprocess.run(command, check=False).returncode == 0
        (root / "checkpoints").mkdir()  # as an earlier release made it
        study = load_study(root)
        configs = [RunConfig(task="secret_task:train", steps=2, params={"fails": fails}) for fails in (False, True)]
        with open_session(study, wait=5) as session:
            enter(session, RunRequest(configs, ["good", "bad"], "train", "local", Resources()))
        deadline = time.monotonic() + 900
        states = set()
        while states != {"completed", "held"}:
            assert time.monotonic() < deadline, states
            time.sleep(0.5)
            with open_session(study, wait=5) as session:
                states = {row["state"] for row in session.make_pass()["runs"]}
        runs = [member for job in jobs_in(study.layout.local_jobs) for member in job.members()]
        while any(run.is_looked_after() for run in runs):  # a wrapper writes down that its worker ended
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield study
    finally:
        os.umask(before)
        os.environ.clear()
        os.environ.update(kept)


def test_what_is_in_a_study_is_for_its_user_alone_and_has_none_of_the_environments_tokens(trained):
    root = trained.layout.root
    paths = [root, *root.rglob("*")]
    wrong = {str(path.relative_to(root)): oct(path.stat().st_mode) for path in paths if path.stat().st_mode & 0o077}
    assert wrong == {}
    kinds = {path.suffix for path in paths}
    assert {".db", ".jsonl", ".out", ".toml", ".bin", ".log"} <= kinds
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in paths if path.is_dir())
    notes = [each.what for each in check(trained, 5).findings if "open to others" in each.what]
    assert notes == []
    found = [
        (str(path), name)
        for path in trained.layout.root.rglob("*")
        if path.is_file()
        for name, value in SECRETS.items()
        if value.encode() in path.read_bytes()
    ]
    assert found == []
    (log,) = [path for path in trained.layout.logs.rglob("*.out") if "401 for" in path.read_text()]
    assert "https://user:***@hub/model" in log.read_text()
    journal = trained.layout.run("bad").journal(1).read_text()
    assert "https://user:***@hub/model" in journal


def test_init_closes_an_empty_directory_and_leaves_one_that_is_in_use(tmp_path, typed):
    for name in ("empty", "used"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o755)
    (tmp_path / "used" / "notes").write_text("a colleague's")
    for name in ("empty", "used", "new"):
        assert typed("init", "--study", tmp_path / name)[0] == 0
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("empty", "used", "new")}
    assert modes == {"empty": 0o700, "used": 0o755, "new": 0o700}


# -- somebody else's ------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(tmp_path, monkeypatch):
    make_haste(monkeypatch)
    (tmp_path / "study").mkdir()
    return Scene(tmp_path / "study")


def test_a_planted_run_directory_is_refused(scene):
    if os.getuid() != 0:
        pytest.skip("only root can give a directory away")
    scene.files().root.mkdir(parents=True)
    os.chown(scene.files().root, 12345, -1)
    with pytest.raises(UsageError, match=r"belongs to another user.*nothing was submitted"):
        scene.enter("one")
    assert scene.cluster.jobs == []
    assert scene.rows("runs") == []


def test_a_run_directory_that_became_somebody_elses_is_not_believed(scene):
    if os.getuid() != 0:
        pytest.skip("only root can give a directory away")
    begun(scene, "one", "two")
    before = scene.spent("one")
    os.chown(scene.files("one").root, 12345, -1)
    scene.cluster.advance(3)
    with scene.session() as session:
        problems = session.make_pass()["problems"]
    assert [problem for problem in problems if problem.startswith("one: ") and "belongs to another user" in problem]
    assert scene.spent("one") == before
    assert scene.spent("two")["useful"] > 6
