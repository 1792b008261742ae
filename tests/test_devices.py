"""Models on other devices: the tests of `on_another_device.py`, in a process of their own.

Torch is told of a device for as long as a process lives, and before anything is trained in it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).with_name("on_another_device.py")


def test_models_on_another_device():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS],
        cwd=TESTS.parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
