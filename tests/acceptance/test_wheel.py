"""The wheel, installed where nothing of the repository is: it has all that the main job needs."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The directory of programs of an environment that has the wheel, and beside it what lvjobs depends on."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, source]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = place.glob("lvjobs-*.whl")
    venv.create(place / "bare", with_pip=False)
    python = place / "bare" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True, capture_output=True)
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # Its dependencies are those of this environment: .pth files that are there are not read, so lvjobs is not.
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python.parent


def test_the_demo_runs_from_the_wheel(installed, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(program, *arguments):
        done = subprocess.run(
            [installed / program, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    place = Path(run("python", "-c", "import lvjobs; print(lvjobs.__file__)").strip())
    assert place.is_relative_to(installed.parent), "the wheel's, not the repository's"
    run("lvjobs", "init")
    run("lvjobs", "data", "make", "data.h5", "--systems", "60")
    settings = ["--model", "tiny", "--data", "data.h5", "--steps", "10", "--checkpoint-every", "5"]
    run("lvjobs", "submit", "train", "--name", "demo", *settings, "--wait")
    assert "completed" in run("lvjobs", "status")
    assert "lvjobs report" in run("lvjobs", "report", "--help")
