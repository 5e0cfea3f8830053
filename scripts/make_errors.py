"""Writes docs/errors.md from the messages in the source: python scripts/make_errors.py.

tests/unit/test_errors_page.py fails where the page is no longer what this gives.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from errors_page import PAGE, page
from messages import scan

if __name__ == "__main__":
    PAGE.write_text(page(scan()), encoding="utf-8")
