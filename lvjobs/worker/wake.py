"""The last line of a job's script: `python -m lvjobs.worker.wake` triggers the driver if the worker could not.

A worker that was killed, ran out of memory or was never started triggers nothing. Its job is checked now all the same.
"""

import os

from lvjobs.cluster import inside
from lvjobs.worker.environment import read_environment

if __name__ == "__main__":
    driver = read_environment(os.environ).driver
    if driver:
        inside.wake(driver)
