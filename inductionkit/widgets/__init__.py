"""Interactive views of a history: they run in the browser, in Jupyter or from one saved file."""

from .phase_explorer import PhaseExplorer

__all__ = ["PhaseExplorer"]
