"""A partition that an administrator drains takes no jobs until it is put back; one that is not there never will."""

import pytest

from lvjobs.cluster.protocol import SubmitDeferred, SubmitRefused
from lvjobs.cluster.refusals import classify_sbatch_error


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Required partition not available (inactive or drain)", SubmitDeferred),
        ("Invalid partition name specified", SubmitRefused),
        ("Requested partition configuration not available now", SubmitRefused),
    ],
)
def test_a_drained_partition_is_waited_for(said, kind):
    assert classify_sbatch_error(f"sbatch: error: Batch job submission failed: {said}\n", 1) is kind
