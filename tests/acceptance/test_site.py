"""The documentation site in a real headless browser: its search finds a message by the words that were seen."""

import importlib.util
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and prints no line for each."""

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The site, built and served on the loopback."""
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: pip install 'lvjobs[docs]'")
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("words", "anchor"),
    [
        ("run b is archived; unpack it:", "errors.html#is-archived-unpack-it"),
        ("no run can win", "errors.html#no-run-can-win"),
        ("the job may still be in the queue", "errors.html#may-still-be-in-the-queue"),
        ("sweep", "sweeps.html"),
    ],
)
def test_a_search_finds_first_what_was_seen(browser, address, words, anchor):
    page = browser.new_page()
    page.goto(f"{address}/index.html")
    page.click("input[name=query]")
    page.keyboard.type(words)
    found = page.locator(f".md-search-result__item:first-child a[href*='{anchor}']")
    found.first.wait_for(timeout=120_000)
    found.first.click()
    page.wait_for_url(f"**/{anchor}*", timeout=120_000)
    page.close()
