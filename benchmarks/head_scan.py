"""What a scan costs, in bare forward passes: `python benchmarks/head_scan.py`.

A bare pass is `model(tokens)` on the same prompts, logits and all. Ratios are of the best of several
timings taken in turns; memory is the peak above what the process had before. `… cuda` measures on a GPU instead.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import logging
import warnings

import torch
from common import best_of, peak_bytes, random_gpt2

import inductionkit as ik
from inductionkit.scores.prompts import PromptSettings, repeated_random_tokens

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
SHAPE = {"n_layers": 12, "n_heads": 12, "d_model": 768, "d_vocab": 50257}
COMPOSITION = ("k_composition", "q_composition", "v_composition")


def bare_pass(model, tokens):
    with torch.no_grad():
        return model(tokens)


def detect_heads(model, tokens):
    """TransformerLens' own detector for its three patterns; it takes detection patterns, and prompts one at a time."""
    from transformer_lens import head_detector

    text = tokens.clone()
    for name in ("previous_token_head", "duplicate_token_head", "induction_head"):
        for row in text:
            pattern = getattr(head_detector, f"get_{name}_detection_pattern")(row[None].cpu())
            _, cache = model.run_with_cache(row[None], remove_batch_dim=True)
            for layer in range(model.cfg.n_layers):
                for head in range(model.cfg.n_heads):
                    head_detector.compute_head_attention_similarity_score(
                        cache["pattern", layer][head], pattern, exclude_bos=False, exclude_current_token=False,
                        error_measure="mul",
                    )  # fmt: skip


def ratios(model, prompts: PromptSettings, n: int) -> tuple[float, dict[str, float]]:
    device = next(model.parameters()).device
    tokens = repeated_random_tokens(model.cfg.d_vocab, model.cfg.d_vocab - 1, prompts).to(device)
    calls = {
        "bare pass": lambda: bare_pass(model, tokens),
        "QK + OV scan": lambda: ik.scan_heads(model, prompts=prompts),
        "QK scan": lambda: ik.scan_heads(model, scores=("prefix_matching", "duplicate_token"), prompts=prompts),
        "ov_copying": lambda: ik.scan_heads(model, scores=("ov_copying",)),
        "composition": lambda: ik.scan_heads(model, scores=COMPOSITION),
    }
    seconds = best_of(calls, n)
    bare = seconds.pop("bare pass")
    return bare, {name: taken / bare for name, taken in seconds.items()}


def on_device(device: str) -> None:
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name(device)}")
    for name, shape in (("GPT-2 small", SHAPE), ("GPT-2 XL", SHAPE | {"n_layers": 48, "n_heads": 25, "d_model": 1600})):
        bare, found = ratios(random_gpt2(**shape).to(device, print_details=False), PromptSettings(), 5)
        print(f"{name}'s shape, 10 x 101 tokens; a bare pass takes {1000 * bare:.0f} ms, and of it")
        for what, ratio in found.items():
            print(f"  {what:<14} {ratio:5.2f}")


def main() -> None:
    if len(sys.argv) > 1:
        return on_device(sys.argv[1])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    model, prompts = random_gpt2(**SHAPE), PromptSettings()
    tokens = repeated_random_tokens(SHAPE["d_vocab"], SHAPE["d_vocab"] - 1, prompts)

    bare, found = ratios(model, prompts, 5)
    print(f"\nGPT-2 small's shape, 10 x 101 tokens; a bare pass takes {bare:.2f} s, and of it")
    for name, ratio in found.items():
        print(f"  {name:<14} {ratio:5.2f}")
    # What takes many passes is timed once.
    effects = best_of({"loss_effect": lambda: ik.scan_heads(model, scores=("loss_effect",))}, 1)
    print(f"  {'loss_effect':<14} {effects['loss_effect'] / bare:5.2f}")
    once = best_of({"scan": lambda: ik.scan_heads(model), "detect_head": lambda: detect_heads(model, tokens)}, 1)
    print(f"  detect_head, its three patterns on the same prompts: {once['detect_head'] / once['scan']:.1f} x the scan")
    passes = {"bare pass": lambda: bare_pass(model, tokens), "scan": lambda: ik.scan_heads(model)}
    print("  peak memory, MB:", {name: round(peak_bytes(call) / 2**20) for name, call in passes.items()})

    print("\nGrowth, each against a bare pass of its own (QK + OV scan, ov_copying, composition):")
    base = {"n_layers": 4, "n_heads": 8, "d_model": 512, "d_vocab": 16384}
    changes = (
        {}, {"n_layers": 2}, {"n_layers": 8}, {"n_heads": 4}, {"n_heads": 16}, {"d_vocab": 4096}, {"d_vocab": 65536},
        {"n_repeats": 2}, {"n_repeats": 8}, {"n_repeats": 16},
    )  # fmt: skip
    for change in changes:
        shape = {**base, **change}
        settings = PromptSettings(n_repeats=shape.pop("n_repeats", 4))
        bare, found = ratios(random_gpt2(**shape), settings, 3)
        told = ", ".join(f"{key}={value}" for key, value in change.items()) or "4 layers, 8 heads, 512, 16k, 101 tokens"
        print(
            f"  {told:<42} {bare:6.2f} s   "
            + "  ".join(f"{found[name]:5.2f}" for name in ("QK + OV scan", "ov_copying", "composition"))
        )


if __name__ == "__main__":
    main()
