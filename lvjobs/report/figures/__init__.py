"""Figures of a study: each described once, and drawn for print and for the page by the same code.

`marks` is the description: panels of marks on axes. `forecasts`, `stages` and `attempts` describe, and `study` says
which figures a study has. `draw` draws a panel, `printed` makes files of it, `embedded` makes a part of the page of it.
Only these three load matplotlib, which takes half a second that `lvjobs status` has no use for.
"""
