"""Models on other devices: each in a process of its own.

Torch is told of the stand-in device for as long as a process lives, before anything is trained in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
FILES = {"elsewhere": ["on_another_device.py", "on_elsewhere.py"]}
if torch.cuda.is_available():
    FILES["cuda"] = ["on_another_device.py"]


@pytest.mark.parametrize("device", FILES)
def test_models_on_another_device(device):
    files = [HERE / name for name in FILES[device]]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        cwd=HERE.parent,
        env={**os.environ, "DEVICE": device},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
