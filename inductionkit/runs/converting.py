"""Checkpoints that are split over the processes of a training, and the commands that join their parts."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from shlex import quote

OWN_ARCHITECTURE = "'Your own architecture' in the documentation, docs/how_to/your_own_architecture.md"


def how_to_join(folder: Path, names: Collection[str]) -> str | None:
    """Return which checkpoint in parts a folder with entries of these `names` holds, and the command that joins them.

    Returns None if it holds none.
    """
    here, above, name = quote(str(folder)), quote(str(folder.parent)), quote(folder.name)

    def has(pattern: str) -> bool:
        return any(re.fullmatch(pattern, entry) for entry in names)

    if has(r".*_(model|optim)_states\.pt"):
        writer, command = "DeepSpeed", f"cd {above} && python zero_to_fp32.py . {name} --tag {name}"
    elif has(r"global_step\d+|zero_to_fp32\.py"):
        writer, command = "DeepSpeed", f"cd {here} && python zero_to_fp32.py . ."
    elif has(r"pytorch_model_fsdp_0"):
        writer, command = "FSDP", f"accelerate merge-weights {here}/pytorch_model_fsdp_0 {here}"
    elif has(r".*\.distcp") and has(r"meta\.pt"):
        writer, command = "Lightning", "python -m lightning.pytorch.utilities.consolidate_checkpoint "
        command += f"{here} --output_file {above}/joined-{name}"
    elif has(r".*\.distcp"):
        writer, command = "FSDP", f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {here} {here}.pt"
    else:
        return None
    return (
        f"{folder} holds a checkpoint of {writer} in parts, which are not read; join them with `{command}`, then open "
        f"the run again"
    )
