"""Tracebacks in `lvjobs why`: the frames of the user's own code."""

from pathlib import Path

from lvjobs.control.inspect.tracebacks import own_frames

CODE = Path("/study/.lvjobs/code/ab12")
LVJOBS = f'  File "{CODE}/lvjobs/worker/runner.py", line 30, in run\n    task.run(attempt)\n    ^^^^^^^^^^^^^^^^^\n'
OWN = f'  File "{CODE}/train.py", line 7, in train\n    rows = read(path)\n           ^^^^^^^^^^\n'
LIBRARY = '  File "/usr/lib/python3/csv.py", line 3, in read\n    return open(path)\n'
HEAD, END = "Traceback (most recent call last):\n", "FileNotFoundError: labels.csv\n"


def test_frames_of_lvjobs_are_left_out_and_files_are_named_as_in_the_study():
    assert own_frames(HEAD + LVJOBS + OWN + LIBRARY + END, CODE) == [
        "Traceback (most recent call last):",
        '  File "train.py", line 7, in train',
        "    rows = read(path)",
        "           ^^^^^^^^^^",
        '  File "/usr/lib/python3/csv.py", line 3, in read',
        "    return open(path)",
        "FileNotFoundError: labels.csv",
    ]


def test_a_traceback_of_lvjobs_alone_is_whole():
    shown = own_frames(HEAD + LVJOBS + "RuntimeError: x\n", CODE)
    assert shown[1] == '  File "lvjobs/worker/runner.py", line 30, in run'
    assert shown[-1] == "RuntimeError: x"


def test_the_last_lines_are_kept():
    assert own_frames(HEAD + OWN * 9 + END, CODE)[-1] == "FileNotFoundError: labels.csv"
    assert len(own_frames(HEAD + OWN * 9 + END, CODE)) == 12


def test_an_error_of_several_lines_is_kept():
    assert own_frames(HEAD + LVJOBS + OWN + "ValueError: one\ntwo\n", CODE)[-2:] == ["ValueError: one", "two"]
