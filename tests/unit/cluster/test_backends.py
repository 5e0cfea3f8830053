"""The backends: what follows from each is said by its value, so that nothing else asks for one by its name."""

import re
from pathlib import Path

import pytest

import lvjobs
from lvjobs.cluster.backends import BACKENDS, LOCAL, SLURM, backend_of, defaults_of, is_elsewhere
from lvjobs.cluster.templates import available_profiles
from lvjobs.errors import UsageError

PACKAGE = Path(lvjobs.__file__).parent
BY_NAME = re.compile(r"""(==|!=|in) \(?(LOCAL|SLURM|["'](local|slurm)["'])""")
OF_A_JOB = "worker/environment.py"
"""It reads LVJOBS_BACKEND, and the variables of Slurm's jobs."""


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=lambda backend: backend.name)
def test_a_backend_opens_what_its_profiles_describe(backend, tmp_path):
    for profile in filter(
        None, (backend.usual_profile, backend.watcher, backend.driver_profile, backend.notice_profile)
    ):
        assert backend_of(profile) is backend
        assert backend.open(profile, tmp_path / "local", tmp_path / "submissions", 1).backend == backend.name


def test_each_profile_has_a_backend():
    assert {backend_of(profile) for profile in available_profiles()} == {SLURM}
    assert backend_of("local") is LOCAL
    assert backend_of("./mine.sh.j2") is SLURM
    with pytest.raises(UsageError, match="there is no 'nowhere'"):
        backend_of("nowhere").open("nowhere", Path(), Path(), 1)


def test_a_profile_without_a_template_has_no_defaults():
    assert defaults_of("local") == defaults_of("nowhere") == {}
    assert defaults_of("lab")["partition"] == "low"


def test_the_lab_and_local_jobs_run_on_this_machine():
    assert [profile for profile in ("local", "lab", "generic", "csd3-ampere") if is_elsewhere(profile)] == [
        "generic",
        "csd3-ampere",
    ]


def test_nothing_else_compares_a_backend_with_a_name():
    found = {
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "cluster"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if BY_NAME.search(line) and str(path.relative_to(PACKAGE)) != OF_A_JOB
    }
    assert found == set()
