"""What is shipped: what wheel and sdist hold, what they say of themselves, and that the wheel works without torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import inductionkit as ik

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "inductionkit"
FRONTEND, STATIC = PACKAGE / "widgets/frontend", PACKAGE / "widgets/static"
MAX_BYTES = 30e6
ON_TORCH = {"circuitsvis", "torch", "transformer-lens", "transformers"}  # dependencies that are or bring in torch
OPEN_AND_SAVE = """
import importlib.util, sys, time
assert importlib.util.find_spec("torch") is None
began = time.perf_counter()
import inductionkit as ik
history = ik.example_history()
page = ik.PhaseExplorer(history, phase=ik.find_phase_change(history)).save("phase.html")
print(time.perf_counter() - began)
assert ik.__file__.startswith(sys.prefix), ik.__file__
"""


def build(source: Path, out: Path, kind: str) -> Path:
    """Build a wheel or an sdist. The front end is built anew only if its sources changed since."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = out.iterdir()
    return built


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="session")
def metadata(wheel) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_string(archive.read(name).decode())


def contents(wheel: Path) -> dict[str, int]:
    """The checksums of a wheel's files by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    modules = {path for suffix in ("py", "pyi") for path in PACKAGE.rglob(f"*.{suffix}")}
    modules -= set(FRONTEND.rglob("*"))
    bundled = {path for path in (PACKAGE / "bundled").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    bundles = {STATIC / f"{source.stem}.js" for source in (FRONTEND / "src/bundles").glob("*.ts")}
    recipes = set((PACKAGE / "train/recipes").glob("*.toml"))
    single = {PACKAGE / "py.typed", PACKAGE / "display/heat_maps.css", STATIC / "sources.sha256"}
    single.add(PACKAGE / "scan/default_text.txt")
    about = f"inductionkit-{ik.__version__}.dist-info"
    licences = {f"{about}/licenses/{name}" for name in ("LICENSE", "inductionkit/bundled/NOTICE")}
    expected = {path.relative_to(ROOT).as_posix() for path in modules | bundled | bundles | recipes | single}
    expected |= licences | {f"{about}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    assert bundles
    assert set(contents(wheel)) == expected


def test_the_wheel_is_small(wheel):
    size = wheel.stat().st_size
    assert size <= MAX_BYTES, f"{wheel.name} takes {size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f} MB"


def test_the_sdist_builds_the_same_wheel(wheel, tmp_path):
    shutil.unpack_archive(build(ROOT, tmp_path / "sdist", "sdist"), tmp_path, filter="data")
    again = build(tmp_path / f"inductionkit-{ik.__version__}", tmp_path / "wheel", "wheel")
    assert contents(again) == contents(wheel)


def test_one_version_everywhere(metadata):
    changelog = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    citation = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert changelog[1] == citation[1] == metadata["Version"] == ik.__version__


def test_metadata_name_every_dependency(metadata):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [entry for entry in metadata.get_all("Requires-Dist") if "extra ==" not in entry]
    assert sorted(required) == sorted(project["dependencies"])
    assert metadata.get_all("Provides-Extra") == sorted(project["optional-dependencies"])


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_wheel_opens_and_saves_the_explorer_without_torch(version, wheel, metadata, tmp_path, capsys):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    installed = tmp_path / "env/bin/python"
    dependencies = [entry for entry in metadata.get_all("Requires-Dist") if "extra ==" not in entry]
    plain = [entry for entry in dependencies if re.match(r"[\w-]+", entry)[0] not in ON_TORCH]
    pip_install(installed, "--constraint", str(ROOT / "constraints.txt"), *plain)
    pip_install(installed, "--no-deps", str(wheel))
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run([installed, "-I", "-c", OPEN_AND_SAVE], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["phase.html"]
    assert "<script" in (folder / "phase.html").read_text(encoding="utf-8")
    with capsys.disabled():
        print(f"\nPython {version}: installed, the explorer was first opened and saved in {float(done.stdout):.1f} s")


def interpreter(version: str) -> str | None:
    """The Python of a version: the running one, one on the path, or one that pyenv keeps behind a shim."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    name = f"python{version}"
    chosen = dict(os.environ)
    if shutil.which("pyenv"):
        kept = subprocess.run(["pyenv", "whence", name], capture_output=True, text=True).stdout.split()
        chosen |= {"PYENV_VERSION": kept[-1]} if kept else {}
    if shutil.which(name) is None:
        return None
    asked = subprocess.run(
        [name, "-c", "import sys; print(sys.executable)"], env=chosen, capture_output=True, text=True
    )
    return asked.stdout.strip() or None


def pip_install(python: Path, *arguments: str) -> None:
    """Install with this environment's pip into another's, for it has none."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
