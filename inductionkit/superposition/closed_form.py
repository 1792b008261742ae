"""The exact mean loss of a ReLU toy model, and its minimum within a family of solutions.

A feature is 0 with probability `1 - p`, else uniform on [0, 1]. With the powers `R_k(t) = max(t, 0)^k / k!`,
each the derivative of the next, the average over one feature of any term of an output is again such terms:

    E R_k(t + c x)   = (1 - p) R_k(t) + p [R_k+1(t + c) - R_k+1(t)] / c
    E x R_k(t + c x) = p [R_k+1(t + c) / c - (R_k+2(t + c) - R_k+2(t)) / c^2]

So the loss of n features is a sum of 3^n terms, without any integral left to do numerically.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError

Number = TypeVar("Number", float, Tensor)

MAX_FEATURES = 8
# Below this coefficient the divided differences above lose digits; there two Gauss nodes replace them, which
# are exact up to the cube of the coefficient and off by less than 1e-7 where ReLU's kink lies between them.
SMALL = 5e-3
MAX_STEP, MAX_ITERATIONS, TOLERANCE, TINY = 0.1, 200, 1e-8, 1e-12
GAUSS_NODES = (0.5 - 12**-0.5, 0.5 + 12**-0.5)


def expected_loss(
    weight: Float[Tensor, "*case hidden feature"],
    bias: Float[Tensor, "*case feature"],
    density: Float[Tensor, "*case feature"],
    importance: Float[Tensor, "*case feature"],
) -> Float[Tensor, "*case"]:
    """The exact mean of `sum_i I_i (x_i - ReLU(W^T W x + b)_i)^2` over independent features; 0 or more.

    Of `weight` W (…, hidden, feature), `bias` b, `density` p and `importance` I (…, feature). Formula: the module's
    docstring; checked against numerical integration. It says how good a solution
    is, not whether training finds it. Cases broadcast and gradients flow; compute in float64, since terms
    cancel. Raises ModelError beyond 8 features, where 3^n terms become many.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> round(expected_loss(0 * one[:, None], one / 4, one / 2, one).item(), 6)  # p/3 - p^2/4
    0.104167
    """
    n_features = weight.shape[-1]
    if n_features > MAX_FEATURES:
        raise ModelError(
            f"{n_features} features make 3^{n_features} terms; the closed form is for {MAX_FEATURES} or fewer"
        )
    own_last = torch.tensor([[*(j for j in range(n_features) if j != i), i] for i in range(n_features)])
    coefficients = (weight.mT @ weight).take_along_dim(own_last.expand(*weight.shape[:-2], -1, -1), dim=-1)
    p = density[..., own_last]
    square, product = _square_and_product(bias, coefficients, p)
    return (importance * (density / 3 - 2 * product + square)).sum(-1)


def minimise(
    loss: Callable[..., Float[Tensor, "*case"]], start: Mapping[str, Float[Tensor, "*case parameter"]]
) -> tuple[Float[Tensor, "*case"], dict[str, Float[Tensor, "*case parameter"]]]:
    """The local minimum of `loss(**parameters)` that lies downhill of `start`, for many independent cases at once.

    Newton's method in float64, with steps along directions of negative curvature turned downhill, no longer than
    `MAX_STEP`, and taken only where they lower the loss: so it cannot leap into the flat region where ReLU is
    never active, nor from one geometry into another. Returns the losses and the parameters at the minimum.
    """
    sizes = [value.shape[-1] for value in start.values()]
    theta = torch.cat([value.double() for value in start.values()], dim=-1)

    def named(values: Tensor) -> dict[str, Tensor]:
        return dict(zip(start, values.split(sizes, dim=-1)))

    damping = torch.full_like(theta[..., :1], 1e-3)
    for _ in range(MAX_ITERATIONS):
        value, gradient, hessian = _derivatives(lambda values: loss(**named(values)), theta)
        curvature, axes = torch.linalg.eigh(hessian)
        along = (axes.mT @ gradient[..., None])[..., 0]
        step = -(
            axes @ (along / (curvature.abs() + damping * curvature.abs().amax(-1, keepdim=True) + TINY))[..., None]
        )
        step = step[..., 0]
        step = step * (MAX_STEP / step.norm(dim=-1, keepdim=True).clamp(min=MAX_STEP))
        lower = (loss(**named(theta + step)) < value)[..., None]
        theta = torch.where(lower, theta + step, theta)
        damping = torch.where(lower, damping / 4, damping * 8).clamp(min=1e-9)
        if ((step.norm(dim=-1) < TOLERANCE) | (damping[..., 0] > 1e9)).all():
            break
    return loss(**named(theta)), named(theta)


def _derivatives(
    loss: Callable[[Tensor], Float[Tensor, "*case"]], theta: Float[Tensor, "*case parameter"]
) -> tuple[Float[Tensor, "*case"], Float[Tensor, "*case parameter"], Float[Tensor, "*case parameter other"]]:
    """Loss, gradient and Hessian of each case; cases are independent, so their sum's derivatives are their own."""
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        value = loss(theta)
        (gradient,) = torch.autograd.grad(value.sum(), theta, create_graph=True)
        rows = [torch.autograd.grad(part.sum(), theta, retain_graph=True)[0] for part in gradient.unbind(-1)]
    return value.detach(), gradient.detach(), torch.stack(rows, dim=-2)


def not_represented_loss(density: Number) -> Number:
    """Loss of a feature of importance 1 that has no weight: its variance `p/3 - p^2/4`, with the bias at its mean.

    >>> round(not_represented_loss(1.0), 4)
    0.0833
    """
    return density / 3 - density**2 / 4


def _square_and_product(
    bias: Float[Tensor, "*case output"],
    coefficients: Float[Tensor, "*case output feature"],
    density: Float[Tensor, "*case output feature"],
) -> tuple[Float[Tensor, "*case output"], Float[Tensor, "*case output"]]:
    """Means of `ReLU(z)^2` and of `x ReLU(z)`, for `z = b + sum_j c_j x_j` and x the last feature."""
    terms = _Terms(bias[..., None], torch.ones_like(bias)[..., None], torch.zeros_like(bias)[..., None])
    for j in range(coefficients.shape[-1] - 1):
        terms = _over_feature(terms, coefficients[..., j : j + 1], density[..., j : j + 1])
    own, p = coefficients[..., -1:], density[..., -1:]
    return 2 * _over_feature(terms, own, p).sum(2), _over_own_feature(terms, own, p).sum(1)


class _Terms(NamedTuple):
    """`sum weight R_(power + raised)(shift)`, the terms along the last dimension."""

    shift: Float[Tensor, "*case output term"]
    weight: Float[Tensor, "*case output term"]
    raised: Float[Tensor, "*case output term"]

    def sum(self, power: int) -> Float[Tensor, "*case output"]:
        order = self.raised + power
        return (self.weight * self.shift.clamp(min=0) ** order / torch.exp(torch.lgamma(order + 1))).sum(-1)


def _over_feature(terms: _Terms, c: Float[Tensor, "*case output 1"], p: Float[Tensor, "*case output 1"]) -> _Terms:
    """The mean of the terms over a feature with coefficient c."""
    low, high = GAUSS_NODES
    divisor = torch.where(c.abs() < SMALL, 1.0, c)
    exact = ((0, 1 - p, 0), (c, p / divisor, 1), (0, -p / divisor, 1))
    at_nodes = ((0, 1 - p), (c * low, p / 2), (c * high, p / 2))
    return _replace(terms, exact, at_nodes, c)


def _over_own_feature(terms: _Terms, c: Float[Tensor, "*case output 1"], p: Float[Tensor, "*case output 1"]) -> _Terms:
    """The mean of the feature times the terms."""
    low, high = GAUSS_NODES
    divisor = torch.where(c.abs() < SMALL, 1.0, c)
    exact = ((c, p / divisor, 1), (c, -p / divisor**2, 2), (0, p / divisor**2, 2))
    at_nodes = ((0, 0), (c * low, p * low / 2), (c * high, p * high / 2))
    return _replace(terms, exact, at_nodes, c)


def _replace(
    terms: _Terms,
    exact: Sequence[tuple[Tensor | float, Tensor, int]],
    at_nodes: Sequence[tuple[Tensor | float, Tensor | float]],
    c: Float[Tensor, "*case output 1"],
) -> _Terms:
    """Each term becomes three, (shift, factor, rise of the power), or (shift, factor) at the nodes where c is small."""
    small = c.abs() < SMALL
    made = []
    for (shift, factor, rise), (node_shift, node_factor) in zip(exact, at_nodes, strict=True):
        moved = terms.shift + torch.where(small, torch.as_tensor(node_shift), torch.as_tensor(shift))
        weight = terms.weight * torch.where(small, torch.as_tensor(node_factor), factor)
        raised = terms.raised + torch.where(small, 0, rise)
        made.append(torch.broadcast_tensors(moved, weight, raised))
    return _Terms(*(torch.cat(parts, dim=-1) for parts in zip(*made, strict=True)))
