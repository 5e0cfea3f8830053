"""Options of sbatch that lvjobs sets itself are refused, however they are written."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lvjobs.cluster.options import check_options
from lvjobs.cluster.profiles import load_profile, render
from lvjobs.cluster.protocol import JobRequest, SubmitRefused
from lvjobs.cluster.slurm import SlurmCluster
from lvjobs.control.submission.avoided_nodes import place
from lvjobs.errors import UsageError

KEYS = ("partition", "time_limit")
REFUSED = [
    *("--clusters=gpu", "--clusters gpu", "--clus=gpu", "-Mgpu", "-M gpu", " -M gpu", "--cluster-constraint=x"),
    *("--job-name=x", "--job-n=x", "-J x", "-Jx", "-HJ x", "-QH", "--array=0-3", "-a0", "--output=x", "-o x"),
    *("--error=x", "-e x", "--wrap=x", "--parsable", "--requeue", "--no-requeue", "--no-r", "--open-mode=truncate"),
    *("--signal=USR1@5", "--test-only", "--wait", "-W", "--quiet", "--nodes=2", "-N2", "--ntasks=2", "-n 2", "--uid=1"),
    *("--partition=x", "-px", "--time=5", "-t 5", "hetjob", "word", "--"),
]
TAKEN = [
    *("--constraint=a100", "-C a100", "-Ca100", "--mail-type=END", "--comment=--job-name=x", "--comment=a --array=1"),
    *("--hold", "-H", "--wait-all-nodes=1", "--time-min=5", "--ntasks-per-node=1", "--exclusive", "--gres=gpu:a100:1"),
    *("--export=NONE", "--reservation=r", "--nice=3", "--qos=x", "-c2", "--dependency=singleton", "--no-kill"),
]


@pytest.mark.parametrize("option", REFUSED)
def test_an_option_that_lvjobs_sets_itself_is_refused(option):
    for options in ([option], ["--nice=3", option], option.split() if "-" in option else [option]):
        with pytest.raises(UsageError, match="extra_sbatch has"):
            check_options(options, "[resources]", KEYS)


@pytest.mark.parametrize("option", TAKEN)
def test_any_other_option_is_taken(option):
    check_options([option], "[resources]", KEYS)


def test_a_value_may_be_an_entry_of_its_own():
    check_options(["-C", "a100", "--nice=3"], "[resources]", KEYS)


def test_the_driver_keeps_its_dependency():
    with pytest.raises(
        UsageError, match=r"\[driver\]: extra_sbatch has '-d afterok:1', and lvjobs sets --dependency itself"
    ):
        check_options(["-d afterok:1"], "[driver]", (), driver=True)


def test_the_message_says_what_to_do():
    with pytest.raises(UsageError, match="run lvjobs on a login node of that cluster"):
        check_options(["--clusters=gpu"], "[resources]", KEYS)
    with pytest.raises(UsageError, match="leave it out, and set time_limit instead"):
        check_options(["-t5"], "[resources]", KEYS)


def request(tmp_path, **resources):
    return JobRequest("a" * 12, "run", [tmp_path], tmp_path, tmp_path, sys.executable, resources=resources)


def test_the_defaults_of_a_profile_are_looked_at_too(tmp_path):
    path = tmp_path / "mine.sh.j2"
    path.write_text(
        load_profile("generic").source.replace("extra_sbatch | default([])", 'extra_sbatch | default(["-Mx"])')
    )
    with pytest.raises(UsageError, match=r"profile .*mine.sh.j2: extra_sbatch has '-Mx'"):
        render(load_profile(path), request(tmp_path))
    assert "--nice=3" in render(load_profile(path), request(tmp_path, extra_sbatch=["--nice=3"]))


def test_a_run_that_was_taken_before_is_refused_and_no_pass_ends_by_it(tmp_path):
    cluster = SlurmCluster(load_profile("generic"), tmp_path / "submissions")
    with pytest.raises(SubmitRefused, match="-Mgpu"):
        place(cluster, [request(tmp_path, extra_sbatch=["-Mgpu"])], [])


@pytest.mark.parametrize(
    ("table", "words", "said"),
    [
        ('[resources]\nextra_sbatch = ["--clusters=gpu"]\n', [], "[resources]: extra_sbatch has '--clusters=gpu'"),
        ('[driver]\nextra_sbatch = ["-J", "x"]\n', [], "[driver]: extra_sbatch has '-J'"),
        ("", ["--set", "resources.extra_sbatch=--job-n=x"], "[resources]: extra_sbatch has '--job-n=x'"),
    ],
)
def test_lvjobs_submit_exits_with_2(tmp_path, table, words, said):
    shutil.copy(Path(__file__).parents[1] / "toy_task.py", tmp_path)
    (tmp_path / "study.toml").write_text(f'profile = "generic"\n[train]\ntask = "toy_task:priced"\nsteps = 4\n{table}')
    command = [sys.executable, "-m", "lvjobs", "submit", "run", "--study", str(tmp_path), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr) == (2, True), done.stdout + done.stderr
    assert not (tmp_path / "runs.db").exists()
