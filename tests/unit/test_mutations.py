"""Each guard that tests/chaos/mutations.py takes away is there to be taken."""

import runpy

import pytest
from docs_blocks import ROOT

MUTATIONS = runpy.run_path(str(ROOT / "tests" / "chaos" / "mutations.py"))["MUTATIONS"]


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_guard_stands_once_and_its_tests_exist(name):
    mutation = MUTATIONS[name]
    assert (ROOT / mutation.file).read_text().count(mutation.old) == 1
    assert all((ROOT / "tests" / test.partition("::")[0]).exists() for test in mutation.tests)
