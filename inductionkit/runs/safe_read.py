"""Files from strangers: weights, indices and configurations, read without trusting what they claim.

No code is executed: pickles with anything but tensors are refused. No file outside the folder that was opened is read:
links and `../` that lead out are refused. No more than the size of the model is read or allocated.
"""

from __future__ import annotations

import codecs
import json
import pickle
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from ..system.wrapper_names import without_wrapper_names
from .converting import how_to_join

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model_fsdp.bin",
)
MAX_JSON_BYTES = 2**28
MAX_PICKLE_BYTES = 2**28  # of a file's entry with its names, shapes and numbers; tensors are in entries of their own
SAFE_UNPICKLING_SINCE = (2, 6)  # before, weights_only=True could be made to run code (CVE-2025-32434)


def trusted_root(folder: Path) -> Path:
    """Return the folder that files must be in: `folder` itself, or the hub's cache of its repository.

    In that cache, a snapshot's files are links to blobs two folders up, and these links are followed.
    """
    folder = folder.resolve()
    repository = folder.parent.parent
    in_cache = folder.parent.name == "snapshots" and repository.name.startswith("models--")
    return repository if in_cache else folder


def inside(path: Path, root: Path) -> Path:
    """Return the file that `path` leads to. Raises RunError if it is outside `root` or missing."""
    target = path.resolve()
    if not target.is_relative_to(root.resolve()):
        raise RunError(f"{path} leads out of {root}, to {target}; put the file itself there if you trust it")
    if not target.is_file():
        raise RunError(f"{path} is missing; copy the checkpoint again, or leave it out")
    return target


def read_text(path: Path, root: Path) -> str:
    """Return the text of a file of at most 256 MiB, UTF-8 or marked as UTF-16. Raises RunError if it has none."""
    file = inside(path, root)
    if file.stat().st_size > MAX_JSON_BYTES:
        raise RunError(f"{path} is {file.stat().st_size:,} bytes; at most {MAX_JSON_BYTES:,} are read of such a file")
    try:
        content = file.read_bytes()
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell redirects output
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read as text: {error}") from None


def read_json(path: Path, root: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises RunError if it holds none."""
    try:
        content = json.loads(read_text(path, root))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not readable JSON ({error}); copy it again") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} holds a {type(content).__name__}, not an object with named entries")
    return content


def file_bytes(paths: Iterable[Path]) -> int:
    """Return the bytes of files together; a missing one counts as 0 here, and is reported when it is read."""
    return sum(path.stat().st_size for path in paths if path.is_file())


def entry_file(names: Collection[str], where: object) -> str:
    """Return the file that a checkpoint's weights are read from. Raises RunError if there is none."""
    for name in WEIGHT_FILES:
        if name in names:
            return name
    how = how_to_join(where, names) if isinstance(where, Path) else None
    raise RunError(how or f"{where} has no weights: seen {sorted(names)}, looked for {', '.join(WEIGHT_FILES)}")


def shard_names(index: Path, root: Path) -> dict[str, str]:
    """Return the shard of each tensor from an index file. Raises RunError unless the shards are beside it."""
    weight_map = read_json(index, root).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise RunError(f'{index} has no "weight_map" of tensors to files; copy it again')
    suffix = ".safetensors" if ".safetensors" in index.name else ".bin"
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard or "\\" in shard or not shard.endswith(suffix):
            raise RunError(f"{index} puts {tensor} into {shard!r}; a shard is a *{suffix} file beside its index")
    return weight_map


def read_weights(folder: Path, root: Path, max_bytes: int) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint in Hugging Face layout. Raises RunError if they are not safe to read."""
    entry = folder / entry_file([path.name for path in folder.iterdir()], folder)
    if entry.suffix != ".json":
        return read_weight_file(entry, root, max_bytes)
    weight_map = shard_names(entry, root)
    shards = [folder / name for name in sorted(set(weight_map.values()))]
    refuse_oversize(folder, sum(inside(shard, root).stat().st_size for shard in shards), max_bytes)
    weights: dict[str, Tensor] = {}
    for shard in shards:
        weights |= _weights_in_file(shard, root, max_bytes)
    if missing := sorted(weight_map.keys() - weights.keys()):
        raise RunError(f"{entry} lists {missing[0]} and {len(missing) - 1} more that no shard holds; copy it again")
    return without_wrapper_names(weights)


def read_weight_file(path: Path, root: Path, max_bytes: int) -> dict[str, Tensor]:
    """Return the tensors of one `.safetensors`, `.bin` or `.pth` file, by their names in the plain model."""
    return without_wrapper_names(_weights_in_file(path, root, max_bytes))


def _weights_in_file(path: Path, root: Path, max_bytes: int) -> dict[str, Tensor]:
    file = inside(path, root)
    refuse_oversize(path, file.stat().st_size, max_bytes)
    if path.suffix == ".safetensors":
        weights = _read_safetensors(file, path)
    else:
        content = read_pickle(path, root)
        if not is_state_dict(content):
            raise RunError(f"{path} is not a dictionary of tensors by name; save the model's state_dict alone")
        weights = {str(name): tensor for name, tensor in content.items()}
    refuse_oversize(path, bytes_of(weights), max_bytes)
    return weights


def is_state_dict(content: object) -> bool:
    """Return whether something is a dictionary of tensors."""
    import torch

    return isinstance(content, Mapping) and all(isinstance(tensor, torch.Tensor) for tensor in content.values())


def bytes_of(weights: Mapping[str, Tensor]) -> int:
    """Return the bytes of tensors once they are written out.

    In a pickle of a kilobyte, a tensor may repeat one number ten billion times.
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in weights.values())


def refuse_oversize(what: object, n_bytes: int, max_bytes: int) -> None:
    if n_bytes > max_bytes:
        raise RunError(
            f"{what} claims {n_bytes:,} bytes; the weights of this model take at most {max_bytes:,}. It was not read; "
            f"pass max_bytes= if it is right"
        )


def _read_safetensors(file: Path, path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            # Tensors are views of the mapped file until they are copied.
            return {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118, it is no mapping
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise RunError(f"{path} is cut short or not a safetensors file ({error}); copy it again") from None


def read_pickle(
    path: Path,
    root: Path,
    advice: str = "save the model's state_dict alone, as safetensors",
    mapped: bool = False,
) -> Any:
    """Return what a file of `torch.save` holds: tensors, numbers, text, and lists and dictionaries of these.

    `advice` says what to do about a file that holds more and is refused. With `mapped`, the numbers in tensors are not
    read; using them would end the process if the file were overwritten meanwhile.
    """
    import torch

    file = inside(path, root)
    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE_UNPICKLING_SINCE:
        raise RunError(f"{path} is a pickle, which torch {torch.__version__} cannot read safely; update torch to 2.6")
    _refuse_unsafe_archive(file, path)
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        seen = re.search(r"GLOBAL (\S+)", str(error))
        what = f" ({seen[1]})" if seen else ""
        raise RunError(
            f"{path} holds more than tensors, which might run code{what}; it was not read. If you trust it, {advice}"
        ) from None
    except (RuntimeError, OSError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is cut short or not a file of tensors ({error}); copy it again") from None


def _refuse_unsafe_archive(file: Path, path: Path) -> None:
    """Refuse what torch never writes and may grow to any size, and the format before 1.6.

    These are compressed entries, and the type `bytearray`, which the unpickler creates in any length.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            if packed:
                raise RunError(
                    f"{path} has compressed parts ({packed[0]}), which torch does not write; it was not read"
                )
            for entry in entries:
                if entry.filename.endswith("data.pkl"):
                    refuse_oversize(f"{entry.filename} in {path}", entry.file_size, MAX_PICKLE_BYTES)
                    if b"\nbytearray\n" in archive.read(entry):
                        raise RunError(f"{path} holds a bytearray, which may be of any length; it was not read")
    except (zipfile.BadZipFile, EOFError):
        raise RunError(
            f"{path} is cut short, or was written by a torch before 1.6, whose files claim sizes that cannot be "
            f"checked; copy it again, or save it as safetensors"
        ) from None
