"""The changelog's versions: the code's is the newest one that has a date."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from packaging.version import Version

from schemas import __version__

HOME = Path(__file__).resolve().parents[2]


def test_the_changelog_has_the_version_of_the_code() -> None:
    titles = re.findall(r"^## (.*)", (HOME / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert titles[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", title) for title in titles[1:]]
    found = [(Version(one[1]), date.fromisoformat(one[2])) for one in released if one]
    assert len(found) == len(released) >= 2
    assert found == sorted(found, reverse=True)
    assert len({version for version, _ in found}) == len(found)
    assert str(found[0][0]) == __version__


def test_pages_name_the_wheel_of_this_version() -> None:
    named = re.findall(r"gristmill-([\d.]+)-py3", (HOME / "docs" / "endpoint.md").read_text())
    assert named and {*named} == {__version__}
