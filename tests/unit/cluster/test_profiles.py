"""Profiles: what they say, what they refuse, and that nothing a user writes gets past the quotes."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lvjobs.cluster.profiles import Profile, load_profile, render
from lvjobs.cluster.protocol import JobRequest
from lvjobs.cluster.templates import available_profiles, shipped
from lvjobs.errors import UsageError

NAMES = ["csd3-ampere", "csd3-icelake", "generic", "isambard-ai", "jade", "lab", "perlmutter"]
TOKEN = "0123456789ab"


def request(*runs, **more):
    runs = [Path(run) for run in runs or ["/study/checkpoints/a"]]
    fields = {
        "name": "a",
        "log_directory": Path("/study/logs/a"),
        "code_directory": Path("/study/code"),
        "python": "/py",
    }
    return JobRequest(TOKEN, run_directories=runs, **fields | more)


def script(name="generic", *runs, **resources):
    return render(load_profile(name), request(*runs, resources={"account": "x", **resources}))


def sbatch_lines(text):
    return [line.removeprefix("#SBATCH ") for line in text.split("\n") if line.startswith("#SBATCH")]


def test_the_profiles_there_are():
    assert available_profiles() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_is_a_script_with_what_lvjobs_relies_on(name):
    text = script(name)
    assert text.startswith("#!/bin/bash\n#SBATCH --job-name=a.0123456789ab\n")
    lines = sbatch_lines(text)
    assert "--requeue" in lines
    assert "--open-mode=append" in lines
    assert "--output=/study/logs/a/%j.out" in lines
    assert not [line for line in lines if "array" in line]
    worker, _, rest = text.partition('/py -m lvjobs.worker "$RUN_DIRECTORY"\n')
    assert "\ntrap : TERM USR1 USR2 " in worker
    assert rest.startswith("code=$?\n")
    assert rest.endswith('\n[ "$code" -eq 0 ] || /py -m lvjobs.worker.wake\nexit "$code"\n')
    subprocess.run(["bash", "-n"], input=text.encode(), check=True)


def test_what_runs_is_the_same_everywhere():
    ends = {script(name, cpus=3).partition("# -- what runs")[2] for name in NAMES}
    ends = {"\n".join(line for line in end.splitlines() if "LEAD_SECONDS" not in line) for end in ends}
    assert len(ends) == 1


MODULES = """
LOADED=
. () { :; }
cd () { :; }
set_up () { export PYTHONPATH="/site/$1${PYTHONPATH:+:$PYTHONPATH}"; }
module () {
  case "$1" in
    purge) LOADED= ;;
    reload) for each in $LOADED; do set_up "$each"; done ;;
    load) [[ " $LOADED " == *" $2 "* ]] || { LOADED="$LOADED $2"; set_up "$2"; } ;;
  esac
}
srun () { printf '%s' "$PYTHONPATH"; }
"""
"""Environment Modules 5.5 and Lmod 8.7, as far as they matter: what is loaded is not loaded again, but by `reload`."""


@pytest.mark.parametrize("name", [name for name in NAMES if name != "lab"])
@pytest.mark.parametrize("before", ["", "module load torch\n"])
def test_what_modules_set_comes_after_the_code_and_the_shells_path_is_not_there(name, before):
    """Also where the shell that submits has loaded the same modules: a job gets its environment."""
    for modules, path in ([], "/study/code"), (["torch"], "/study/code:/site/torch"):
        text = MODULES + "export PYTHONPATH=/shell\n" + before + script(name, modules=modules)
        done = subprocess.run(["bash", "-c", text], capture_output=True, check=True, text=True)
        assert done.stdout.startswith(path), done.stderr
        assert "/shell" not in done.stdout
        assert done.stdout.count("/site") == len(modules)


def test_a_copy_of_an_earlier_template_still_runs_the_code_that_was_submitted():
    former = "export PYTHONPATH={{ code_directory }}\n"
    source = re.sub(r"export PYTHONPATH=.*\n", former, load_profile("generic").source)
    source = re.sub(r"unset PYTHONPATH.*\n|module reload.*\n", "", source)
    assert source.count("PYTHONPATH") == 1
    text = MODULES + "export PYTHONPATH=/shell\n" + render(Profile("mine", Path("mine.sh.j2"), source), request())
    done = subprocess.run(["bash", "-c", text], capture_output=True, check=True, text=True)
    assert done.stdout == "/study/code"


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_read_off_the_template(name):
    defaults = load_profile(name).defaults()
    assert defaults["time_limit_minutes"] > 0
    assert set(defaults) <= load_profile(name).variables
    assert {"partition", "cpus", "gpus", "memory_mb", "qos", "exclude_nodes"} <= set(defaults)


def test_csd3():
    text = script("csd3-ampere", gpus=2)
    assert {"--partition=ampere", "--gres=gpu:2", "--cpus-per-task=64", "--account=x"} <= set(sbatch_lines(text))
    assert "module load rhel8/default-amp" in text
    assert not any("--gres" in line for line in sbatch_lines(script("csd3-icelake")))


def test_isambard_ai():
    lines = set(sbatch_lines(script("isambard-ai", gpus=4)))
    assert {"--partition=workq", "--gpus=4", "--cpus-per-task=288", "--time=1440"} <= lines
    assert not any("--account" in line for line in sbatch_lines(render(load_profile("isambard-ai"), request())))


@pytest.mark.parametrize(("gpus", "partition", "cpus"), [(1, "small", 5), (8, "big", 40)])
def test_jade_has_a_partition_for_one_gpu_and_one_for_all(gpus, partition, cpus):
    lines = set(sbatch_lines(script("jade", gpus=gpus)))
    assert {f"--partition={partition}", f"--gres=gpu:{gpus}", f"--cpus-per-task={cpus}"} <= lines
    assert load_profile("jade").defaults()["max_queued"] == 8


@pytest.mark.parametrize(("gpus", "qos"), [(1, "shared"), (2, "shared"), (4, "regular")])
def test_perlmutter_shares_a_node_or_takes_it(gpus, qos):
    text = script("perlmutter", gpus=gpus, account="m1234_g")
    assert {f"--qos={qos}", "--constraint=gpu", f"--gpus={gpus}", "--account=m1234_g"} <= set(sbatch_lines(text))
    assert not any("--partition" in line for line in sbatch_lines(text))
    assert "--qos=preempt" in sbatch_lines(script("perlmutter", gpus=4, qos="preempt"))


def test_what_is_set_comes_before_the_defaults():
    lines = sbatch_lines(
        script(
            "lab",
            partition="urgent",
            time_limit_minutes=90,
            memory_mb=3000,
            qos="high",
            exclude_nodes=["n2", "n1"],
            extra_sbatch=["--nice=3", "--comment=two words"],
        )
    )
    expected = {"--partition=urgent", "--time=90", "--mem=3000M", "--qos=high", "--exclude=n2,n1", "--nice=3"}
    assert expected <= set(lines)
    assert "'--comment=two words'" in lines


def test_unset_is_the_default():
    assert script("lab", partition=None) == script("lab")


def test_an_array_has_a_directory_and_a_log_for_each_member():
    text = render(load_profile("lab"), replace(request("/a", "/b b", "/c"), max_parallel=2))
    lines = sbatch_lines(text)
    assert "--array=0-2%2" in lines
    assert "--output=/study/logs/a/%A_%a.out" in lines
    assert "(\n  /a\n  '/b b'\n  /c\n)" in text


def test_the_signal_comes_early_enough_and_not_too_early():
    assert "--signal=USR2@90" in sbatch_lines(script(time_limit_minutes=60))
    assert "--signal=USR2@12" in sbatch_lines(script(time_limit_minutes=2))
    assert "LVJOBS_LEAD_SECONDS=12" in script(time_limit_minutes=2)


def test_a_percent_sign_in_the_log_directory_is_no_pattern():
    text = render(load_profile("lab"), replace(request(), log_directory=Path("/l%j/x")))
    assert "--output=/l%%j/x/%j.out" in sbatch_lines(text)


def test_a_profile_of_ones_own(tmp_path):
    path = tmp_path / "mine.sh.j2"
    path.write_text('{% set colour = colour | default("red") %}\n#!/bin/bash\n#SBATCH --x={{ colour }}\n{{ python }}\n')
    profile = load_profile(path)
    assert (profile.name, profile.defaults(), profile.variables) == ("mine", {"colour": "red"}, {"colour"})
    assert render(profile, request(resources={"colour": "deep blue"})) == "#!/bin/bash\n#SBATCH --x='deep blue'\n/py\n"
    assert load_profile(str(path)) == profile


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_of_ones_own_may_include_the_shared_parts_or_have_their_lines(tmp_path, name):
    """The copy that a study keeps has their lines."""
    path = tmp_path / f"{name}.sh.j2"
    path.write_text(shipped(name).read_text())
    mine = load_profile(path)
    asked = request("/a", "/b", resources={"account": "x", "gpus": 2})
    assert render(mine, asked) == render(load_profile(name), asked)
    assert "{% include" not in mine.source
    path.write_text(mine.source)
    assert load_profile(path) == mine
    path.write_text(
        shipped(name).read_text().replace('{% include "_worker.sh.j2" %}\n', "  {%- include '_worker.sh.j2' -%}")
    )
    assert load_profile(path) == mine, "as Jinja2 lets one write it"


def test_only_shared_parts_can_be_included(tmp_path):
    path = tmp_path / "mine.sh.j2"
    path.write_text('#!/bin/bash\n{% include "driver.sh.j2" %}\n')
    with pytest.raises(UsageError, match=r"'driver.sh.j2' cannot be included; the shared parts are .*_worker.sh.j2"):
        load_profile(path)
    path.write_text('#!/bin/bash\n{% include "_worker.sh.j2" %}\n{% if %}\n')
    with pytest.raises(UsageError, match=r"\(line 3\)"):
        load_profile(path)


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"partitoin": "x"}, "partitoin: profile csd3-ampere does not use it; it knows account, cpus,"),
        ({}, "account: profile csd3-ampere has no default for it; set it under [resources] in study.toml, or give --a"),
        ({"account": "a\nb"}, "account: 'a\\nb' contains a line break"),
        ({"account": "x", "gpus": -1}, "gpus: -1 is not a whole number of at least 0"),
        ({"account": "x", "gpus": True}, "gpus: True is not a whole number"),
        ({"account": "x", "cpus": 0}, "cpus: 0 is not a whole number of at least 1"),
        ({"account": "x", "time_limit_minutes": "12:00"}, "time_limit_minutes: '12:00' is not a whole number"),
        ({"account": "x", "exclude_nodes": ["n1\x00"]}, "exclude_nodes: 'n1\\x00' contains the character '\\x00'"),
        ({"account": "x", "modules": [3]}, "modules: [3] is not a list of strings"),
        ({"account": ["x"]}, "only strings and numbers can be written into a script"),
    ],
)
def test_refusals_name_the_key(resources, said):
    with pytest.raises(UsageError) as caught:
        render(load_profile("csd3-ampere"), request(resources=resources))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"environment": {"A-B": "x"}}, "environment: 'A-B' is no name for a variable"),
        ({"environment": {"A": "x\ny"}}, "environment.A: 'x\\ny' contains a line break"),
        ({"log_directory": Path("/a\\b")}, "log_directory: "),
        ({"name": "x" * 300}, "is too long for a job name"),
        ({"name": "x\ud800"}, "job_name: "),
        ({"code_directory": Path("/a\nb")}, "code_directory: "),
    ],
)
def test_refusals_of_what_is_no_resource(more, said):
    with pytest.raises(UsageError, match=said.replace("\\", "\\\\").replace("(", "\\(")):
        render(load_profile("lab"), request(**more))


def test_a_submission_needs_a_run():
    with pytest.raises(UsageError, match="at least one run"):
        render(load_profile("lab"), replace(request(), run_directories=[]))


def test_an_array_that_no_script_can_carry():
    with pytest.raises(UsageError, match="too many for one array"):
        render(load_profile("lab"), request(*[f"/{'x' * 200}/{number}" for number in range(20_000)]))


@pytest.mark.parametrize("name", ["nope", "", "LAB"])
def test_an_unknown_profile(name):
    with pytest.raises(UsageError, match=f"choose one of local, {', '.join(NAMES)}"):
        load_profile(name)


def test_profiles_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load_profile(tmp_path / "missing.sh.j2")
    bad = tmp_path / "bad.sh.j2"
    bad.write_text("#!/bin/bash\n{% if %}\n")
    with pytest.raises(UsageError, match=r"bad\.sh\.j2: .* \(line 2\)"):
        load_profile(bad)
    bad.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        load_profile(bad)


text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
hostile = st.one_of(
    text,
    st.lists(
        st.sampled_from(["'", '"', "$(touch pwned)", "`x`", "\\", "{{ 7 }}", "{% if %}", "#", ";", "%j", " ", "é", "-"])
    ).map("".join),
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(hostile, hostile, hostile, hostile, hostile)
def test_no_value_reaches_the_shell_unquoted(tmp_path, directory, value, partition, python, name):
    """The script is run with `srun` and `cd` replaced: what the worker would be given is what was written."""
    assume("\\" not in directory)
    run = f"/r/{directory}"
    asked = request(
        run,
        name=name,
        log_directory=Path(f"/l/{directory}"),
        python=f"p{python}",
        environment={"VALUE": value},
        resources={"partition": f"p{partition}", "extra_sbatch": [f"--comment={value}"]},
    )
    text = render(load_profile("generic"), asked)
    told = 'cd() { :; }; srun() { printf "%s\\0" "$@" "$VALUE" "$PYTHONPATH"; }; exec() { "$@"; }\n'
    done = subprocess.run(["bash", "-c", told + text], cwd=tmp_path, capture_output=True, check=True)
    assert done.stderr == b""
    words = done.stdout.decode().split("\0")[:-1]
    assert words[-6:] == [f"p{python}", "-m", "lvjobs.worker", str(Path(run)), value, "/study/code"]
    assert list(tmp_path.iterdir()) == []
    # An #SBATCH line is a comment to bash, and a word of a shell to sbatch.
    lines = sbatch_lines(text)
    told = "".join(f"printf '%s\\0' {line}; printf '\\0'\n" for line in lines)
    read = subprocess.run(["bash", "-c", told], cwd=tmp_path, capture_output=True, check=True).stdout.decode()
    words = read.split("\0\0")[:-1]
    assert len(words) == len(lines) == len(sbatch_lines(script(partition="p")))
    assert all(word.startswith("--") and "\0" not in word for word in words)
    assert f"--job-name={asked.job_name}" in words
    assert f"--comment={value}" in words
