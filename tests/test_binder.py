"""What a Binder host builds from: its files agree with the package's, and both links lead to what they name."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import psutil
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from inductionkit.widgets._page import read_bundle

ROOT = Path(__file__).parents[1]
BINDER = ROOT / "binder"
POST_BUILD = (BINDER / "postBuild").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Node.js comes as a wheel, and there is nothing to compile.
UNWANTED = re.compile(r"nodejs|npm|yarn|cmake|make|ninja|rust|gcc.*|gxx.*|clang.*|.*compilers?", re.IGNORECASE)
ALLOCATE = (
    "import sys; held = bytearray(100_000_000); held[::4096] = b'x' * len(held[::4096]); print(flush=True); input()"
)


def load_run_course():
    """The script, which is no module of the package."""
    spec = importlib.util.spec_from_file_location("run_course", BINDER / "run_course.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


run_course = load_run_course()


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load((BINDER / "environment.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def from_conda(environment) -> dict[str, Requirement]:
    """What conda installs beside Python, by its name on PyPI."""
    _, requirements = run_course.pypi_requirements(environment)
    return {each.name: each for each in map(Requirement, requirements)}


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def pip_installs() -> list[str]:
    """What `postBuild` has pip install."""
    [command] = [line for line in POST_BUILD.splitlines() if " pip install " in line]
    words = shlex.split(command)[4:]
    return [word for last, word in zip(["", *words], words) if not word.startswith("-") and last != "-c"]


def test_conda_forge_alone_without_compilers(environment):
    assert environment["channels"] == ["conda-forge"]
    names = [re.match(r"[\w.-]+", entry)[0] for entry in environment["dependencies"]]
    assert "pytorch-cpu" in names
    assert not [name for name in names if UNWANTED.fullmatch(name)]


def test_what_is_unwanted_would_be_seen():
    for name in ("nodejs", "gcc", "gcc_linux-64", "c-compiler", "compilers", "clangxx", "make"):
        assert UNWANTED.fullmatch(name), name
    assert not UNWANTED.fullmatch("matplotlib-base")


def test_python_is_one_that_the_package_takes(environment):
    python, _ = run_course.pypi_requirements(environment)
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")


def test_conda_may_install_what_is_tested(from_conda, pins):
    for name in from_conda.keys() - {"pip"}:
        assert from_conda[name].specifier.contains(pins[name]), f"{from_conda[name]} excludes the tested {pins[name]}"


def test_conda_installs_what_the_package_takes(from_conda, pins):
    """A range that begins below the package's own would have pip replace what conda installed."""
    needed = {each.name: each for each in map(Requirement, [*PROJECT["dependencies"], *extra("lab")])}
    for name in from_conda.keys() & needed.keys():
        [least] = [each.version for each in from_conda[name].specifier if each.operator == ">="]
        assert needed[name].specifier.contains(least), f"{from_conda[name]}, where the package takes {needed[name]}"


def test_every_package_of_conda_has_its_name_on_pypi(environment):
    names = {re.match(r"[\w.-]+", entry)[0] for entry in environment["dependencies"]}
    assert run_course.PYPI_NAMES.keys() == names - {"python"}


def test_pip_leaves_alone_what_conda_installed(from_conda, pins):
    pattern = re.search(r"^from_conda='(.*)'$", POST_BUILD, re.MULTILINE)[1]
    kept = {name for name, version in pins.items() if re.match(pattern, f"{name}=={version}")}
    assert kept == from_conda.keys() - {"pip"}


def test_post_build_can_be_run():
    assert os.access(BINDER / "postBuild", os.X_OK)
    subprocess.run(["bash", "-n", BINDER / "postBuild"], check=True)
    assert "set -euo pipefail" in POST_BUILD.splitlines()


def test_a_session_starts_with_one_thread_and_what_it_is_told_to_start():
    program = "import os, sys; print(os.environ['OMP_NUM_THREADS'], *sys.argv[1:])"
    command = [BINDER / "start", sys.executable, "-c", program, "a word", "b"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1 a word b\n"


def test_all_of_the_lab_and_voila_are_installed(from_conda):
    installed = set(from_conda)
    for word in pip_installs():
        extras = re.fullmatch(r"\.\[(.*)\]", word)
        installed |= (
            {Requirement(each).name for name in extras[1].split(",") for each in extra(name)} if extras else {word}
        )
    assert {Requirement(each).name for each in extra("lab")} | {"voila"} <= installed


def extra(name: str) -> list[str]:
    return PROJECT["optional-dependencies"][name]


def test_names_of_conda_become_names_of_pypi():
    given = {"dependencies": ["python=3.12", "pip", "pytorch-cpu>=2.11,<3", "matplotlib-base"]}
    assert run_course.pypi_requirements(given) == ("3.12", ["pip", "torch>=2.11,<3", "matplotlib"])
    with pytest.raises(KeyError, match="nodejs"):
        run_course.pypi_requirements({"dependencies": ["python=3.12", "nodejs"]})


def test_the_page_is_a_title_and_the_explorer():
    title, code = nbformat.read(ROOT / run_course.EXPLORER, as_version=4).cells
    assert title.cell_type == "markdown" and re.fullmatch("# .*", title.source)
    [output] = code.outputs
    assert output.data["text/plain"].startswith("PhaseExplorer(two-layer")


def test_the_course_is_every_notebook_but_one_that_says_it_is_too_large():
    names = [path.name for path in run_course.course(ROOT)]
    left_out = {path.name for path in (ROOT / "examples").glob("*.ipynb")} - set(names)
    assert left_out == run_course.TOO_LARGE and names[-1] == "explorer.ipynb"
    for name in left_out:
        assert "Binder" in nbformat.read(ROOT / "examples" / name, as_version=4).cells[0].source


def test_a_copy_holds_what_a_clone_would(tmp_path):
    run_course.copy_repository(tmp_path)
    assert os.access(tmp_path / "binder/postBuild", os.X_OK)
    assert (tmp_path / "inductionkit/widgets/frontend/package.json").is_file()
    assert not (tmp_path / "inductionkit/widgets/static").exists(), "the front end is to be built anew"
    assert not list(tmp_path.rglob("node_modules"))


def test_memory_of_a_process_is_what_it_holds():
    with subprocess.Popen([sys.executable, "-c", ALLOCATE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        used = run_course.used_mb([psutil.Process(process.pid)])
        process.communicate(b"\n")
        gone = run_course.used_mb([])
    assert 100 <= used <= 130
    assert gone == 0


def test_what_a_user_would_run_into():
    hosts = run_course.Hosts(1, 200, {"lab": 200, "voila": 500}, 2, 100)
    ran = [
        run_course.Ran("small", 1, 1300, ""),
        run_course.Ran("large", 1, 1301, ""),
        run_course.Ran("broken", 1, 10, "NameError: x"),
    ]
    assert run_course.problems(ran, hosts) == [
        "broken fails: NameError: x",
        "large takes 1501 MB with the server, more than 1500",
        "/voila answers 500",
    ]
    assert "NameError: x" in run_course.table(ran, hosts)


def test_both_links_lead_to_what_they_name(tmp_path):
    """In this environment; `binder/run_course.py` visits them in the one that Binder would build."""
    hosts = run_course.measure_hosts(run_course.Environment(Path(sys.prefix), ROOT, tmp_path), tmp_path)
    assert hosts.links == dict.fromkeys(("api/status", *run_course.LINKS), 200)
    assert hosts.script_kb == round(len(read_bundle("phase_explorer")) / 1e3)
    assert hosts.server_mb > 20
