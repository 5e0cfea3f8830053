"""Signals that must not get lost."""

import signal
import subprocess
import sys

LOST = """
import signal, time, weakref
from lvjobs.processes import keep_interrupts

class Thing: pass

def forget(_):
    signal.raise_signal(signal.SIGINT)  # Python acts on it at once, in this callback, and ignores what that raises

with keep_interrupts():
    thing = Thing()
    reference = weakref.ref(thing, forget)
    del thing
    time.sleep(60)
print("slept")
"""


def test_ctrl_c_in_a_callback_of_the_garbage_collector_ends_the_command_all_the_same():
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")
    assert "Exception ignored" not in done.stderr
