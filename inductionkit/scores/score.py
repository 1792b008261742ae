"""What a head score is: its function, what is measured, and how it is added up over batches or layers.

`@head_score` registers a function as a score. Scans compute every registered score and label it with the row given
there, so a new score is one function with its row, in `on_prompts` or `from_weights`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from ..history import PER_HEAD, Variable

Source = Literal["repeated tokens", "sample", "text", "weights", "gradients", "loss"]
Need = Literal["direct path", "values", "earlier heads", "queries without a norm"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Score:
    """A registered score.

    `source` is what it is measured on; the `sample` is the first repeat of the repeated tokens. `of` takes what a scan
    shows of one layer and returns the score of its heads: a `Share` for a batch of prompts, which is added up over the
    batches, or a tensor for weights. `finish` turns the added-up share into the score. `needs` is what a model or layer
    must have for it: a final norm that can be folded, and heads that write no more than pattern, values and `W_O`
    (`direct path`); the latter alone (`values`); heads in layers below; queries and keys that pass no norm of their
    own.
    """

    name: str
    variable: Variable
    source: Source
    of: Callable[[Any], Any]
    finish: Callable[[Any], Any]
    needs: tuple[Need, ...]


SCORES: dict[str, Score] = {}


def head_score(
    source: Source,
    of: Callable[[Any, Any], Any],
    long_name: str,
    units: str = "1",
    reference: str = "",
    finish: Callable[[Any], Any] = lambda share: share.value,
    needs: tuple[Need, ...] = (),
) -> Callable[[Function], Function]:
    """Register the decorated function as a score; see `Score` for the parameters, `Variable` for the labels.

    `of` gets the function itself and what a scan shows of one layer.
    """

    def register(function: Function) -> Function:
        variable = Variable(PER_HEAD, "float32", units, long_name, reference)
        SCORES[function.__name__] = Score(function.__name__, variable, source, partial(of, function), finish, needs)
        return function

    return register


def names_from(*sources: Source) -> tuple[str, ...]:
    """The names of the scores that are measured on any of `sources`."""
    return tuple(name for name, score in SCORES.items() if score.source in sources)
