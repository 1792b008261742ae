"""The house: data flows one way, no room knows those on its right, nothing goes round in circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import inductionkit

ROOT = Path(inductionkit.__file__).parent
MAX_LINES = 300

# Left to right; a room may import those before it and its own modules. `testing` builds models for tests.
ROOMS = (
    "errors", "system", "history", "scores", "display", "train", "lens", "runs", "scan", "ablation", "superposition",
    "phase", "circuit", "plots", "widgets", "report", "bundled", "demo", "cli", "testing",
)  # fmt: skip
WITHOUT_TORCH = {"errors", "display", "history", "phase", "circuit", "plots", "widgets", "report"}
WITH_A_MODEL = {
    "widgets.attention_view",
    "widgets._text",
    "circuit.finding",
    "circuit.verifying",
}  # they run the model that they are given
HEAVY = {"torch", "transformers", "transformer_lens"}


def modules() -> dict[str, ast.Module]:
    """The package's modules by name, without the package's own."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        if "frontend" in path.parts:
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """What a module imports, wherever in it, of this package relative to its top; for typing alone does not count."""
    is_package = (ROOT / name.replace(".", "/")).is_dir()
    package = name.split(".") if is_package else name.split(".")[:-1]
    for_typing = {
        id(inner)
        for node in ast.walk(MODULES[name])
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(MODULES[name]):
        if id(node) in for_typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield node.module or ""
                continue
            base = package[: len(package) - node.level + 1] + ([node.module] if node.module else [])
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                yield "inductionkit." + (whole if whole in MODULES else ".".join(base))
    if is_package:  # names that are loaded when first used
        for node in MODULES[name].body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
                yield from (f"inductionkit.{name}.{home}" for home in set(ast.literal_eval(node.value).values()))


def inner(name: str) -> set[str]:
    """The package's modules that a module imports."""
    prefix = "inductionkit."
    return {found.removeprefix(prefix) for found in imports(name) if found.startswith(prefix)} & MODULES.keys() - {name}


def room(name: str) -> str:
    return name.split(".")[0]


def test_every_module_has_a_room():
    assert {room(name) for name in MODULES} == set(ROOMS)


def test_no_arrow_goes_against_the_flow():
    against = [
        f"{name} imports {other}"
        for name in MODULES
        for other in inner(name)
        if ROOMS.index(room(other)) > ROOMS.index(room(name))
    ]
    assert against == []


def test_nothing_goes_round_in_circles_also_not_inside_functions():
    # A package's __init__ names what its modules have; modules that import each other through it count as well.
    arrows = {name: inner(name) for name in MODULES}
    left = dict(arrows)
    while removable := [name for name, others in left.items() if not others & left.keys()]:
        for name in removable:
            del left[name]
    assert left == {}, "\n".join(f"{name} -> {sorted(others & left.keys())}" for name, others in left.items())


def test_torch_is_left_of_the_history():
    loaded = [
        f"{name} imports {other}"
        for name in MODULES
        if room(name) in WITHOUT_TORCH and name not in WITH_A_MODEL
        for other in imports(name)
        if other.split(".")[0] in HEAVY
        or room(other.removeprefix("inductionkit.")) in ("lens", "runs", "scan", "train")
    ]
    assert loaded == []


def test_only_the_lens_opens_the_door_to_transformer_lens():
    others = [
        name
        for name in MODULES
        if room(name) != "lens" and "transformer_lens" in {i.split(".")[0] for i in imports(name)}
    ]
    assert others == []


def test_modules_have_one_idea_each():
    long = {}
    for path in [*ROOT.rglob("*.py"), *(ROOT / "widgets" / "frontend" / "src").rglob("*.ts")]:
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        if n_lines > MAX_LINES and "node_modules" not in path.parts:
            long[path.name] = n_lines
    assert long == {}
