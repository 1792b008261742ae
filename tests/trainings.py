"""Small trainings that are watched, run as a script on one or more ranks: `torchrun trainings.py KIND FOLDER`.

Each leaves its checkpoints in FOLDER/run, the watch's history in FOLDER/live.zarr, and what every rank saw in
FOLDER/rank0.json and so on. A training that finds checkpoints goes on from the last one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from inductionkit.scan.watching import TrainingWatch

EVERY, N_STEPS, N_EVALUATION, ACCUMULATED = 2, 12, 4, 2
TEXT = np.random.default_rng(0).integers(1, 120, (64, 128))


def tiny_gpt2(seed: int = 0, **options) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    shape = {"vocab_size": 120, "n_positions": 128, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0, **options))


def watch_into(folder: Path, **options) -> TrainingWatch:
    return TrainingWatch(TEXT, every=EVERY, store=folder / "live.zarr", n_evaluation=N_EVALUATION, **options)


class Killing(TrainerCallback):
    """Kills the whole group of processes `seconds` after step `at` has begun."""

    def __init__(self, at: int, seconds: float):
        self.at, self.seconds = at, seconds

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.at:
            threading.Timer(self.seconds, os.killpg, (os.getpgid(0), signal.SIGKILL)).start()


def with_trainer(folder: Path, watch: TrainingWatch, kill_at: str = "-1", seconds: str = "0") -> None:
    arguments = TrainingArguments(
        output_dir=str(folder / "run"),
        bf16=True,
        max_steps=N_STEPS,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=ACCUMULATED,
        save_steps=EVERY,
        logging_steps=1,
        learning_rate=1e-2,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
    )
    rows = [{"input_ids": row, "labels": row} for row in torch.from_numpy(TEXT)]
    callbacks = [watch.trainer_callback(), Killing(int(kill_at), float(seconds))]
    last = get_last_checkpoint(folder / "run") if (folder / "run").is_dir() else None
    Trainer(tiny_gpt2(), arguments, train_dataset=rows, callbacks=callbacks).train(resume_from_checkpoint=last)


def with_lightning(folder: Path, watch: TrainingWatch) -> None:
    import pytorch_lightning as lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = tiny_gpt2()

        def training_step(self, batch, batch_idx):
            return self.model(batch, labels=batch).loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), 1e-2)

    class Save(lightning.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step % EVERY == 0 and trainer.is_global_zero:
                module.model.save_pretrained(folder / "run" / f"step{trainer.global_step}")

    trainer = lightning.Trainer(
        max_steps=N_STEPS,
        accelerator="cpu",
        devices=int(os.environ.get("WORLD_SIZE", 1)),
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=ACCUMULATED,
        max_epochs=-1,
        callbacks=[watch.lightning_callback(), Save()],
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.from_numpy(TEXT), batch_size=2))


def with_own_loop(folder: Path, watch: TrainingWatch, wrap: str = "ddp") -> None:
    torch.distributed.init_process_group("gloo")
    rank, model = torch.distributed.get_rank(), tiny_gpt2()
    if wrap == "ddp":
        model = torch.nn.parallel.DistributedDataParallel(torch.compile(model, backend="eager"))
    elif wrap == "fsdp":
        from torch.distributed.fsdp import fully_shard

        mesh = torch.distributed.init_device_mesh("cpu", (2,))
        for block in model.transformer.h:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    else:
        from torch.distributed.fsdp import FullyShardedDataParallel

        model = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(N_STEPS + 1):
        watch(model, step, tokens_seen=step * 4 * 128)
        if step % EVERY == 0:
            save(model, folder / "run" / f"step{step}", rank)
        batch = torch.from_numpy(TEXT[4 * step + 2 * rank :][:2])
        loss = model(input_ids=batch, labels=batch).loss
        watch.log(step, loss, tokens_seen=step * 4 * 128)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    watch.close()
    torch.distributed.destroy_process_group()


def save(model, folder: Path, rank: int) -> None:
    """Save a checkpoint in Hugging Face's layout, as torch's own documentation gathers it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    if rank == 0:
        plain = tiny_gpt2()
        plain.load_state_dict(weights)
        plain.save_pretrained(folder)


KINDS = {"trainer": with_trainer, "lightning": with_lightning, "loop": with_own_loop}

if __name__ == "__main__":
    kind, where, *options = sys.argv[1:]
    torch.set_num_threads(1)
    out = Path(where)
    watch = watch_into(out)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        KINDS[kind](out, watch, *options)
    told = [str(warning.message) for warning in caught if issubclass(warning.category, RuntimeWarning)]
    seen = {"repr": repr(watch), "warnings": [text for text in told if "training goes on" in text]}
    (out / f"rank{os.environ.get('RANK', 0)}.json").write_text(json.dumps(seen))
