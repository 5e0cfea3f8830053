"""`python -m lvjobs.worker.wake`: the last line of a job's script, for a worker that could not wake the driver itself.

One that was killed, ran out of memory or was never started says nothing; what it leaves is looked at now all the same.
"""

import os

from lvjobs.cluster import inside
from lvjobs.worker.environment import read_environment

if __name__ == "__main__":
    driver = read_environment(os.environ).driver
    if driver:
        inside.wake(driver)
