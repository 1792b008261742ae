"""Runs whose checkpoints are files: of nanoGPT, of llm.c, of Lightning, or any state dicts that fit a given model."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..system.wrapper_names import without_wrapper_names
from .architecture import Architecture, GivenArchitecture, weights_limit
from .converting import OWN_ARCHITECTURE, how_to_join
from .hugging_face import HuggingFaceArchitecture, read_config
from .hugging_face_folder import configured, tokenizer_json
from .llm_c import is_llm_c, llm_c_config, read_llm_c
from .logs import first_log, read_log
from .names import NamedStep, read_names
from .nano_gpt import GPT2Architecture, as_hugging_face, nano_gpt_config
from .prefixed import PrefixedArchitecture
from .run import Checkpoint, Run
from .safe_read import bytes_of, file_bytes, is_state_dict, read_pickle, refuse_oversize
from .select import Wanted, choose_from

SUFFIXES = (".pt", ".pth", ".ckpt")
FILE_PATTERN = r"[^.]*?(?P<step>\d+)\.(?:pt|pth|ckpt|bin)"
OTHER_FILES = ("optimizer", "scheduler", "scaler", "rng_state")  # what the Trainer and others keep beside weights
N_COPIES = 3  # a file that also has the two averages of Adam takes as much as its weights three times
_WEIGHTS, _STEPS = ("model", "state_dict"), ("iter_num", "global_step", "step")
_TOKENS_PER_STEP = ("gradient_accumulation_steps", "batch_size", "block_size")  # in nanoGPT's config, for all processes


@dataclass(frozen=True)
class About:
    """What a file says about its checkpoint: `step`, `tokens_per_step`, and the `config` of GPT-2, or None each.

    `names` are those of its weights.
    """

    step: int | None = None
    tokens_per_step: int | None = None
    config: Mapping[str, Any] | None = None
    names: Collection[str] = ()


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the files in a folder that may be checkpoints: what `torch.save` wrote, by its suffix, and llm.c's."""
    files = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith(OTHER_FILES))
    return sorted(file for file in files if file.suffix in SUFFIXES or is_llm_c(file))


def open_training_files(
    path: str | Path,
    checkpoints: Wanted = None,
    pattern: str | None = None,
    tokens_per_step: int | None = None,
    log: str | Path | None = None,
    max_bytes: int | None = None,
    model: Any = None,
) -> Run:
    """Open a folder of files, each with a checkpoint, or a single such file.

    The step is the one that a file has in it, else the number at the end of its name. The model is `model`, else the
    GPT-2 that most of the chosen files of nanoGPT or llm.c describe, else that of a `config.json` in the folder.
    """
    path = Path(path).resolve()
    folder, files = (path.parent, [path]) if path.is_file() else (path, checkpoint_files(path))
    by_name = {file.name: file for file in files}
    if how := how_to_join(folder, [child.name for child in folder.iterdir()] if folder == path else by_name):
        raise RunError(how)
    look = partial(_look, folder=folder, is_given=model is not None)
    if pattern is None:
        seen = {name: look(file) for name, file in by_name.items()}
        named = choose_from(_steps(seen), checkpoints)
    else:
        if not (matching := read_names(by_name, pattern)):
            raise RunError(f"pattern={pattern!r} matches none of the files in {folder}: seen {sorted(by_name)[:10]}")
        named = choose_from(matching, checkpoints)
        seen = {entry.name: look(by_name[entry.name]) for entry in named}
    chosen = [seen[entry.name] for entry in named]
    architecture = _architecture(model, chosen, folder)
    if tokens_per_step is None:
        told = {about.tokens_per_step for about in chosen if isinstance(about, About)}
        tokens_per_step = told.pop() if len(told) == 1 else None
    return Run(
        name=path.name,
        checkpoints=[
            Checkpoint(
                entry.step,
                entry.tokens_seen if tokens_per_step is None else entry.step * tokens_per_step,
                partial(_read, by_name[entry.name], folder, about, architecture, max_bytes),
                architecture,
                str(by_name[entry.name]),
                partial(file_bytes, [by_name[entry.name]]),
            )
            for entry, about in zip(named, chosen)
        ],
        architecture=architecture,
        fingerprints={"source": str(path)},
        log=partial(first_log, [folder], tokens_per_step)
        if log is None
        else partial(read_log, Path(log), Path(log).parent, tokens_per_step),
        tokenizer_json=partial(tokenizer_json, [folder], folder),
    )


def _look(file: Path, folder: Path, is_given: bool) -> About | RunError:
    """Return what a file says about its checkpoint, or why it cannot be read; `is_given` is whether its model is."""
    try:
        return _open(file, folder, is_given, mapped=True)[0]
    except RunError as error:
        return error


def _read(
    file: Path, folder: Path, seen: About | RunError, architecture: Architecture, max_bytes: int | None
) -> dict[str, Any]:
    """Return the weights in a file by the names that `architecture` has for them; `seen` is what the file said."""
    limit = weights_limit(architecture, max_bytes)
    refuse_oversize(file, file_bytes([file]), limit if is_llm_c(file) else N_COPIES * limit)
    is_gpt2 = isinstance(architecture, GPT2Architecture)
    about, weights = _open(file, folder, is_given=not is_gpt2, mapped=False)
    if isinstance(seen, About) and seen.step != about.step:
        raise RunError(f"{file} was of step {seen.step} and now is of step {about.step}; open the run again")
    if not isinstance(architecture, GPT2Architecture):
        refuse_oversize(file, bytes_of(weights), limit)
        return dict(weights)
    architecture.refuse_other(about.config, file)
    return as_hugging_face(weights, file)


def _open(file: Path, folder: Path, is_given: bool, mapped: bool) -> tuple[About, Mapping[str, Any]]:
    """Return what a file says and its weights; with `mapped`, only their names and shapes may be used."""
    if is_llm_c(file):
        return About(config=llm_c_config(file, folder)), {} if mapped else read_llm_c(file, folder)
    if file.suffix not in SUFFIXES:
        raise RunError(f"{file} is not a checkpoint of a training; open the folder that it is in")
    content = read_pickle(file, folder, _advice(file), mapped)
    others = content if isinstance(content, Mapping) else {}
    weights = next((others[entry] for entry in _WEIGHTS if entry in others), content)
    if not is_state_dict(weights) or not weights:
        raise RunError(
            f"{file} holds no weights: seen {sorted(map(str, others))[:10]}, looked for a state dict, or one as "
            f"{' or '.join(_WEIGHTS)}"
        )
    # A model of these shapes may be built: no tensor may claim more than the file has, but tied ones occur twice.
    refuse_oversize(file, bytes_of(weights), 2 * file.stat().st_size)
    weights = without_wrapper_names(weights)
    config = None
    if isinstance(model_args := others.get("model_args"), Mapping) and not is_given:
        config = nano_gpt_config(model_args, weights, file)
    return About(_step(others), _tokens_per_step(others.get("config")), config, list(weights)), weights


def _advice(file: Path) -> str:
    entries = ("state_dict", "global_step") if file.suffix == ".ckpt" else ("model", "model_args", "iter_num")
    return (
        f"save its weights into another folder and open that: c = torch.load({str(file)!r}, weights_only=False); "
        f"torch.save({{name: c[name] for name in {entries}}}, {f'weights/{file.name}'!r})"
    )


def _step(others: Mapping[str, Any]) -> int | None:
    return next((others[name] for name in _STEPS if type(others.get(name)) is int and others[name] >= 0), None)


def _tokens_per_step(config: Any) -> int | None:
    """Return the tokens of an optimiser step by the configuration of nanoGPT's training."""
    factors: list[Any] = [config.get(name) if isinstance(config, Mapping) else None for name in _TOKENS_PER_STEP]
    return math.prod(factors) if all(type(factor) is int and factor > 0 for factor in factors) else None


def _steps(seen: Mapping[str, About | RunError]) -> list[NamedStep]:
    """Return the files that have a step, in them or in their names, in order of steps.

    Of files with the same step one is needed: nanoGPT's `ckpt.pt` and Lightning's `last.ckpt` repeat others. A single
    file may have none, it is then of step 0.
    """
    numbers = {entry.name: entry.step for name in seen for entry in read_names([name], FILE_PATTERN)}
    steps: dict[int, str] = {}
    for name, about in sorted(seen.items(), key=lambda item: (item[0] not in numbers, item[0])):
        step = about.step if isinstance(about, About) and about.step is not None else numbers.get(name)
        if step in steps and name in numbers:
            raise RunError(f"{steps[step]} and {name} both are step {step}; pass a pattern= that matches one of them")
        if step is not None:
            steps.setdefault(step, name)
    if not steps:
        for about in seen.values():
            if isinstance(about, RunError):
                raise about
        if len(seen) > 1:
            raise RunError(
                f"the steps of {', '.join(sorted(seen)[:5])} are unknown: the files do not say them, and no name ends "
                f"in a number; pass a pattern= for the names"
            )
        [steps[0]] = seen
    return [NamedStep(step, None, name) for step, name in sorted(steps.items())]


def _architecture(model: Any, chosen: Sequence[About | RunError], folder: Path) -> Architecture:
    abouts = [about for about in chosen if isinstance(about, About)]
    for refused in chosen:
        if isinstance(refused, RunError) and not abouts:
            raise refused
    if model is not None:
        return PrefixedArchitecture(GivenArchitecture(model))
    configs = [about.config for about in abouts if about.config is not None]
    if configs:
        return GPT2Architecture(max(configs, key=configs.count))
    if (folder / "config.json").is_file():
        plain = HuggingFaceArchitecture(read_config(folder, folder), partial(configured, folder, folder))
        return PrefixedArchitecture(plain)
    raise RunError(
        f"the files in {folder} do not say of what model they are: they have no model_args, as nanoGPT writes them, "
        f"and there is no config.json beside them. Pass model=, whose names the weights have, perhaps after a prefix "
        f"(seen {', '.join(sorted(abouts[0].names)[:3])}), or see {OWN_ARCHITECTURE}"
    )
