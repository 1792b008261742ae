"""A training run as an ordered set of checkpoints: step, tokens seen, how to load each into one standing model."""

from .bundled import BUNDLED_RUNS
from .example_model_file import example_model
from .folder import export_run, open_folder
from .opening import open_run
from .run import Checkpoint, Run
from .select import choose

__all__ = ["BUNDLED_RUNS", "Checkpoint", "Run", "choose", "example_model", "export_run", "open_folder", "open_run"]
