"""Figures of a study: each described once, and drawn for print and for the page by the same code.

`elements` has the description's parts: panels of marks on axes. `forecasts`, `stages` and `attempts` describe figures
(`attempts` computes what a study spent over time). `study` lists the figures that a study has, and makes a directory
of them with an index. `palette` has their colours. `draw` draws a panel, and makes files of a chart. It loads
matplotlib, which takes half a second that `lvjobs status` can save.
"""
