"""The meaning of sbatch's complaints. The texts are sbatch's own (24.11.5), save where a comment says otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvjobs.cluster.commands import clean_environment, misleading_variables, one_line
from lvjobs.cluster.protocol import ClusterError, SubmitDeferred, SubmitLimited, SubmitRefused, SubmitUnclear
from lvjobs.cluster.refusals import classify_sbatch_error

FAILED = "sbatch: error: Batch job submission failed: "
POLICY = FAILED + "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    "text",
    [
        "sbatch: error: invalid partition specified: nope\n" + FAILED + "Invalid partition name specified",
        FAILED + "Invalid account or account/partition combination specified",
        FAILED + "Invalid qos specification",
        FAILED + "Requested node configuration is not available",
        "sbatch: error: CPU count per node can not be satisfied\n"
        + FAILED
        + "Requested node configuration is not available",
        "sbatch: error: Memory specification can not be satisfied\n" + FAILED + "Requested node configuration ...",
        "sbatch: error: Invalid --time specification",
        "Invalid time specification (pos=0): foo\nsbatch: error: Invalid --begin specification",
        "sbatch: unrecognized option '--foo=foo'\nTry \"sbatch --help\" for more information",
        "sbatch: option '--chdir' requires an argument",
        "sbatch: error: Unable to open file /nofile",
        "sbatch: error: Batch script is empty!",
        "sbatch: error: Batch script contains DOS line breaks (\\r\\n)",
        FAILED + "Invalid job array specification",
        FAILED + "Job dependency problem",
        FAILED + "Invalid node name specified",
        "sbatch: error: Invalid generic resource (gres) specification",
        FAILED + "Requested reservation is invalid",
        FAILED + "Requested time limit is invalid (missing or exceeds some limit)",  # EnforcePartLimits=ALL
        "sbatch: error: QOSMaxWallDurationPerJobLimit\n" + POLICY,
        "sbatch: error: QOSGrpCpuLimit\n" + POLICY,
        "sbatch: error: QOSMaxGRESPerJob\n" + POLICY,
        FAILED + "Unspecified error",  # a job_submit.lua
        FAILED + "User's group not permitted to use this partition",
        FAILED + "Access/permission denied",
    ],
)
def test_refused(text):
    assert classify_sbatch_error(text, 1) is SubmitRefused


@pytest.mark.parametrize(
    "text",
    [
        FAILED + "Unable to contact slurm controller (connect failure)",
        FAILED + "Slurm backup controller in standby mode",
        FAILED + "Resource temporarily unavailable",
        "sbatch: fatal: Could not establish a configuration source",
    ],
)
def test_deferred(text):
    assert classify_sbatch_error(text, 1) is SubmitDeferred


@pytest.mark.parametrize(
    "text",
    [
        "sbatch: error: AssocMaxSubmitJobLimit\n" + POLICY,
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\n" + POLICY,
        "sbatch: error: AssocGrpSubmitJobsLimit\n" + POLICY,
        POLICY,  # before 20.11 nothing says which limit it was
    ],
)
def test_limited(text):
    assert classify_sbatch_error(text, 1) is SubmitLimited


@pytest.mark.parametrize(
    ("text", "returncode"),
    [
        (FAILED + "Socket timed out on send/recv operation", 1),
        (FAILED + "Zero Bytes were transmitted or received", 1),
        (FAILED + "Unexpected message received", 1),
        ("", 124),
        ("", 137),
        ("", -15),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", 124),
        ("something that nobody has seen before", 1),
        ("", 1),
    ],
)
def test_unclear(text, returncode):
    assert classify_sbatch_error(text, returncode) is SubmitUnclear


def test_a_missing_sbatch_submitted_nothing():
    text = "timeout: failed to run command 'sbatch': No such file or directory"
    assert classify_sbatch_error(text, 127) is SubmitDeferred


@given(st.text(), st.integers(-64, 255))
def test_every_text_is_one_of_the_four(text, returncode):
    kind = classify_sbatch_error(text, returncode)
    assert kind in (SubmitRefused, SubmitLimited, SubmitDeferred, SubmitUnclear)
    assert issubclass(kind, ClusterError)


def test_one_line():
    text = "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid x\n\n"
    assert one_line(text) == "invalid partition specified: nope; Batch job submission failed: Invalid x"
    assert one_line("slurm_load_jobs error: Socket timed out") == "slurm_load_jobs error: Socket timed out"
    assert one_line("a\na\n") == "a"


def test_what_would_mislead_slurm_is_left_out():
    environ = {"SLURM_CONF": "c", "SLURM_NTASKS": "7", "SBATCH_EXPORT": "x", "SQUEUE_FORMAT": "%i", "HOME": "/h"}
    assert misleading_variables(environ) == ["SBATCH_EXPORT", "SLURM_NTASKS", "SQUEUE_FORMAT"]
    clean = clean_environment(environ)
    assert clean == {"SLURM_CONF": "c", "HOME": "/h", "SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
