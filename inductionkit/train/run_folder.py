"""How a training run lies on disk: one folder, plain files, written whole or not at all.

    manifest.json               recipe, model, fingerprints, versions, the list of checkpoints
    tokenizer.json              the BPE tokenizer
    held_out.safetensors        tokens (example, token) that training never saw
    log.jsonl                   one line per logged training step or evaluation
    checkpoints/step_*.safetensors

The manifest is rewritten after each checkpoint and carries its SHA-256, so a checkpoint is listed
only once it lies on disk whole, and one that was cut short later is found out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from ..errors import RunError
from ..system.atomic import write_atomically

FORMAT = "inductionkit-run"
FORMAT_VERSION = 1


class RunFolder:
    """A run's folder, opened or begun. `manifest` is the parsed JSON; `write_manifest` saves it."""

    def __init__(self, path: Path, manifest: dict[str, Any]):
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(cls, path: str | Path, manifest: dict[str, Any], tokenizer_json: str, held_out: np.ndarray) -> RunFolder:
        """Begin a run: its manifest (without checkpoints yet), tokenizer and held-out tokens (example, token)."""
        if (Path(path) / "manifest.json").exists():
            raise RunError(f"{path} holds a run already; choose another folder or remove it")
        folder = cls(Path(path), {"format": FORMAT, "format_version": FORMAT_VERSION, **manifest, "checkpoints": []})
        write_atomically(folder.path / "tokenizer.json", tokenizer_json.encode())
        write_atomically(folder.path / "held_out.safetensors", save_safetensors({"tokens": held_out}))
        folder.write_manifest()
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a run. Raises RunError where there is none or its manifest is not one of ours."""
        path = Path(path)
        file = path / "manifest.json"
        if not path.is_dir():
            raise RunError(f"there is no run at {path}: the folder does not exist")
        if not file.is_file():
            raise RunError(f"there is no run at {path}: it has no manifest.json; train one with `inductionkit train`")
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{file} is not readable JSON ({error}); restore it or train the run again") from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise RunError(f'{file} is not the manifest of an inductionkit run: it lacks "format": "{FORMAT}"')
        if manifest.get("format_version") != FORMAT_VERSION:
            raise RunError(
                f"{file} has format version {manifest.get('format_version')}, this inductionkit reads {FORMAT_VERSION}"
            )
        missing = [key for key in ("model", "checkpoints", "recipe", "fingerprints") if key not in manifest]
        if missing:
            raise RunError(f"{file} lacks {', '.join(missing)}")
        return cls(path, manifest)

    def write_manifest(self) -> None:
        write_atomically(self.path / "manifest.json", json.dumps(self.manifest, indent=1).encode())

    def add_checkpoint(self, step: int, tokens_seen: int, weights: Mapping[str, np.ndarray]) -> None:
        """Save weights as the checkpoint of `step`, then list it in the manifest."""
        content = save_safetensors({name: np.ascontiguousarray(array) for name, array in weights.items()})
        file = f"checkpoints/step_{step:07d}.safetensors"
        write_atomically(self.path / file, content)
        entry = {"step": step, "tokens_seen": tokens_seen, "file": file, "sha256": hashlib.sha256(content).hexdigest()}
        others = [known for known in self.manifest["checkpoints"] if known["step"] != step]
        self.manifest["checkpoints"] = sorted([*others, entry], key=lambda known: known["step"])
        self.write_manifest()

    def read_checkpoint(self, entry: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Weights by name of one of the manifest's checkpoints, checked against its SHA-256."""
        path = self.path / entry["file"]
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise RunError(f"the manifest of {self.path} names a checkpoint outside the run: {entry['file']}")
        if not path.is_file():
            raise RunError(f"checkpoint {path} is listed in the manifest but missing; restore it or drop its entry")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise RunError(
                f"checkpoint {path} ({len(content):,} bytes) does not match the manifest's SHA-256: "
                f"it was cut short or changed; copy it again"
            )
        try:
            return load_safetensors(content)
        except SafetensorError as error:
            raise RunError(f"checkpoint {path} is not a safetensors file: {error}") from None

    def held_out(self) -> np.ndarray:
        """Held-out tokens (example, token)."""
        path = self.path / "held_out.safetensors"
        try:
            return load_safetensors(path.read_bytes())["tokens"]
        except (OSError, KeyError, SafetensorError) as error:
            raise RunError(f"the run's held-out text {path} cannot be read: {error}") from None

    def tokenizer_json(self) -> str:
        try:
            return (self.path / "tokenizer.json").read_text(encoding="utf-8")
        except OSError as error:
            raise RunError(f"the run's tokenizer cannot be read: {error}") from None

    def append_log(self, record: Mapping[str, Any]) -> None:
        with open(self.path / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def log(self) -> list[dict[str, Any]]:
        """Every whole record of the log, in order; a last line cut short by a kill is left out."""
        path = self.path / "log.jsonl"
        if not path.is_file():
            return []
        records = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def rewind_log(self, step: int) -> None:
        """Drop records after `step`, which a resumed training writes again."""
        kept = [record for record in self.log() if record["step"] <= step]
        write_atomically(self.path / "log.jsonl", "".join(json.dumps(record) + "\n" for record in kept).encode())
