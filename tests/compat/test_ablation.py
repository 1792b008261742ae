"""Ablations on `HookedTransformer`, in an environment with TransformerLens 2 or 3, against its own hooks one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compat.test_hooked_transformer import KINDS, TEXT, random_model

from inductionkit.ablation import scan_ablations
from inductionkit.lens import HeadZeroing


@torch.no_grad()
def hooked_losses(model, layer, head, kind):
    def zero(z, hook):
        z[:, :, head] = 0
        return z

    hooks = [(f"blocks.{layer}.attn.hook_z", zero)]
    if kind == "pattern_preserving":
        _, cache = model.run_with_cache(TEXT, names_filter=lambda name: name.endswith("hook_pattern"))
        hooks += [(name, lambda pattern, hook, clean=clean: clean) for name, clean in cache.items()]
    losses = model.run_with_hooks(TEXT, return_type="loss", loss_per_token=True, fwd_hooks=hooks)
    return losses.mean(0).numpy()


@pytest.mark.parametrize("kind", ["full", "pattern_preserving"])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("whole", [False, True])
def test_all_heads_in_turn_equal_hooks(name, kind, whole, monkeypatch):
    model, restarted = random_model(**KINDS[name]), []
    plain = HeadZeroing._restartable
    monkeypatch.setattr(HeadZeroing, "_restartable", lambda *args: restarted.extend(plain(*args)) or set(restarted))
    if whole:
        monkeypatch.setattr(HeadZeroing, "_restarts", lambda *args: False)
    found = scan_ablations(model, TEXT, kind=kind, progress=False)
    assert restarted == ([] if whole else [0, 1])
    for layer in range(2):
        for head in range(4):
            expected = hooked_losses(model, layer, head, kind)
            np.testing.assert_allclose(found.loss_by_position.sel(layer=layer, head=head), expected, atol=1e-5)
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    assert not any("forward" in vars(module) for module in model.modules())
