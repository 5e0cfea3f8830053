"""The processes of a program: all that came from it end with it, and no other."""

import io
import os
import subprocess
import sys

import psutil

from lvjobs.worker.program.process import Program, Start, descendants, environment_of

LEAVES_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
"""


def wait_for(condition):
    while not condition():
        pass


def test_what_a_program_leaves_behind_ends_with_it_and_nothing_else_does(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    program = Program([Start(0, [sys.executable, "-c", LEAVES_A_CHILD], os.environ)], tmp_path)
    wait_for(lambda: program.has_ended and program.ends[0].tail)
    child = int(program.ends[0].tail[-1])
    assert psutil.pid_exists(child), "it is in a session of its own, and its parent has ended"
    assert child in descendants()
    assert [end.code for end in program.end()] == [0]
    assert not psutil.pid_exists(child)
    assert other.poll() is None
    other.communicate(b"\n")


def test_a_program_gets_nothing_of_slurm_or_lvjobs_but_its_own():
    environ = {"PATH": "/bin", "SLURM_JOB_ID": "1", "LVJOBS_TOKEN": "t", "PYTHONPATH": "/code", "PYTHONHASHSEED": "0"}
    assert environment_of(environ, "", {"LVJOBS_RUN": "a"}) == {"PATH": "/bin", "LVJOBS_RUN": "a"}
    assert environment_of(environ, "/modules", {})["PYTHONPATH"] == "/modules"
