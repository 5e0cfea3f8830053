"""The cost of a step and of a forecast, in FLOPs: integers, counted by named conventions (docs/flops.md).

`conventions` lists them by name: `official` (the budget's default), `exact`, `published` and `measured`. Each is a
module with `count`, which gives the `Counts` of a `Workload`. `workload` has both, and the prices and formulas that
conventions share, `architecture` the shapes of models, and the names and widths of their layers by family.
`published` has the published study's formula beside its figures, and `tables` prints counts.

A new convention is a module with `count` and an entry of `conventions`; one that a budget may use is also named in
`lvjobs.study.words`. A new family of base models is an entry of `architecture.FAMILIES`: nothing else names layers.
"""
