"""Training small transformers on real text, from a recipe to a run folder full of checkpoints."""

from .loop import begin, train
from .model import ModelConfig, Transformer
from .recipe import CheckpointSpec, CorpusSpec, OptimiserSpec, Recipe, builtin_recipes, load_recipe, load_recipes
from .table import train_table

__all__ = [
    "CheckpointSpec",
    "CorpusSpec",
    "ModelConfig",
    "OptimiserSpec",
    "Recipe",
    "Transformer",
    "begin",
    "builtin_recipes",
    "load_recipe",
    "load_recipes",
    "train",
    "train_table",
]
