"""Training many toy models as one computation, with their whole trajectory as a history.

The gradient of `x' = ReLU(W^T W x + b)` is short enough to write down, which spares autograd's
bookkeeping. Instances are taken a few at a time, so that their activations stay in the processor's
cache; their weights are one tensor to the optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import ModelError
from ..system.process_state import undisturbed
from ..system.progress import progress_bar
from ..system.real_numbers import real_number, real_numbers
from ..system.whole_numbers import whole_number, whole_numbers
from .history import labelled
from .model import Batch, FeatureSampler, ToyModels, initial_weights

N_EVALUATION_SAMPLES = 16384
CACHED_NUMBERS = 2**18  # activations of the instances taken at a time: 1 MiB of float32
SCHEDULES = ("constant", "cosine")


class TrainingSettings(TypedDict, total=False):
    """Settings of `train_toy_models` that experiments pass on to it."""

    n_steps: int
    batch_size: int
    learning_rate: float
    schedule: str
    warmup_steps: int
    weight_decay: float
    data_seed: int


def overridden(defaults: TrainingSettings, training: TrainingSettings | None) -> TrainingSettings:
    """The `defaults` of an experiment with a user's `training` settings over them.

    Raises ModelError if there is no such setting.
    """
    known = TrainingSettings.__annotations__
    if training is not None and (not isinstance(training, Mapping) or not training.keys() <= known.keys()):
        raise ModelError(f"training={training!r} must map names of settings to values; there are {', '.join(known)}")
    return {**defaults, **(training or {})}


def log_spaced_steps(n_steps: int, n_recorded: int) -> list[int]:
    """Step 0 and about `n_recorded` whole steps from 1 to `n_steps`, evenly spaced in their logarithm.

    Raises ModelError unless both are whole numbers of at least 1.

    >>> log_spaced_steps(1000, 4)
    [0, 1, 10, 100, 1000]
    """
    n_steps = whole_number(n_steps, "n_steps", 1, ModelError)
    n_recorded = whole_number(n_recorded, "n_recorded", 1, ModelError)
    return [0, *np.unique(np.geomspace(1, n_steps, n_recorded).round().astype(int)).tolist()]


@undisturbed()
def train_toy_models(
    models: ToyModels,
    n_steps: int = 10_000,
    batch_size: int = 1024,
    learning_rate: float = 1e-3,
    schedule: str = "constant",
    warmup_steps: int = 0,
    weight_decay: float = 0.0,
    steps: ArrayLike | None = None,
    points: Float[np.ndarray, "instance point feature"] | None = None,
    labels: Mapping[str, ArrayLike] | None = None,
    data_seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Train all instances of `models` with AdamW on `sum_i I_i (x_i - x'_i)^2`; return their history.

    The defaults but `weight_decay` are those of E22's published notebook: `n_steps` steps of `batch_size` samples at
    a peak `learning_rate`. Each step draws a fresh batch by `data_seed`, the same random numbers for all instances;
    with `points` it takes the instance's whole data set instead. `schedule` is `constant` or `cosine`, which falls to
    zero at the last step; either begins with a linear rise over `warmup_steps`. `steps` are the steps to record, by
    default 40 evenly spaced in their logarithm; `labels` are coordinates along `instance` to carry in the history.
    `progress` shows a bar.

    Returns a Dataset of `weight` (instance, step, hidden, feature), `bias` (instance, step, feature) and
    `loss` (instance, step), the loss on 16,384 fresh samples that are the same at each step; with `points`
    also `training_loss` and the points. Equal arguments give equal histories
    on the same machine, with the same versions and number of threads.

    Raises ModelError for settings outside their range or points that do not fit the models.
    """
    if not isinstance(models, ToyModels):
        raise ModelError(f"models={models!r:.80} must be ToyModels")
    n_steps = whole_number(n_steps, "n_steps", 1, ModelError)
    batch_size = whole_number(batch_size, "batch_size", 1, ModelError)
    learning_rate = real_number(learning_rate, "learning_rate", "(0, inf)", ModelError)
    warmup_steps = whole_number(warmup_steps, "warmup_steps", 0, ModelError)
    weight_decay = real_number(weight_decay, "weight_decay", "[0, inf)", ModelError)
    data_seed = whole_number(data_seed, "data_seed", 0, ModelError)
    record = _steps_to_record(steps, n_steps)
    if schedule not in SCHEDULES:
        raise ModelError(f"schedule={schedule!r} must be {' or '.join(SCHEDULES)}")
    expected = (models.n_instances, models.n_features)
    points = None if points is None else real_numbers(points, "points", "(-inf, inf)", ModelError)
    if points is not None and (points.ndim != 3 or (len(points), points.shape[2]) != expected or not points.size):
        raise ModelError(
            f"points of shape {points.shape} do not fit the models; give ({expected[0]}, any number, {expected[1]})"
        )

    trainer = _Trainer(models, learning_rate, weight_decay)
    sampler = FeatureSampler(models, data_seed, "training")
    fresh = FeatureSampler(models, data_seed, "evaluation").batch(N_EVALUATION_SAMPLES)
    if points is not None:
        batch_size = points.shape[1]
        own = torch.as_tensor(points, dtype=torch.float32).mT.__getitem__
    recorded: dict[str, list[np.ndarray]] = {"weight": [], "bias": [], "loss": []}
    with progress_bar(progress) as bar, torch.no_grad():
        task = bar.add_task(f"{models.n_instances} toy models", total=n_steps, at="")
        for step in range(n_steps + 1):
            if step in record:
                recorded["weight"].append(trainer.parameters[:, :-1].numpy().copy())
                recorded["bias"].append(trainer.parameters[:, -1].numpy().copy())
                recorded["loss"].append(trainer.losses(fresh, N_EVALUATION_SAMPLES))
                if points is not None:
                    recorded.setdefault("training_loss", []).append(trainer.losses(own, batch_size))
                bar.update(task, at=f"median loss {np.median(recorded['loss'][-1]):.4f}")
            if step < n_steps:
                batch = sampler.batch(batch_size) if points is None else own
                trainer.step(batch, batch_size, learning_rate * _factor(step, n_steps, schedule, warmup_steps))
                bar.advance(task)
    values = {name: np.stack(arrays, axis=1) for name, arrays in recorded.items()}
    values |= {} if points is None else {"point": np.asarray(points, dtype=np.float32)}
    coords: dict[str, ArrayLike] = {
        "step": record,
        "density": models.density,
        "importance": models.importance,
        "seed": models.seed,
    }
    settings = {
        "activation": models.activation,
        "correlation": models.correlation if models.feature_sets else "none",
        "feature_sets": str(models.feature_sets),
        "unit_length": int(models.unit_length),
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "warmup_steps": warmup_steps,
        "weight_decay": weight_decay,
        "data_seed": data_seed,
        "torch": str(torch.__version__),
    }
    return labelled(values, {**coords, **(labels or {})}, settings)


class _Trainer:
    """The parameters of all instances, (instance, hidden and bias, feature), and how they learn."""

    def __init__(self, models: ToyModels, learning_rate: float, weight_decay: float):
        self.parameters = initial_weights(models)
        self._gradient = self.parameters.grad = torch.zeros_like(self.parameters)
        self._optimiser = torch.optim.AdamW([self.parameters], lr=learning_rate, weight_decay=weight_decay, fused=True)
        self._importance = torch.tensor(models.importance, dtype=torch.float32)[:, None]
        self._relu = models.activation == "relu"

    def step(self, batch: Batch, n_samples: int, learning_rate: float) -> None:
        for part in self._parts(n_samples):
            self._gradient[part] = loss_gradient(self.parameters[part], batch(part), self._importance[part], self._relu)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate
        self._optimiser.step()

    def losses(self, batch: Batch, n_samples: int) -> Float[np.ndarray, " instance"]:
        """Mean loss of each instance on a batch."""
        of_parts = []
        for part in self._parts(n_samples):
            x = batch(part)
            _, output = reconstruct(self.parameters[part], x, self._relu)
            by_feature = output.sub_(x).square_().mean(dim=-1)
            of_parts.append((by_feature * self._importance[part, 0]).sum(dim=-1))
        return torch.cat(of_parts).numpy()

    def _parts(self, n_samples: int) -> list[slice]:
        """The instances, as many at a time as fit the caches of the processors in use."""
        n_instances, _, n_features = self.parameters.shape
        size = max(1, CACHED_NUMBERS * torch.get_num_threads() // (n_samples * n_features))
        return [slice(start, min(start + size, n_instances)) for start in range(0, n_instances, size)]


def reconstruct(
    parameters: Float[Tensor, "instance hidden_and_bias feature"],
    x: Float[Tensor, "*instance feature sample"],
    relu: bool,
) -> tuple[Float[Tensor, "instance hidden_and_bias sample"], Float[Tensor, "instance feature sample"]]:
    """The hidden vectors, with a row of ones below for the biases to multiply, and the outputs `x'`."""
    hidden = parameters.new_ones(*parameters.shape[:2], x.shape[-1])
    hidden[:, :-1] = torch.matmul(parameters[:, :-1], x)
    output = torch.bmm(parameters.mT, hidden)
    return hidden, output.relu_() if relu else output


def loss_gradient(
    parameters: Float[Tensor, "instance hidden_and_bias feature"],
    x: Float[Tensor, "*instance feature sample"],
    importance: Float[Tensor, "instance 1 feature"],
    relu: bool,
) -> Float[Tensor, "instance hidden_and_bias feature"]:
    """Gradient of the mean over samples of `sum_i I_i (x'_i - x_i)^2`, by hand.

    With the errors `e = x' - x` where ReLU lets them through, and `s_i = 2 I_i / n_samples`, a weight
    `W_ki` gets `s_i sum e_i h_k` from decoding and `sum x_i sum_j s_j W_kj e_j` from encoding.
    """
    hidden, output = reconstruct(parameters, x, relu)
    error = output - x
    if relu:
        error = torch.ops.aten.threshold_backward(error, output, 0)
    scale = importance * (2 / x.shape[-1])
    gradient = torch.bmm(hidden, error.mT) * scale
    gradient[:, :-1] += torch.matmul(torch.bmm(parameters[:, :-1] * scale, error), x.mT)
    return gradient


def _factor(step: int, n_steps: int, schedule: str, warmup_steps: int) -> float:
    """Learning rate of the step after `step` others, as a share of its peak."""
    rise = min(1.0, (step + 1) / (warmup_steps + 1))
    return rise * (0.5 + 0.5 * math.cos(math.pi * step / n_steps) if schedule == "cosine" else 1.0)


def _steps_to_record(steps: ArrayLike | None, n_steps: int) -> list[int]:
    if steps is None:
        return log_spaced_steps(n_steps, 40)
    record: list[int] = np.unique(whole_numbers(steps, "steps", 0, ModelError)).tolist()
    if record[-1] > n_steps:
        raise ModelError(f"steps={record} must be whole numbers from 0 to n_steps={n_steps}")
    return record
