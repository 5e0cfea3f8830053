"""A pytest plugin (`-p without_torch`) for an environment without torch: what imports it is skipped, and nothing else.

An import of torch or its kin in the process of the tests skips the test, or the module, that asks for it. A test whose
own processes import it is marked `torch`, and skipped too.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

import pytest

NAMES = frozenset({"torch", "transformers", "peft", "accelerate", "bitsandbytes"})


class Absent(MetaPathFinder):
    """Skips whatever imports one of `NAMES`."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Skip at the import of one of `NAMES`; leave all else to other finders."""
        if fullname.partition(".")[0] in NAMES:
            pytest.skip(f"needs {fullname}", allow_module_level=True)
        return None


sys.meta_path.insert(0, Absent())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that are marked `torch`."""
    for item in items:
        if item.get_closest_marker("torch"):
            item.add_marker(pytest.mark.skip(reason="starts a process that needs torch"))
