"""Runs what `python -c CODE` and `python -m MODULE` would, each in a fork, all already imported. See forked.Forked."""

import atexit
import importlib
import json
import os
import runpy
import sys
import threading
import traceback


def become(arguments, directory, environment, streams):
    """Be the process that was asked for, to its end."""
    for number, (path, flags) in enumerate(zip(streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        os.dup2(os.open(path, flags | os.O_APPEND), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the parent's has read ahead
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    places = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:] = [directory, *places, *(place for place in INSTALLED if place not in places)]
    option, what, *rest = arguments
    sys.argv = [option, *rest]
    code = 0
    try:
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
    except BaseException:  # noqa: BLE001 - as an interpreter ends
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


INSTALLED = sys.path[1:]  # without this file's directory
for name in sys.argv[1:]:
    importlib.import_module(name)

for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        become(**request)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201
