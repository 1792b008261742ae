"""Scans: a model through the lens to its scores, or every checkpoint of a run to a history.

`measurement` is the interface of whatever is measured: `heads` (with `weights`), `losses`, `attention`, `fuzzy`,
`behaviours`, and the ablations in a room of their own. `engine` measures a model or a run with any of them,
`checkpoints` has the workers and their standing models, `store` and `in_memory` keep the results. `run_scan` puts
together what a history holds, `watching` measures the same while a run trains, and `plan` tells what a scan would take.
"""
