"""The entry point of a job's script: `python -m lvjobs.worker RUN_DIRECTORY`."""

import sys

from lvjobs.files import keep_private
from lvjobs.worker import signals

if __name__ == "__main__":
    signals.install()  # before anything heavy is loaded: until then SIGTERM simply kills the process
    keep_private()

    from lvjobs.worker.runner import main

    sys.exit(main(sys.argv[1:]))
