"""`python -m lvjobs`."""

from lvjobs.cli import main

main()
