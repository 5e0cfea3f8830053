"""Figures of a study: pure functions from plain data to a matplotlib Figure. docs/figures.md says what each shows.

Only the commands that draw import this package: matplotlib takes half a second that `lvjobs status` has no use for.
"""
