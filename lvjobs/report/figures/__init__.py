"""Figures of a study: each described once, and drawn for print and for the page by the same code.

`elements` has the description's parts: panels of marks on axes. `forecasts`, `stages` and `attempts` describe figures
(`attempts` computes what a study spent over time), and `study` lists the figures that a study has. `palette` has their
colours. `draw` draws a panel, and `printed` makes files of it, and of all of a study a directory with an index. Both
load matplotlib, which takes half a second that `lvjobs status` can save.
"""
