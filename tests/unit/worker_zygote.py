"""Forks attempts on request (one JSON object a line on stdin), all already imported. See worker_helpers.Zygote."""

import importlib
import json
import os
import signal
import sys
import tempfile
import traceback

import toy_task  # noqa: F401 - imported beforehand
from worker_helpers import revoke

from lvjobs.cluster import inside
from lvjobs.worker import generation, ranks, runner, signals

# A machine that stalls for some seconds is neither a silent controller nor a process that is lost.
inside.TIMEOUT = 600.0
ranks._GRACE_SECONDS = 300.0


def claim_once_revoked(layout, environment):
    """Claim; just before, a pass that saw no claim gives the order that this submission may train the run no more."""
    revoke(layout, environment.token)
    return generation.claim_generation(layout, environment)


def attempt(directory, environment):
    os.environ.update(environment)
    tempfile.tempdir = None  # by this TMPDIR
    null = os.open(os.environ.get("TOY_OUTPUT", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    try:
        signals.install()
        if "ZYGOTE_GRACE" in os.environ:
            ranks._GRACE_SECONDS = float(os.environ["ZYGOTE_GRACE"])
        if "ZYGOTE_TERM" in os.environ:
            os.kill(os.getpid(), signal.SIGTERM)
        if "ZYGOTE_REVOKE" in os.environ:
            runner.claim_generation = claim_once_revoked
        code = runner.main([directory])
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    os._exit(code)


for name in os.environ.get("ZYGOTE_IMPORTS", "").split():
    importlib.import_module(name)

if "torch" in sys.modules:
    import torch

    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.AdamW([weight]).step()  # the first step of any optimizer imports for a second

# A shell starts what runs in its background with Ctrl-C ignored, and so would be every attempt here.
signal.signal(signal.SIGINT, signal.default_int_handler)

for line in sys.stdin:
    request = json.loads(line)
    if "start" in request:
        answer = os.fork()
        if answer == 0:
            attempt(request["start"], request["environment"])
    else:
        answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
    print(json.dumps(answer), flush=True)  # noqa: T201
