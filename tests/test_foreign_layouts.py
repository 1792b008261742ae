"""Checkpoints of nanoGPT, llm.c, Lightning, DeepSpeed and FSDP: opened as what they are, or refused with a way on."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_layouts import TOKENS, NanoGPT, logits_of, nano_gpt_content, prefixed, write_llm_c
from listed_runs import tiny_gpt2
from safetensors.torch import load_file, save_file

import inductionkit as ik
from inductionkit.errors import ModelError, RunError
from inductionkit.system.wrapper_names import without_wrapper_names

STEPS = (0, 500, 1000)


def same_logits(run, step: int, expected: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(run.load_model(step)(TOKENS), expected, atol=1e-5, rtol=0)


def save(folder: Path, name: str, model: NanoGPT, step: int, /, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(nano_gpt_content(model, step, **changes), folder / name)
    return folder / name


# nanoGPT


@pytest.mark.parametrize("bias", [True, False])
def test_a_folder_of_nano_gpt(bias, tmp_path):
    models = {step: NanoGPT(step, bias=bias) for step in STEPS}
    for step, model in models.items():
        save(tmp_path / "out", f"ckpt_{step:06d}.pt", model, step)
    run = ik.open_run(tmp_path / "out")
    assert repr(run) == "Run(out: GPT-2; 3 checkpoints, steps 0 to 1,000, 0.00M to 30.72M tokens)"
    assert [entry.tokens_seen for entry in run.checkpoints] == [0, 500 * 12 * 64 * 40, 1000 * 12 * 64 * 40]
    assert [run.model[name] for name in ("n_layers", "n_heads", "n_ctx", "d_vocab")] == [3, 4, 64, 70]
    for step, model in models.items():
        same_logits(run, step, logits_of(model))
    same_logits(pickle.loads(pickle.dumps(run)), 500, logits_of(models[500]))  # as a worker gets it


def with_masks(weights):
    mask = torch.ones(64, 64).tril()[None, None]
    return weights | {f"transformer.h.{layer}.attn.bias": mask for layer in range(3)}


WEIGHTS = {
    "compiled": lambda weights: prefixed(weights, "_orig_mod."),
    "in parallel": lambda weights: prefixed(weights, "module."),
    "compiled, then in parallel": lambda weights: prefixed(weights, "module._orig_mod."),
    "in parallel, then compiled": lambda weights: prefixed(weights, "_orig_mod.module."),
    "blocks compiled": lambda weights: {name.replace(".h.1.", ".h.1._orig_mod."): w for name, w in weights.items()},
    "with masks, as before torch 2": with_masks,
    "without the tied unembedding": lambda weights: {n: w for n, w in weights.items() if n != "lm_head.weight"},
    "in bfloat16": lambda weights: {name: weight.bfloat16() for name, weight in weights.items()},
}


@pytest.mark.parametrize("form", WEIGHTS)
def test_forms_of_the_same_weights(form, tmp_path):
    model = NanoGPT(1)
    if form == "in bfloat16":
        model.load_state_dict({name: weight.bfloat16().float() for name, weight in model.state_dict().items()})
    save(tmp_path, "ckpt.pt", model, 250, model=WEIGHTS[form](model.state_dict()))
    same_logits(ik.open_run(tmp_path), 250, logits_of(model))


@pytest.mark.parametrize(
    "name", ["ckpt.pt", "ckpt_000500.pt", "ckpt-500.pt", "ckpt500.pt", "ckpt_iter_500.pt", "state_step500.pth"]
)
def test_names_of_files(name, tmp_path):
    save(tmp_path, name, NanoGPT(), 500)
    assert ik.open_run(tmp_path).steps == [500]
    assert ik.open_run(tmp_path / name).steps == [500]
    weights = {"model": NanoGPT().state_dict(), "model_args": NanoGPT().args}  # without iter_num
    torch.save(weights, tmp_path / name)
    assert ik.open_run(tmp_path).steps == [0 if name == "ckpt.pt" else 500]


def test_the_step_in_a_file_comes_before_the_number_in_its_name(tmp_path):
    for number in (1, 2, 10):
        save(tmp_path, f"ckpt_{number}.pt", NanoGPT(number), 250 * number)
    run = ik.open_run(tmp_path)
    assert run.steps == [250, 500, 2500]
    same_logits(run, 2500, logits_of(NanoGPT(10)))
    named = ik.open_run(tmp_path, pattern=r"ckpt_(?P<step>\d+)\.pt", checkpoints=[1, 10])
    assert named.steps == [1, 10]
    same_logits(named, 1, logits_of(NanoGPT(1)))


def test_the_file_that_is_overwritten_beside_those_that_are_kept(tmp_path):
    save(tmp_path, "ckpt_500.pt", NanoGPT(5), 500)
    save(tmp_path, "ckpt.pt", NanoGPT(5), 500)
    assert [Path(entry.name).name for entry in ik.open_run(tmp_path).checkpoints] == ["ckpt_500.pt"]
    save(tmp_path, "ckpt.pt", NanoGPT(7), 700)
    run = ik.open_run(tmp_path)
    assert run.steps == [500, 700]
    same_logits(run, 700, logits_of(NanoGPT(7)))
    save(tmp_path, "ckpt.pt", NanoGPT(8), 800)
    with pytest.raises(RunError, match=r"ckpt\.pt was of step 700 and now is of step 800; open the run again"):
        run.checkpoint(700).read()
    save(tmp_path, "ckpt_0500.pt", NanoGPT(5), 500)
    with pytest.raises(RunError, match=r"ckpt_0500\.pt and ckpt_500\.pt both are step 500; pass a pattern="):
        ik.open_run(tmp_path)


def test_other_files_in_the_folder(tmp_path):
    save(tmp_path, "ckpt_5.pt", NanoGPT(5), 5)
    torch.save(torch.optim.AdamW(NanoGPT().parameters()).state_dict(), tmp_path / "optimizer.pt")
    torch.save(torch.get_rng_state(), tmp_path / "rng_state.pth")
    torch.save({"n_tokens": 5, "tokens": torch.ones(3)}, tmp_path / "tokens.pt")
    (tmp_path / "wandb").mkdir()
    (tmp_path / "data.bin").write_bytes(bytes(100))
    assert ik.open_run(tmp_path).steps == [5]


def test_tokens_of_a_step(tmp_path):
    file = save(tmp_path, "ckpt_10.pt", NanoGPT(), 10)
    assert ik.open_run(file, tokens_per_step=100).checkpoints[0].tokens_seen == 1000
    for config in ({"batch_size": 12}, {"batch_size": "12", "block_size": 64, "gradient_accumulation_steps": 1}, None):
        save(tmp_path, "ckpt_20.pt", NanoGPT(), 20, config=config)
        assert ik.open_run(tmp_path / "ckpt_20.pt").checkpoints[0].tokens_seen is None
        assert [entry.tokens_seen for entry in ik.open_run(tmp_path).checkpoints] == [None, None]


def test_the_losses_that_nano_gpt_printed(tmp_path):
    save(tmp_path, "ckpt_10.pt", NanoGPT(), 10)
    (tmp_path / "log.txt").write_text("iter 0: loss 4.2500, time 900.00ms\niter 10: loss 4.0000, time 50.00ms\n")
    records = ik.open_run(tmp_path).log()
    assert [(entry["step"], entry["loss"], entry["tokens_seen"]) for entry in records] == [
        (0, 4.25, 0),
        (10, 4.0, 10 * 12 * 64 * 40),
    ]
    told = ik.open_run(tmp_path, log=tmp_path / "log.txt").log()
    assert told == records


def test_a_damaged_file_or_one_of_another_model_spoils_no_other(tmp_path):
    for step in (1, 2, 3, 4):
        save(tmp_path, f"ckpt_{step}.pt", NanoGPT(step, n_head=2 if step == 1 else 4), step)
    file = tmp_path / "ckpt_2.pt"
    file.write_bytes(file.read_bytes()[:-1000])
    run = ik.open_run(tmp_path)
    assert run.steps == [1, 2, 3, 4]
    same_logits(run, 3, logits_of(NanoGPT(3)))
    with pytest.raises(RunError, match=r"ckpt_1\.pt is a checkpoint of another model: it has n_head=2, the run 4"):
        run.checkpoint(1).read()
    with pytest.raises(RunError, match=r"ckpt_2\.pt is cut short"):
        run.checkpoint(2).read()
    torch.save(NanoGPT(4).state_dict(), tmp_path / "ckpt_4.pt")
    with pytest.raises(RunError, match=r"ckpt_4\.pt has no model_args"):
        ik.open_run(tmp_path).checkpoint(4).read()


def test_the_model_that_was_given_takes_the_files_as_they_are(tmp_path):
    """A file of nanoGPT does not fit Hugging Face's GPT-2, whose matrices are transposed; its own names do."""
    import transformers

    config = transformers.GPT2Config(vocab_size=70, n_positions=64, n_embd=32, n_layer=3, n_head=4)
    save(tmp_path, "ckpt_5.pt", NanoGPT(5), 5)
    with pytest.raises(ik.InductionKitError, match="do not fit the model"):
        ik.open_run(tmp_path, model=transformers.GPT2LMHeadModel(config)).load_model()


# What is no GPT-2 of nanoGPT


OTHERS = {
    "rotary": (
        {"model": lambda w: {n: v for n, v in w.items() if "wpe" not in n}},
        r"lacks transformer\.wpe\.weight and",
    ),
    "query norm": (
        {"model": lambda w: {**w, "transformer.h.0.attn.q_norm.weight": torch.ones(8)}},
        r"has transformer\.h\.0\.attn\.q_norm\.weight\.",
    ),
    "RMS norm": ({"model_args": lambda args: {**args, "use_rmsnorm": True}}, r"its model_args have use_rmsnorm=True"),
    "fewer layers": ({"model_args": lambda args: {**args, "n_layer": 10**9}}, r"is not nanoGPT's GPT-2: it lacks "),
    "more layers": ({"model_args": lambda args: {**args, "n_layer": 2}}, r"has transformer\.h\.2\.attn"),
    "no biases": ({"model_args": lambda args: {**args, "bias": False}}, r"has transformer\.h\.0\.attn\.c_attn\.bias"),
    "context": ({"model_args": lambda args: {**args, "block_size": 65}}, r"its transformer\.wpe\.weight is \(64, 32\)"),
    "vocabulary": (
        {"model_args": lambda args: {**args, "vocab_size": 7}},
        r"its transformer\.wte\.weight is \(70, 32\)",
    ),
    "heads": ({"model_args": lambda args: {**args, "n_head": 5}}, r"has model_args of no GPT-2: .*'n_head': 5"),
    "text": ({"model_args": lambda args: {**args, "n_embd": "32"}}, r"has model_args of no GPT-2: .*'n_embd': '32'"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_descendants_with_another_architecture(other, tmp_path):
    changes, expected = OTHERS[other]
    content = nano_gpt_content(NanoGPT(), 5)
    torch.save(
        {name: changes.get(name, lambda same: same)(entry) for name, entry in content.items()}, tmp_path / "ckpt.pt"
    )
    with pytest.raises(RunError, match=expected) as refused:
        ik.open_run(tmp_path)
    if "model_args of no" not in str(refused.value):
        assert "docs/how_to/your_own_architecture.md" in str(refused.value)


def test_an_unembedding_of_its_own(tmp_path):
    weights = NanoGPT().state_dict()
    save(tmp_path, "ckpt.pt", NanoGPT(), 5, model={**weights, "lm_head.weight": weights["lm_head.weight"] + 1})
    with pytest.raises(RunError, match=r"its lm_head\.weight is not its transformer\.wte\.weight"):
        ik.open_run(tmp_path).load_model()


@pytest.mark.parametrize("where", [(3, 5), slice(None)])
def test_a_training_that_diverged(where, tmp_path):
    """Its NaN are the fault, not the unembedding, which is the embedding."""
    model = NanoGPT()
    model.transformer["wte"].weight.data[where] = float("nan")
    save(tmp_path, "ckpt.pt", model, 5)
    run = ik.open_run(tmp_path)
    with pytest.raises(ModelError, match=r"holds NaN or infinite values; load an intact checkpoint"):
        ik.scan_heads(run.load_model(), prompts=ik.PromptSettings(n_distinct=10), progress=False)
    other = {**model.state_dict(), "lm_head.weight": model.lm_head.weight.nan_to_num(1.0)}
    save(tmp_path, "ckpt.pt", model, 5, model=other)
    with pytest.raises(RunError, match=r"its lm_head\.weight is not its transformer\.wte\.weight"):
        ik.open_run(tmp_path).load_model()


def test_a_file_that_does_not_say_what_model_it_is_of(tmp_path):
    weights = {"embed.weight": torch.ones(9, 4), "blocks.0.attn.qkv_w": torch.ones(12, 4)}
    torch.save(
        {"step": 500, "code": "import torch", "model": weights, "optimizers": []}, tmp_path / "state_step000500.pt"
    )
    with pytest.raises(
        RunError, match=r"no model_args, .* no config\.json .*Pass model=.*seen blocks\.0\.attn\.qkv_w"
    ) as refused:
        ik.open_run(tmp_path)
    assert "docs/how_to/your_own_architecture.md" in str(refused.value)
    assert (Path(__file__).parents[1] / "docs" / "how_to" / "your_own_architecture.md").is_file()


@pytest.mark.parametrize("content", [{"optimizer": {}, "step": 3}, {"model": "GPT"}, {}, [torch.ones(3)], 5])
def test_a_file_without_weights(content, tmp_path):
    torch.save(content, tmp_path / "ckpt.pt")
    with pytest.raises(RunError, match=r"ckpt\.pt holds no weights: seen"):
        ik.open_run(tmp_path)


def test_files_without_steps(tmp_path):
    for name in ("best.pt", "last.pt"):
        torch.save({"model": NanoGPT().state_dict(), "model_args": NanoGPT().args}, tmp_path / name)
    with pytest.raises(RunError, match=r"the steps of best\.pt, last\.pt are unknown"):
        ik.open_run(tmp_path)
    with pytest.raises(RunError, match=r"pattern='x.*matches none of the files in .*: seen \['best\.pt', 'last\.pt'\]"):
        ik.open_run(tmp_path, pattern=r"x(?P<step>\d+)")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(RunError, match=r"notes\.txt is not a checkpoint of a training"):
        ik.open_run(tmp_path / "notes.txt")


def run_advice(error: RunError, folder: Path) -> None:
    """Do what an error says in Python, in `folder`."""
    [code] = re.findall(r"(c = torch\.load.*\))$", str(error))
    (folder / "weights").mkdir()
    subprocess.run([sys.executable, "-c", f"import torch; {code}"], cwd=folder, check=True)


def test_a_number_of_numpy(tmp_path):
    """`weights_only` does not let it pass; the error says how to leave it out."""
    model = NanoGPT(5)
    save(tmp_path, "ckpt.pt", model, 5, best_val_loss=np.float64(3.25))
    with pytest.raises(
        RunError, match=r"which might run code \(numpy\S+scalar\); it was not read\. If you trust it"
    ) as refused:
        ik.open_run(tmp_path)
    run_advice(refused.value, tmp_path)
    same_logits(ik.open_run(tmp_path / "weights"), 5, logits_of(model))
    save(tmp_path, "ckpt.pt", model, 5, best_val_loss=3.25)
    same_logits(ik.open_run(tmp_path), 5, logits_of(model))


# What is hostile or too large


class Runs:
    """Unpickled, it makes a file: the stand-in for code that does worse."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("entry", ["optimizer", "config", "model", "iter_num"])
def test_code_anywhere_in_a_file(entry, tmp_path):
    hostile = {"model": {**NanoGPT().state_dict(), "x": Runs(tmp_path / "ran")}}.get(entry, [Runs(tmp_path / "ran")])
    save(tmp_path, "ckpt.pt", NanoGPT(), 5, **{entry: hostile})
    with pytest.raises(RunError, match="holds more than tensors, which might run code"):
        ik.open_run(tmp_path)
    assert not (tmp_path / "ran").exists()


class Grows:
    def __reduce__(self):
        return bytearray, (10**10,)


def test_what_grows_when_it_is_unpickled(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    save(tmp_path, "ckpt.pt", NanoGPT(), 5, config=Grows())
    with pytest.raises(RunError, match=r"ckpt\.pt holds a bytearray, which may be of any length"):
        ik.open_run(tmp_path)
    # A vocabulary of ten billion, all of them the same number.
    weights = NanoGPT().state_dict() | {"transformer.wte.weight": torch.ones(1).expand(10**10, 32)}
    save(tmp_path, "ckpt.pt", NanoGPT(), 5, model=weights, model_args=NanoGPT().args | {"vocab_size": 10**10})
    with pytest.raises(RunError, match=r"ckpt\.pt claims 1,280,\d+,\d+,\d+ bytes"):
        ik.open_run(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # kilobytes: 1 GiB


def test_a_link_that_leads_out_of_the_folder(tmp_path):
    file = save(tmp_path / "elsewhere", "ckpt_5.pt", NanoGPT(5), 5)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ckpt_5.pt").symlink_to(file)
    with pytest.raises(RunError, match=r"leads out of .*put the file itself there if you trust it"):
        ik.open_run(tmp_path / "run")
    same_logits(ik.open_run(tmp_path / "run" / "ckpt_5.pt"), 5, logits_of(NanoGPT(5)))  # it is the link that was named


def test_the_size_that_a_file_may_have(tmp_path):
    """An optimiser counts, to three times the weights; what is larger is not read unless it is asked for."""
    wide = {"n_embd": 256, "n_layer": 8}
    model = NanoGPT(**wide)
    optimizer = torch.optim.AdamW(model.parameters())
    model(TOKENS, TOKENS)[1].backward()
    optimizer.step()
    torch.save(nano_gpt_content(model, 5, optimizer), tmp_path / "ckpt_5.pt")
    weights = sum(weight.nbytes for weight in model.parameters())
    assert (tmp_path / "ckpt_5.pt").stat().st_size > 2.9 * weights
    ik.open_run(tmp_path).checkpoint(5).read()
    with pytest.raises(RunError, match=r"ckpt_5\.pt claims .*pass max_bytes="):
        ik.open_run(tmp_path, max_bytes=weights // 2).checkpoint(5).read()
    save(tmp_path, "ckpt_5.pt", model, 5, others=[torch.zeros(120 * 2**20 // 4) for _ in range(4)])
    with pytest.raises(RunError, match=r"ckpt_5\.pt claims .*pass max_bytes="):
        ik.open_run(tmp_path).checkpoint(5).read()
    ik.open_run(tmp_path, max_bytes=2**29).checkpoint(5).read()


# llm.c


def tanh_model(seed: int, rounded: bool = False) -> NanoGPT:
    """The GPT-2 of llm.c: with the approximate GELU, and on request with weights that bfloat16 has exactly."""
    model = NanoGPT(seed)
    for block in model.transformer["h"]:
        block.mlp.gelu = torch.nn.GELU(approximate="tanh")
    if rounded:
        model.load_state_dict({name: weight.bfloat16().float() for name, weight in model.state_dict().items()})
    return model


@pytest.mark.parametrize("version", [3, 5])
def test_a_folder_of_llm_c(version, tmp_path):
    models = {step: tanh_model(step, rounded=version == 5) for step in STEPS}
    for step, model in models.items():
        write_llm_c(model, tmp_path / f"model_{step:08d}.bin", version)
        (tmp_path / f"state_{step:08d}_00000.bin").write_bytes(struct.pack("<256i", 20240527, *[0] * 255))
        (tmp_path / f"DONE_{step:08d}").write_text("")
    (tmp_path / "main.log").write_text("s:0 tel:4.5000\ns:500 trl:3.2500 lr:0.000600 norm:1.00\n")
    run = ik.open_run(tmp_path, tokens_per_step=524288)
    assert repr(run).startswith(
        f"Run({tmp_path.name}: GPT-2; 3 checkpoints, steps 0 to 1,000, 0.00M to 524.29M tokens)"
    )
    assert [run.model[name] for name in ("n_layers", "n_heads", "n_ctx", "d_vocab")] == [3, 4, 64, 70]
    for step, model in models.items():
        same_logits(run, step, logits_of(model))
    assert (500, 3.25) in [(entry["step"], entry.get("loss")) for entry in run.log()]
    same_logits(ik.open_run(tmp_path / "model_00000500.bin"), 500, logits_of(models[500]))


def change_header(file: Path, **entries: int) -> None:
    content = bytearray(file.read_bytes())
    for entry, value in entries.items():
        struct.pack_into("<i", content, 4 * int(entry.removeprefix("at_")), value)
    file.write_bytes(bytes(content))


LLM_C_FAULTS = {
    "cut short": (
        lambda file: file.write_bytes(file.read_bytes()[:-4]),
        r"is cut short or no GPT-2: it is [\d,]+ bytes",
    ),
    "longer": (lambda file: file.write_bytes(file.read_bytes() + bytes(4)), r"is cut short or no GPT-2"),
    "header alone": (lambda file: file.write_bytes(file.read_bytes()[:12]), r"its header begins \[20240326, 3\]"),
    "version": (lambda file: change_header(file, at_1=1), r"is no model of llm\.c in version 3 .* or 5"),
    "precision": (lambda file: change_header(file, at_1=5), r"by its header [\d,]+ with"),
    "layers": (lambda file: change_header(file, at_4=2**31 - 1), r"is cut short or no GPT-2"),
    "no layers": (lambda file: change_header(file, at_4=0), r"is cut short or no GPT-2"),
    "negative": (lambda file: change_header(file, at_4=-3), r"is cut short or no GPT-2"),
    "heads": (lambda file: change_header(file, at_5=5), r"is cut short or no GPT-2"),
    "vocabulary": (lambda file: change_header(file, at_3=129), r"is cut short or no GPT-2"),
}


@pytest.mark.parametrize("fault", LLM_C_FAULTS)
def test_damaged_files_of_llm_c(fault, tmp_path):
    damage, expected = LLM_C_FAULTS[fault]
    for step in (1, 2):
        write_llm_c(tanh_model(step), tmp_path / f"model_{step:08d}.bin")
    damage(tmp_path / "model_00000001.bin")
    run = ik.open_run(tmp_path)
    same_logits(run, 2, logits_of(tanh_model(2)))
    with pytest.raises(RunError, match=expected):
        run.checkpoint(1).read()
    (tmp_path / "model_00000002.bin").unlink()
    with pytest.raises(RunError, match=expected):
        ik.open_run(tmp_path)


# Lightning


@pytest.fixture(scope="module")
def lightning_folder(tmp_path_factory) -> tuple[Path, dict[int, torch.Tensor]]:
    """Checkpoints that Lightning wrote of a Hugging Face GPT-2 in a training of 6 steps, and the logits it had then."""
    import pytorch_lightning as lightning

    folder, logits = tmp_path_factory.mktemp("lightning"), {}

    class Module(lightning.LightningModule):
        def __init__(self, learning_rate: float):
            super().__init__()
            self.save_hyperparameters()
            self.model = tiny_gpt2()
            self.register_buffer("n_seen", torch.zeros(3))

        def training_step(self, batch, i):
            return self.model(batch, labels=batch).loss

        def on_train_batch_end(self, *_):
            with torch.no_grad():
                logits[self.global_step] = self.model(TOKENS).logits

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), self.hparams.learning_rate)

    save = lightning.callbacks.ModelCheckpoint
    trainer = lightning.Trainer(
        max_steps=6,
        accelerator="cpu",
        logger=False,
        callbacks=[save(folder, every_n_train_steps=3, save_top_k=-1, save_last=True)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = torch.randint(100, (20, 16), generator=torch.Generator().manual_seed(0))
    trainer.fit(Module(1e-2), torch.utils.data.DataLoader(batches, batch_size=2))
    return folder, logits


def test_a_folder_of_lightning(lightning_folder):
    folder, logits = lightning_folder
    assert sorted(file.name for file in folder.iterdir()) == ["epoch=0-step=3.ckpt", "epoch=0-step=6.ckpt", "last.ckpt"]
    own = tiny_gpt2(seed=1)
    run = ik.open_run(folder, model=own, tokens_per_step=32)
    assert [(entry.step, entry.tokens_seen) for entry in run.checkpoints] == [(3, 96), (6, 192)]
    for step in (3, 6):
        same_logits(run, step, logits[step])
    assert not torch.equal(logits[3], logits[6])
    same_logits(ik.open_run(folder / "last.ckpt", model=own), 6, logits[6])
    with pytest.raises(RunError, match=r"do not say of what model they are: .* no config\.json .*Pass model="):
        ik.open_run(folder)


def test_a_config_beside_lightnings_checkpoints(lightning_folder, tmp_path):
    folder, logits = lightning_folder
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    tiny_gpt2().config.save_pretrained(tmp_path)
    run = ik.open_run(tmp_path)
    assert run.steps == [3, 6]
    same_logits(run, 6, logits[6])


def change_checkpoint(folder: Path, target: Path, change) -> Path:
    """The checkpoint of step 6 with another state dict."""
    content = torch.load(folder / "epoch=0-step=6.ckpt", weights_only=True)
    content["state_dict"] = change(content["state_dict"])
    torch.save(content, target / "epoch=0-step=6.ckpt")
    return target


def test_the_prefix_of_a_lightning_module(lightning_folder, tmp_path):
    """It is found by the names of the given model; nothing is guessed where two parts have them, or none."""
    folder, logits = lightning_folder
    own = tiny_gpt2(seed=1)
    for prefix in ("net.inner.", "model._orig_mod.", ""):
        change = lambda weights, prefix=prefix: {  # noqa: E731
            name.replace("model.", prefix, 1): w for name, w in weights.items() if prefix or name != "n_seen"
        }
        same_logits(ik.open_run(change_checkpoint(folder, tmp_path, change), model=own), 6, logits[6])
    twice = lambda weights: weights | {name.replace("model.", "ema.", 1): w * 0 for name, w in weights.items()}  # noqa: E731
    with pytest.raises(ik.InductionKitError, match=r"occur several times, as model\.\S+, ema\.\S+; save those of one"):
        ik.open_run(change_checkpoint(folder, tmp_path, twice), model=own).load_model()
    part = lambda weights: {name: w for name, w in weights.items() if "h.1.mlp" not in name}  # noqa: E731
    with pytest.raises(ik.InductionKitError, match="do not fit the model"):
        ik.open_run(change_checkpoint(folder, tmp_path, part), model=own).load_model()


def test_hyperparameters_that_are_objects(lightning_folder, tmp_path):
    folder, logits = lightning_folder
    content = torch.load(folder / "epoch=0-step=6.ckpt", weights_only=True)
    content["hyper_parameters"] = {"path": Path("x"), "range": range(3)}
    torch.save(content, tmp_path / "epoch=0-step=6.ckpt")
    with pytest.raises(
        RunError, match=r"holds more than tensors, which might run code \(\S+\); it was not read"
    ) as refused:
        ik.open_run(tmp_path, model=tiny_gpt2())
    run_advice(refused.value, tmp_path)
    same_logits(ik.open_run(tmp_path / "weights", model=tiny_gpt2(seed=1)), 6, logits[6])


# DeepSpeed, FSDP


def hugging_face_state(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint in Hugging Face layout, which are taken out of it."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return weights


@pytest.fixture
def checkpoint(tmp_path) -> tuple[Path, dict[str, torch.Tensor], torch.Tensor]:
    """A Trainer's checkpoint without its weights, these, and the logits of the model."""
    model = tiny_gpt2(seed=5)
    model.save_pretrained(tmp_path / "run" / "checkpoint-500")
    with torch.no_grad():
        expected = model(TOKENS).logits
    return tmp_path / "run" / "checkpoint-500", hugging_face_state(tmp_path / "run" / "checkpoint-500"), expected


def test_a_checkpoint_of_the_trainer_without_weights(checkpoint):
    folder, _, _ = checkpoint
    torch.save({"state": {}, "param_groups": []}, folder / "optimizer.pt")
    torch.save(torch.get_rng_state(), folder / "rng_state.pth")
    for opened in (folder, folder.parent):
        with pytest.raises(RunError, match=r"checkpoint-500 has no weights: seen \['config\.json', "):
            ik.open_run(opened).load_model()


def refusal(folder: Path) -> str:
    with pytest.raises(
        RunError, match=r"in parts, which are not read; join them with `.*`, then open the run"
    ) as refused:
        ik.open_run(folder).load_model()
    return re.search("`(.*)`", str(refused.value))[1]


def write_zero(folder: Path) -> None:
    folder.mkdir()
    for name in ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"):
        torch.save({"module": None, "ds_version": "0.16"}, folder / name)


def test_deepspeed(checkpoint):
    folder, weights, expected = checkpoint
    write_zero(folder / "global_step500")
    (folder / "latest").write_text("global_step500")
    (folder / "zero_to_fp32.py").write_text("")
    assert refusal(folder.parent) == f"cd {folder} && python zero_to_fp32.py . ."
    tag = f"cd {folder} && python zero_to_fp32.py . global_step500 --tag global_step500"
    part = folder / "global_step500" / "mp_rank_00_model_states.pt"
    assert refusal(folder / "global_step500") == refusal(folder) == refusal(part) == tag
    torch.save(weights, folder / "pytorch_model.bin")  # what the script writes, beside the parts
    for opened in (folder.parent, folder):
        same_logits(ik.open_run(opened), 500, expected)


def test_deepspeed_without_the_trainer(tmp_path):
    run = tmp_path / "my run"
    run.mkdir()
    write_zero(run / "global_step500")
    command = f"cd '{run}' && python zero_to_fp32.py . global_step500 --tag global_step500"
    assert refusal(run) == command


def write_distributed(content: dict[str, object], folder: Path) -> None:
    import torch.distributed.checkpoint as distributed

    distributed.save(content, checkpoint_id=folder, no_dist=True)


def in_shell(command: str) -> None:
    commands = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(command, shell=True, check=True, env=environment, capture_output=True)


def test_fsdp_of_accelerate(checkpoint):
    """Its shards are merged by the very command that the error names; its full state is read."""
    folder, weights, expected = checkpoint
    write_distributed({"model": weights}, folder / "pytorch_model_fsdp_0")
    command = refusal(folder.parent)
    assert command == f"accelerate merge-weights {folder}/pytorch_model_fsdp_0 {folder}"
    in_shell(command)
    same_logits(ik.open_run(folder.parent), 500, expected)
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model_fsdp.bin")
    same_logits(ik.open_run(folder.parent), 500, expected)


def test_a_distributed_checkpoint(checkpoint):
    folder, weights, expected = checkpoint
    run = folder.parent / "steps"
    write_distributed({"model": weights}, run / "step-500")
    command = refusal(run)
    assert command.endswith(f"dcp_to_torch {run}/step-500 {run}/step-500.pt")
    in_shell(command.replace("python", sys.executable, 1))
    shutil.rmtree(run / "step-500")
    shutil.copy(folder / "config.json", run)
    same_logits(ik.open_run(run), 500, expected)


def test_a_sharded_checkpoint_of_lightning(checkpoint):
    folder, weights, _ = checkpoint
    for sharded in ("last.ckpt", "epoch=0-step=5.ckpt"):
        write_distributed({"model": weights}, folder.parent / "checkpoints" / sharded)
        torch.save({"global_step": 5}, folder.parent / "checkpoints" / sharded / "meta.pt")
    command = refusal(folder.parent / "checkpoints")
    first = folder.parent / "checkpoints" / "epoch=0-step=5.ckpt"
    assert command == (
        f"python -m lightning.pytorch.utilities.consolidate_checkpoint {first} "
        f"--output_file {first.parent}/joined-epoch=0-step=5.ckpt"
    )
    in_shell(command.replace("python", sys.executable, 1).replace("lightning.pytorch", "pytorch_lightning"))
    for sharded in first.parent.glob("*.ckpt"):
        if sharded.is_dir():
            shutil.rmtree(sharded)
    run = ik.open_run(first.parent, model=tiny_gpt2())
    assert run.steps == [5]
    same_logits(run, 5, checkpoint[2])


# Wrappers


def write_safetensors(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, folder / "model.safetensors")


def write_bin(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save(weights, folder / "pytorch_model.bin")


def write_shards(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Two shards, one of them with a single name; `module.` is in front of all names only if both are looked at."""
    first, *others = sorted(weights)
    save_file({first: weights[first]}, folder / "model-1.safetensors")
    save_file({name: weights[name] for name in others}, folder / "model-2.safetensors")
    weight_map = {name: f"model-{1 + (name != first)}.safetensors" for name in weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("write", [write_safetensors, write_bin, write_shards])
@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_in_folders(write, prefix, checkpoint):
    folder, weights, expected = checkpoint
    write(folder, prefixed(weights, prefix))
    same_logits(ik.open_run(folder.parent), 500, expected)


def test_wrappers_of_a_listed_run(checkpoint):
    _, weights, expected = checkpoint
    run = ik.open_run([(500, lambda: prefixed(weights, "module._orig_mod."))], model=tiny_gpt2())
    same_logits(run, 500, expected)


@pytest.mark.parametrize(
    ("names", "plain"),
    [
        (["module.a.w", "module.b.w"], ["a.w", "b.w"]),
        (["module.a.w", "b.w"], ["module.a.w", "b.w"]),
        (["module.module.a.w", "module.b.w"], ["module.a.w", "b.w"]),
        (["a.module.w", "b.module.w"], ["a.module.w", "b.module.w"]),
        (["a._orig_mod.w", "b.w"], ["a.w", "b.w"]),
        (["_fsdp_wrapped_module.a._checkpoint_wrapped_module.w"], ["a.w"]),
        (["_orig_mod.a.w", "a.w"], ["_orig_mod.a.w", "a.w"]),
        (["modules.a.w", "modules.b.w"], ["modules.a.w", "modules.b.w"]),
        ([], []),
    ],
)
def test_which_part_of_a_name_is_a_wrapper(names, plain):
    weights = {name: i for i, name in enumerate(names)}
    assert without_wrapper_names(weights) == {name: i for i, name in enumerate(plain)}


# From a training of nanoGPT's kind to the explorer


def repeating_text(n_rows: int, seed: int) -> torch.Tensor:
    """Rows of 48 tokens: 24 drawn at random, then the same again."""
    half = torch.randint(1, 40, (n_rows, 24), generator=torch.Generator().manual_seed(seed))
    return torch.cat([half, half], dim=1)


def test_from_training_to_the_explorer(tmp_path):
    """A training in plain torch that writes what nanoGPT writes, files and printed losses, is scanned as it is."""
    model = NanoGPT(n_layer=2, vocab_size=40, block_size=48, bias=False)
    torch.nn.init.normal_(model.transformer["wte"].weight, std=0.02, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    saved = (0, 25, 50, 100, 150, 200, 300)
    config = {"batch_size": 16, "gradient_accumulation_steps": 1, "block_size": 48}
    with open(tmp_path / "log.txt", "w") as log:
        for step in range(saved[-1] + 1):
            if step in saved:
                content = nano_gpt_content(model, step, optimizer, config=config)
                torch.save(content, tmp_path / f"ckpt_{step:06d}.pt")
            if step == saved[-1]:
                break
            rows = repeating_text(16, seed=step)
            _, loss = model(rows[:, :-1], rows[:, 1:])
            if step % 10 == 0:
                print(f"iter {step}: loss {loss.item():.4f}, time 11.50ms, mfu 1.00%", file=log)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    held_out = repeating_text(40, seed=10**6)
    held_out.numpy().astype(np.uint16).tofile(tmp_path / "val.bin")  # as nanoGPT keeps its text
    stream = np.memmap(tmp_path / "val.bin", dtype=np.uint16, mode="r")
    run = ik.open_run(tmp_path)
    scan = {"prompts": ik.PromptSettings(n_distinct=9), "store": tmp_path / "scan.zarr", "progress": False}
    history = ik.scan_run(run, stream, **scan)
    assert history.step.values.tolist() == list(saved)
    assert history.tokens_seen.values.tolist() == [step * 16 * 48 for step in saved]
    assert history.log_tokens_seen.values.tolist() == [step * 16 * 48 for step in range(0, 300, 10)]
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(
            model(held_out, held_out)[0][:, :-1].transpose(1, 2), held_out[:, 1:], reduction="none"
        )
    np.testing.assert_allclose(history.loss_by_position[-1], losses.mean(0), atol=1e-5)
    assert history.loss[-1] < history.loss[0] - 0.3
    assert ik.scan_run(run, stream, **scan).identical(history)
    phase = ik.find_phase_change(history)
    page = ik.PhaseExplorer(history, phase=phase).save(tmp_path / "phase.html")
    assert page.stat().st_size > 10_000
