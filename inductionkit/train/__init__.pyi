# What `__init__.py` loads when first used, for type checkers, which do not run it.

from .loop import begin as begin
from .loop import train as train
from .model import ModelConfig as ModelConfig
from .model import Transformer as Transformer
from .recipe import CheckpointSpec as CheckpointSpec
from .recipe import CorpusSpec as CorpusSpec
from .recipe import OptimiserSpec as OptimiserSpec
from .recipe import Recipe as Recipe
from .recipe import builtin_recipes as builtin_recipes
from .recipe import load_recipe as load_recipe
from .recipe import load_recipes as load_recipes
from .table import train_table as train_table

__all__: list[str]
