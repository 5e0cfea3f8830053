"""`python -m lvjobs.worker RUN_DIRECTORY`: what a job's script runs."""

import sys

from lvjobs.files import keep_private
from lvjobs.worker import signals

if __name__ == "__main__":
    signals.install()  # before anything heavy is loaded: until then SIGTERM would simply kill
    keep_private()

    from lvjobs.worker.runner import main

    sys.exit(main(sys.argv[1:]))
