"""Training small transformers on real text, from a recipe to a run folder full of checkpoints."""

from ..system.lazy import lazy_names

_HOME = {
    "CheckpointSpec": "recipe",
    "CorpusSpec": "recipe",
    "ModelConfig": "model",
    "OptimiserSpec": "recipe",
    "Recipe": "recipe",
    "Transformer": "model",
    "begin": "loop",
    "builtin_recipes": "recipe",
    "load_recipe": "recipe",
    "load_recipes": "recipe",
    "train": "loop",
    "train_table": "table",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOME)
