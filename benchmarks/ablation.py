"""What ablating every head in turn costs: `python benchmarks/ablation.py`.

Against hooked passes: as many as there are heads, `model.run_with_hooks(tokens)` with `hook_z` of a head
zeroed (and all patterns set), logits but no loss. Against the work that cannot be avoided: for each head
the blocks after its own, the MLP of its own block if that reads what attention wrote, the unembedding, and
the loss of every token, each timed by itself; without and with the one clean pass that results are
compared with. Seconds of one CPU, which other programs disturb less than seconds of the clock, and medians
of rounds in which all are timed in turns.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import logging
import statistics
import time
import warnings

import torch
from common import random_gpt2

from inductionkit.ablation import scan_ablations
from inductionkit.lens import build_model

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)


def attention_only(n_layers: int, n_heads: int, d_model: int, d_vocab: int):
    """A random model as the ones that are trained here."""
    torch.manual_seed(0)
    shape = {"n_layers": n_layers, "n_heads": n_heads, "d_model": d_model, "d_head": d_model // n_heads}
    return build_model({**shape, "n_ctx": 512, "d_vocab": d_vocab, "d_mlp": None, "eps": 1e-5})


def seconds(call, n: int = 3) -> float:
    """The median of `n` timings."""
    timings = []
    for _ in range(n):
        began = time.process_time()
        call()
        timings.append(time.process_time() - began)
    return statistics.median(timings)


@torch.no_grad()
def parts(model, tokens):
    """Calls of what a pass is made of, on activations of the right shape."""
    residual = torch.randn(*tokens.shape, model.cfg.d_model)
    logits = torch.randn(*tokens.shape, model.cfg.d_vocab)
    block = model.blocks[0]
    calls = {
        "block": lambda: block(residual),
        "unembedding": lambda: model.unembed(model.ln_final(residual)),
        "loss": lambda: [torch.nn.functional.cross_entropy(a, b, reduction="none") for a, b in zip(logits, tokens)],
    }
    if not model.cfg.attn_only:
        calls["MLP"] = lambda: block.mlp(block.ln2(residual))
    return calls


@torch.no_grad()
def hooked_pass(model, tokens, pattern=None):
    def zero(z, hook):
        z[:, :, 0] = 0
        return z

    hooks = [("blocks.0.attn.hook_z", zero)]
    if pattern is not None:
        hooks += [(f"blocks.{layer}.attn.hook_pattern", lambda _, hook, kept=kept: kept) for layer, kept in pattern]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@torch.no_grad()
def patterns(model, tokens):
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))
    return [(layer, cache[f"blocks.{layer}.attn.hook_pattern"]) for layer in range(model.cfg.n_layers)]


def show(name: str, model, n_sequences: int, length: int, n_rounds: int) -> None:
    tokens = torch.randint(0, model.cfg.d_vocab, (n_sequences, length), generator=torch.Generator().manual_seed(0))
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_layers * model.cfg.n_heads
    frozen = patterns(model, tokens)
    found: dict[str, list[float]] = {}
    for _ in range(n_rounds):
        with torch.no_grad():
            part = {name: seconds(call) for name, call in parts(model, tokens).items()}
        last = part["unembedding"] + part["loss"]
        ablated = (n_layers - 1) / 2 * part["block"] + part.get("MLP", 0) + last
        full = seconds(lambda: scan_ablations(model, tokens, progress=False), 1) / n_heads
        hooked = seconds(lambda: hooked_pass(model, tokens))
        preserving = (
            seconds(lambda: scan_ablations(model, tokens, kind="pattern_preserving", progress=False), 1) / n_heads
        )
        hooked_patterns = seconds(lambda: hooked_pass(model, tokens, frozen))
        for what, ratio in {
            "full / hooked passes": full / hooked,
            "full / unavoidable work": full / ablated,
            "full / the same and a clean pass": full / (ablated + (n_layers * part["block"] + last) / n_heads),
            "pattern-preserving / hooked passes": preserving / hooked_patterns,
        }.items():
            found.setdefault(what, []).append(ratio)
    print(f"\n{name}, {n_sequences} x {length} tokens, {n_heads} heads; a hooked pass takes {hooked:.2f} s")
    for what, ratios in found.items():
        print(f"  {what:<36} {statistics.median(ratios):5.2f}   ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    show("2 layers, attention only, 2k vocabulary", attention_only(2, 4, 128, 2048), 8, 512, n_rounds=7)
    show("4 layers of 8 heads, 512, 16k vocabulary", random_gpt2(4, 8, 512, 16384), 4, 101, n_rounds=5)
    show("GPT-2 small's shape", random_gpt2(), 4, 101, n_rounds=1)


if __name__ == "__main__":
    main()
