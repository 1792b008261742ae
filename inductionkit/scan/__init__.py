"""Scans: a model through the lens to its scores, or every checkpoint of a run to a history.

One model: `head_scan`, `weight_scan`, `fuzzy_scan`, `behaviours`. A run: `measurement` is all that is measured on a
checkpoint, `checkpoint` measures one, `scanning` all of them, into a `store`; `plan` tells what that takes, and
`watching` measures a run while it trains.
"""
