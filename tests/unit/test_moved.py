"""Names that moved: an import of an old one says the new one, and the new one is there."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import pytest

from operators import operator_class
from pipelines import pipeline_module
from schemas.errors import BadInput
from schemas.moved import MOVED


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_module_says_where_it_is(old: str) -> None:
    assert find_spec(MOVED[old]) is not None
    with pytest.raises(ModuleNotFoundError, match="any more"):
        importlib.import_module(old)


def test_names_of_modules_that_became_packages() -> None:
    with pytest.raises(ImportError, match=r"cluster\.records\.reader\.find_run now"):
        from cluster.records import find_run  # type: ignore[attr-defined]  # noqa: F401
    with pytest.raises(ImportError, match=r"cluster\.engines\.openai\.engine"):
        from cluster.engines.openai import OpenAIEngine  # type: ignore[attr-defined]  # noqa: F401
    with pytest.raises(ImportError, match=r"schemas\.measures\.PassAtK now"):
        from schemas.datasets import PassAtK  # type: ignore[attr-defined]  # noqa: F401


def test_a_folder_that_is_gone_says_where_its_modules_are() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"what was in it is in operators\.measure, operators\.policies now"):
        importlib.import_module("operators.budget")


def test_what_never_was_is_told_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'cluster\.nonsense'"):
        importlib.import_module("cluster.nonsense")


def test_people_are_told_where_an_operator_or_a_pipeline_is_named() -> None:
    with pytest.raises(BadInput, match=r"operators\.sample\.sampling now"):
        operator_class("operators.sample.sample:Sample")
    with pytest.raises(BadInput, match=r"cluster\.driving\.driver now"):
        pipeline_module("cluster.driver")
    with pytest.raises(BadInput, match="is it on PYTHONPATH"):
        operator_class("nowhere.at_all:Thing")
