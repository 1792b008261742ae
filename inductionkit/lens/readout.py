"""How the residual stream becomes logits: the final norm's scale, the unembedding, and what happens to logits after."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .circuits import Circuits
from .norms import division
from .running import Enough, running

N_TRIAL_TOKENS = 4


@dataclass(frozen=True)
class LogitForm:
    """Logits are `factor * cap * tanh(raw / cap)` of what `W_U` gives, or `factor * raw` where `cap` is None."""

    factor: float
    cap: float | None

    def slope(self, raw: Tensor) -> Tensor:
        """The derivative of logits with respect to what `W_U` gives."""
        if self.cap is None:
            return torch.full_like(raw, self.factor)
        return self.factor * (1 - (raw / self.cap).tanh().square())


@torch.no_grad()
def logit_form(model: Any) -> LogitForm | None:
    """Return what a model does with its logits after the unembedding, or None where it is neither factor nor cap.

    Cohere and Granite have a factor, Gemma 2 caps its logits. A pass over a few tokens tells.
    """
    raw: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        raw.append(output.detach().clone())

    device = next(model.parameters()).device
    handle = model.unembed.register_forward_hook(keep)
    try:
        with running(model):
            tokens = torch.arange(min(N_TRIAL_TOKENS, model.cfg.n_ctx, model.cfg.d_vocab), device=device)[None]
            logits = model(tokens, return_type="logits")
    finally:
        handle.remove()
    before, after = raw[-1].double(), logits.double()
    tolerance = 8 * torch.finfo(logits.dtype).eps * after.abs().max()
    cap = getattr(model.cfg, "output_logits_soft_cap", None) or 0.0
    for bound in (None, cap) if cap > 0 else (None,):
        bounded = before if bound is None else bound * (before / bound).tanh()
        factor = (bounded * after).sum() / bounded.square().sum()
        if not factor.isfinite():  # all logits are zero
            return LogitForm(1.0, None)
        if (after - factor * bounded).abs().max() <= tolerance:
            return LogitForm(round(factor.item(), 6), bound)
    return None


@dataclass
class Ending:
    """The end of a pass: the residual stream before and after the final norm; None where it was not reached."""

    residual: Tensor | None = None
    normalised: Tensor | None = None

    def at(self, positions: slice) -> Ending:
        return Ending(*(None if each is None else each[:, positions] for each in (self.residual, self.normalised)))


@contextlib.contextmanager
def ending_of(model: Any, stop: bool) -> Iterator[Ending]:
    """Keep the end of a pass that is made meanwhile. With `stop`, the pass ends there, before the unembedding."""
    seen = Ending()

    def at_final_norm(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.residual = inputs[0]

    def at_unembedding(module: nn.Module, inputs: Any) -> None:
        seen.normalised = inputs[0]
        if stop:
            raise Enough

    handles = [model.unembed.register_forward_pre_hook(at_unembedding)]
    if (final_norm := getattr(model, "ln_final", None)) is not None:
        handles.append(final_norm.register_forward_hook(at_final_norm))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def summed_lift(
    logits: Float[Tensor, "sequence query d_vocab"], targets: Int[Tensor, "sequence query"]
) -> Float[Tensor, ""]:
    """Return the logit of each query's target less the mean logit, summed over queries and sequences."""
    logits = logits.float()
    return (logits.gather(2, targets[..., None])[..., 0] - logits.mean(2)).sum()


class Readout:
    """How vectors in the residual stream at some queries move the logits of some tokens, in nats.

    Each logit counts less the mean logit. The final norm's scale at the query counts as a constant, as the direct path
    has it (E21), and capped logits by their slope there.
    """

    def __init__(
        self, circuits: Circuits, form: LogitForm, ending: Ending, tokens: Int[Tensor, "sequence token"], model: Any
    ):
        assert ending.normalised is not None
        stream = ending.normalised.detach()
        self._circuits, self._form, self._tokens = circuits, form, tokens
        self.scale: Float[Tensor, "sequence query"] = (
            torch.ones(stream.shape[:2], device=stream.device)
            if ending.residual is None
            else division(model.ln_final, ending.residual.detach(), stream, model)
        )
        if form.cap is not None:
            slopes, means = zip(*(self._capped(row, wanted) for row, wanted in zip(stream, tokens)))
            self._slopes, self._means = torch.stack(slopes), torch.stack(means)

    def _capped(self, stream: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The slopes (query, token), and the mean over the vocabulary of slope times unembedding (query, d_model)."""
        slopes = self._form.slope(self._circuits.raw_logits(stream))
        return slopes[:, tokens], self._circuits.weighted_unembedding(slopes / slopes.shape[1])

    def gradient(self) -> Float[Tensor, "sequence query d_model"]:
        """Return the gradient of the `i`-th token's logit at the `i`-th query with respect to the residual stream."""
        if self._form.cap is None:
            rows = self._circuits.unembedding(self._tokens) * self._form.factor
        else:
            own = self._slopes.diagonal(dim1=1, dim2=2)[..., None]
            rows = own * self._circuits.uncentred_unembedding(self._tokens) - self._means
        return rows / self.scale[..., None]

    @property
    def is_linear(self) -> bool:
        """Whether logits are `W_U`'s times a constant: then only the division is missing from `Circuits.ov_lift`."""
        return self._form.cap is None

    def divided(self, lifts: Float[Tensor, "sequence head token"]) -> Float[Tensor, "sequence head query token"]:
        """`own_lift` of what `Circuits.ov_lift` says each token adds to its own logit; for linear logits."""
        return lifts[:, :, None] * self._form.factor / self.scale[:, None, :, None]

    def own_lift(
        self, written: Float[Tensor, "sequence head token d_model"]
    ) -> Float[Tensor, "sequence head query token"]:
        """Return how far each token raises its own logit at each query; `written` if it alone is attended to."""
        if self.is_linear:
            return self.divided(torch.einsum("shtm,stm->sht", written, self._circuits.unembedding(self._tokens)))
        own = torch.einsum("shtm,stm->sht", written, self._circuits.uncentred_unembedding(self._tokens))
        mean = torch.einsum("shtm,sqm->shqt", written, self._means)
        return (self._slopes[:, None] * own[:, :, None] - mean) / self.scale[:, None, :, None]
