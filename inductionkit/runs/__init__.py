"""A training run as an ordered set of checkpoints: step, tokens seen, how to load each."""

from .bundled import BUNDLED_RUNS
from .folder import export_run, open_folder
from .run import Checkpoint, Run, open_run

__all__ = ["BUNDLED_RUNS", "Checkpoint", "Run", "export_run", "open_folder", "open_run"]
