"""Build the environment of a Binder host, without Docker, and run the course in it.

    python binder/run_course.py                                     # every notebook that fits; a table on stdout
    python binder/run_course.py examples/01*.ipynb --environment out/binder

The environment comes from the files that repo2docker reads: `environment.yml` through micromamba, mamba or conda, where
one is installed and reaches its channel, and otherwise the same packages by their names on PyPI, in a virtual
environment; then `postBuild`, in a copy of the repository as git sees it, so that nothing built here is used.

Each notebook runs from a clean kernel. Its peak is the proportional set size of the kernel and its children, sampled
every 50 ms; JupyterLab, which a user has beside it, is measured once. Exit status 1 if a notebook fails, an address of
the Binder links doesn't answer, or a peak and the server together exceed what a session can rely on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import yaml
from ipywidgets._version import __control_protocol_version__
from jupyter_client.session import Session, json_packer
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[1]
EXPLORER = "binder/explorer.ipynb"
TOO_LARGE = {"09_the_induction_circuit_of_a_language_model.ipynb"}  # its model takes more memory than a session has
LINKS = ("lab/tree/examples", f"voila/render/{EXPLORER}")  # the `urlpath`s of the links to Binder
MAX_MB = 1500  # mybinder.org ends a session at 2 GB
SAMPLE_S = 0.05
START_S = 120
STOP_S = 10
PYPI_NAMES = {
    "matplotlib-base": "matplotlib",
    "numpy": "numpy",
    "pandas": "pandas",
    "pip": "pip",
    "pyarrow": "pyarrow",
    "pytorch-cpu": "torch",
}


@dataclass(frozen=True)
class Ran:
    """How a notebook ran; `error` is empty if it did to its end."""

    notebook: str
    seconds: float
    peak_mb: float
    error: str


@dataclass(frozen=True)
class Hosts:
    """What a user waits for, and what the server takes while it does nothing."""

    jupyter_seconds: float
    server_mb: float
    links: dict[str, int]
    voila_seconds: float
    script_kb: float


@dataclass(frozen=True)
class Environment:
    """Installed packages, the repository that they run the notebooks of, and a home of their own."""

    prefix: Path
    repository: Path
    home: Path

    @property
    def python(self) -> Path:
        return self.prefix / "bin/python"

    def start(self, arguments: Sequence[object], log: Path) -> subprocess.Popen:
        """Start a Python module as Binder does, with a home in which there is nothing of this machine's user."""
        ours = ("CONDA_", "IPYTHON", "JUPYTER", "PYTHON", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        kept |= {"HOME": str(self.home), "PATH": f"{self.prefix / 'bin'}{os.pathsep}{kept['PATH']}"}
        begin = self.repository / "binder/start"
        command = [str(each) for each in (begin, self.python, "-m", *arguments)]
        with log.open("wb") as file:
            return subprocess.Popen(command, cwd=self.repository, env=kept, stdout=file, stderr=subprocess.STDOUT)


def build(folder: Path) -> tuple[Environment, str]:
    """Install in `folder` what `environment.yml` and `postBuild` say; the environment, and by what means."""
    environment = Environment(*(folder / name for name in ("environment", "repository", "home")))
    for path in (environment.repository, environment.home):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    copy_repository(environment.repository)
    file = environment.repository / "binder/environment.yml"
    manager = find_conda()
    if manager is None:
        python, requirements = pypi_requirements(yaml.safe_load(file.read_text(encoding="utf-8")))
        constraints = environment.repository / "constraints.txt"
        run([interpreter(python), "-m", "venv", environment.prefix])
        run([environment.python, "-m", "pip", "install", "--quiet", "--constraint", constraints, *requirements])
    elif not environment.python.exists():
        create = ["create", "--yes"] if Path(manager).name == "micromamba" else ["env", "create"]
        run([manager, *create, "--prefix", environment.prefix, "--file", file])
    path = f"{environment.prefix / 'bin'}{os.pathsep}{os.environ['PATH']}"
    repository = environment.repository
    run([repository / "binder/postBuild"], cwd=repository, env={**os.environ, "PATH": path})
    return environment, "venv" if manager is None else Path(manager).name


def run(command: Sequence[object], **options: object) -> None:
    """Run a step of the build; stdout is for results alone."""
    say(" ".join(str(each) for each in command))
    subprocess.run([str(each) for each in command], check=True, stdout=sys.stderr, **options)


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def copy_repository(to: Path) -> None:
    """Copy what is, or could be, committed: what a clone would hold, with the changes of this checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def find_conda() -> str | None:
    """A program that installs from conda's channels, if there is one and it reaches conda-forge."""
    for name in ("micromamba", "mamba", "conda"):
        if program := shutil.which(name):
            search = [program, "search", "--override-channels", "--channel", "conda-forge", "pip"]
            try:
                reached = subprocess.run(search, capture_output=True, timeout=START_S).returncode == 0
            except subprocess.TimeoutExpired:
                reached = False
            if reached:
                return program
            say(f"{program} does not reach conda-forge")
    return None


def pypi_requirements(environment: dict[str, list[str]]) -> tuple[str, list[str]]:
    """The version of Python that an environment names, and its other packages as pip takes them."""
    named = dict(re.fullmatch(r"([\w.-]+)(.*)", entry).groups() for entry in environment["dependencies"])
    python = named.pop("python").lstrip("=")
    return python, [f"{PYPI_NAMES[name]}{versions}" for name, versions in named.items()]


def interpreter(version: str) -> str:
    """A Python of a version: the running one or one on the path."""
    found = sys.executable if sys.version.startswith(f"{version}.") else shutil.which(f"python{version}")
    if found is None:
        raise SystemExit(f"environment.yml names Python {version}; this is {sys.version.split()[0]}, install that one")
    return found


def used_mb(processes: Sequence[psutil.Process]) -> float:
    """Memory of processes in MB, what several of them share counted once."""
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:  # it ended meanwhile
            continue
    return total / 1e6


def run_notebook(environment: Environment, notebook: str, executed: Path) -> Ran:
    """Run a notebook of the copy from a clean kernel and keep what it shows in another folder."""
    say(f"running {notebook}")
    log = executed / f"{Path(notebook).stem}.log"
    arguments = ["nbconvert", "--to", "notebook", "--execute", "--output-dir", executed, notebook]
    began, peak = time.perf_counter(), 0.0
    process = environment.start(arguments, log)
    while process.poll() is None:
        # Without nbconvert itself: a user has the server in its place.
        peak = max(peak, used_mb(children(process)))
        time.sleep(SAMPLE_S)
    seconds = time.perf_counter() - began
    error = log.read_text(errors="replace").strip().splitlines()[-1] if process.returncode else ""
    return Ran(notebook, round(seconds, 1), round(peak), error)


def children(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@contextmanager
def serve(
    environment: Environment, arguments: Sequence[object], port_option: str, log: Path
) -> Iterator[tuple[subprocess.Popen, str, float]]:
    """A server of the environment: its process, its address and when it was started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, began = f"http://127.0.0.1:{port}/", time.perf_counter()
    process = environment.start([*arguments, f"{port_option}={port}"], log)
    try:
        while not listens(port):
            if process.poll() is not None or time.perf_counter() - began > START_S:
                raise SystemExit(f"{arguments[0]} did not start:\n{log.read_text(errors='replace')}")
            time.sleep(SAMPLE_S)
        yield process, url, began
    finally:
        started = [psutil.Process(process.pid), *children(process)] if process.poll() is None else []
        process.terminate()
        for left in psutil.wait_procs(started, timeout=STOP_S)[1]:
            left.kill()
        process.wait()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def status(url: str) -> int:
    """The status of an address, after its whole page was read."""
    try:
        with urllib.request.urlopen(url, timeout=START_S) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def measure_hosts(environment: Environment, logs: Path) -> Hosts:
    """Start JupyterLab and visit the links; start Voilà on the explorer and take its widget's script."""
    say("starting JupyterLab")
    lab = ["jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--IdentityProvider.token="]
    with serve(environment, lab, "--ServerApp.port", logs / "lab.log") as (process, url, began):
        links = {"api/status": status(f"{url}api/status")}
        jupyter_seconds = time.perf_counter() - began
        links[LINKS[0]] = status(url + LINKS[0])
        server = used_mb([psutil.Process(process.pid), *children(process)])
        # From here on it has a kernel besides, which counts as that notebook's.
        links |= {link: status(url + link) for link in LINKS[1:]}
    say("starting Voilà")
    voila = ["voila", "--no-browser", "--Voila.ip=127.0.0.1", EXPLORER]
    with serve(environment, voila, "--Voila.port", logs / "voila.log") as (_, url, began):
        script = widget_script(url)
        voila_seconds = time.perf_counter() - began
    return Hosts(round(jupyter_seconds, 1), round(server), links, round(voila_seconds, 1), round(len(script) / 1e3))


def widget_script(url: str) -> str:
    """Ask the kernel behind Voilà's page for the widget on it, as the page's own script does."""
    with urllib.request.urlopen(url, timeout=START_S) as answer:
        page = answer.read().decode()
    [model] = re.findall(r'"model_id":\s*"(\w+)"', page)
    [kernel] = set(re.findall(r'"kernelId":\s*"([\w-]+)"', page))
    comm, session = uuid.uuid4().hex, Session()
    # The protocol that browsers agree on with Jupyter, and the only one that Voilà reads rightly.
    protocol = {"subprotocols": ["v1.kernel.websocket.jupyter.org"], "max_size": None}
    with connect(f"ws{url.removeprefix('http')}api/kernels/{kernel}/channels", **protocol) as channel:
        for kind, content in (
            ("comm_open", {"target_name": "jupyter.widget.control", "data": {}}),
            ("comm_msg", {"data": {"method": "request_states"}}),
        ):
            message = session.msg(
                kind, {"comm_id": comm, **content}, metadata={"version": __control_protocol_version__}
            )
            channel.send(serialize_msg_to_ws_v1(message, "shell", json_packer))
        while True:
            _, (header, _, _, content, *_) = deserialize_msg_from_ws_v1(channel.recv(timeout=START_S))
            if json.loads(header)["msg_type"] == "comm_msg":
                states = json.loads(content)["data"].get("states", {})
                if model in states:
                    return states[model]["state"]["_esm"]


def table(ran: Sequence[Ran], hosts: Hosts) -> str:
    width = max(len(each.notebook) for each in ran)
    lines = [f"{'notebook':{width}}  seconds  peak MB  with server"]
    for each in ran:
        failed = f"  {each.error}" if each.error else ""
        both = each.peak_mb + hosts.server_mb
        lines.append(f"{each.notebook:{width}}  {each.seconds:7.1f}  {each.peak_mb:7.0f}  {both:11.0f}{failed}")
    lines += [
        "",
        f"JupyterLab answers after {hosts.jupyter_seconds:.1f} s and takes {hosts.server_mb:.0f} MB",
        f"Voilà's page and its widget's script ({hosts.script_kb:.0f} kB) are there after {hosts.voila_seconds:.1f} s",
        *(f"/{link}: {answered}" for link, answered in hosts.links.items()),
    ]
    return "\n".join(lines)


def problems(ran: Sequence[Ran], hosts: Hosts) -> list[str]:
    """What a user of Binder would run into."""
    failed = [f"{each.notebook} fails: {each.error}" for each in ran if each.error]
    large = [
        f"{each.notebook} takes {each.peak_mb + hosts.server_mb:.0f} MB with the server, more than {MAX_MB}"
        for each in ran
        if each.peak_mb + hosts.server_mb > MAX_MB
    ]
    return failed + large + [f"/{link} answers {code}" for link, code in hosts.links.items() if code != 200]


def course(repository: Path) -> list[Path]:
    """The notebooks of the course that a session has the memory for, in its order, and the page of Voilà."""
    tutorials = sorted(path for path in (repository / "examples").glob("*.ipynb") if path.name not in TOO_LARGE)
    return [*(path.relative_to(repository) for path in tutorials), Path(EXPLORER)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", help="of the repository; default: all that fit, and the explorer")
    parser.add_argument("--environment", type=Path, help="folder to build in and keep; updated if it exists")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = options.environment or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        chosen = [Path(each).resolve().relative_to(ROOT) for each in options.notebooks]
        began = time.perf_counter()
        environment, manager = build(folder.resolve())
        built_seconds = round(time.perf_counter() - began)
        say(f"built with {manager} in {built_seconds} s")
        executed = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hosts = measure_hosts(environment, executed)
        notebooks = chosen or course(environment.repository)
        ran = [run_notebook(environment, notebook.as_posix(), executed) for notebook in notebooks]
    result = {"built_with": manager, "built_seconds": built_seconds, **asdict(hosts)}
    result["notebooks"] = [asdict(each) for each in ran]
    print(json.dumps(result, indent=2) if options.json else table(ran, hosts))
    found = problems(ran, hosts)
    for problem in found:
        say(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
