"""Each view of the explorer as a widget of its own: a `PhaseExplorer` that shows one view and sends only its data.

Two of the same run move together once linked: `LossView(history).link(AttentionPattern(history))`.
"""

from .phase_explorer import PhaseExplorer


class LossView(PhaseExplorer):
    """Mean held-out loss over training, in nats per token, with window, intervals and bump."""

    views = ("loss",)


class InContextLearningView(PhaseExplorer):
    """The in-context-learning score over training, in nats per token; lower: more is learnt from the context."""

    views = ("icl",)


class LossSlopeMap(PhaseExplorer):
    """The derivative of the loss by ln(token index), in nats per e-fold, over training (O22)."""

    views = ("slopes",)


class HeadTrajectories(PhaseExplorer):
    """Any score of each head over training, with a list of the heads to search and sort."""

    views = ("trajectories",)


class HeadGrid(PhaseExplorer):
    """Any score of each head at the current checkpoint, layer by head."""

    views = ("grid",)


class HeadScatter(PhaseExplorer):
    """Any score of each head against any other at the current checkpoint."""

    views = ("scatter",)


class AttentionPattern(PhaseExplorer):
    """The attention of one head on one of the history's texts, with the OV logit lift of each token."""

    views = ("pattern",)


class TextLoss(PhaseExplorer):
    """The loss of each token of a text, in nats, against its loss at a reference checkpoint."""

    views = ("text",)
