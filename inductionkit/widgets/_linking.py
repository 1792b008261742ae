"""Explorers of one run that move together, in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipywidgets import jslink

from ..errors import HistoryError

if TYPE_CHECKING:
    from .phase_explorer import PhaseExplorer


def link_explorers(explorer: PhaseExplorer, other: PhaseExplorer) -> None:
    """Link the traits for which both have the same to choose from; raise HistoryError if checkpoints differ."""
    ours, theirs = explorer._choices, other._choices
    if ours.steps != theirs.steps:
        raise HistoryError(
            f"explorers of {len(ours.steps)} and {len(theirs.steps)} checkpoints at different steps cannot be linked; "
            f"compare two runs with explorer.beside(other)"
        )
    traits = ["step"]
    if (ours.layers, ours.heads) == (theirs.layers, theirs.heads):
        traits += ["head", "heads"]
    if ours.texts == theirs.texts:
        traits.append("text")
    for trait in traits:
        # Python sets the value now; the browser keeps it the same from here on.
        setattr(other, trait, getattr(explorer, trait))
        jslink((explorer, trait), (other, trait))
