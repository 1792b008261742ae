"""What a type checker sees: the package itself, its public names, and uses that it must refuse."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import inductionkit as ik
from inductionkit import plots, superposition, train, widgets

ROOT = Path(__file__).parents[1]
PUBLIC = {
    "inductionkit": ik.__all__,
    "inductionkit.plots": [name for name in vars(plots) if name.startswith("plot_")],
    "inductionkit.superposition": superposition.__all__,
    "inductionkit.train": train.__all__,
    "inductionkit.widgets": widgets.__all__,
}
RIGHT = """
from pathlib import Path

import pandas
import xarray

import inductionkit as ik
from inductionkit import superposition as sp

history: xarray.Dataset = ik.example_history()
phase: ik.PhaseChange = ik.find_phase_change(history)
explorer = ik.PhaseExplorer(history, phase=phase, control=ik.example_history("one-layer"))
ik.widgets.LossView(history, phase=(5e6, 8e6)).link(explorer).follow("scan.zarr")
explorer.step, explorer.head, explorer.text = 0, (1, 0), 1
step: int = explorer.step
head: tuple[int, int] | None = explorer.head
page: Path = explorer.save("phase.html")
heads: pandas.DataFrame = ik.induction_heads(history.isel(step=-1))
counted: tuple[tuple[bool, ...], ...] = ik.Behaviour("count", [[5, 6, 7], [8, 9]]).counted
shape: tuple[int, ...] = sp.ToyModels(5, 2, density=[[0.1], [0.05]]).importance.shape
diagram: xarray.Dataset = sp.phase_diagram(1, training={"n_steps": 10})
"""
WRONG = (
    "ik.open_run(3)",
    "ik.scan_everything",
    "ik.find_phase_change('history')",
    "ik.PhaseExplorer(history, phase='wide')",
    "explorer.step = 'last'",
    "explorer.head = 1.0",
    "ik.Behaviour('count', 3)",
    "sp.phase_diagram(1, training={'n_stepz': 10})",
    "sp.no_such_name",
)


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """What mypy learnt of torch and the others, a minute's work, kept from one session to the next."""
    return tmp_path_factory.getbasetemp().parent / "inductionkit-mypy"


def mypy(cache: Path, folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def mypy_on(program: str, cache: Path, folder: Path) -> list[str]:
    """What mypy says of a program outside the project, which finds the package as it is installed."""
    (folder / "program.py").write_text(program)
    _, said = mypy(cache, folder, "--config-file", str(ROOT / "pyproject.toml"), "program.py")
    return said.splitlines()


def test_the_package_is_typed_strictly(cache):
    status, said = mypy(cache, ROOT)
    assert status == 0, said


@pytest.mark.parametrize("package", ["inductionkit", "inductionkit.superposition", "inductionkit.widgets"])
def test_a_stub_names_what_its_package_loads(package):
    loaded = import_module(package)
    stub = ast.parse(Path(loaded.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = {
        alias.asname: import_module(f".{node.module}" if node.module else ".", package)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(homes) == loaded.__all__
    assert all(getattr(home, name) is getattr(loaded, name) for name, home in homes.items())


def test_public_names_have_types(cache, tmp_path):
    names = [f"{package}.{name}" for package, public in PUBLIC.items() for name in public]
    program = "\n".join([*(f"import {package}" for package in PUBLIC), *(f"reveal_type({name})" for name in names)])
    said = mypy_on(program, cache, tmp_path)
    revealed = [match[1] for line in said if (match := re.search(r'Revealed type is "(.*)"', line))]
    types = dict(zip(names, revealed, strict=True))
    assert not {name: seen for name, seen in types.items() if seen == "Any" or seen.endswith("-> Any")}
    assert types["inductionkit.find_phase_change"].endswith("-> inductionkit.phase.change.PhaseChange")


def test_what_is_right_passes_and_what_is_wrong_is_refused(cache, tmp_path):
    assert mypy_on(RIGHT, cache, tmp_path) == ["Success: no issues found in 1 source file"]
    said = mypy_on(RIGHT + "\n".join(WRONG), cache, tmp_path)
    first = RIGHT.count("\n") + 1
    refused = {int(line.split(":")[1]) - first for line in said if ": error:" in line}
    assert refused == set(range(len(WRONG))), "\n".join(said)
