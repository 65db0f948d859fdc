"""Verdicts on the samples of several models: one input for each, one table of all.

A pipeline has a sampling stage and a verifying stage for each model (``pipelines.ensemble``). A selection that tells
models apart names them in ``models``, and has an input ``verdicts_NAME`` for each. So which model a sample is of is
known from where it comes, not from a column that somebody has to fill.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from operators.select.classes import one_verifier
from operators.select.selection import VERDICTS
from schemas.contract import Columns
from schemas.later import pl


def check_models(models: tuple[str, ...]) -> tuple[str, ...]:
    """Return names that can be parts of inputs' names.

    Raises:
        ValueError: there is a single one, one occurs twice, or one has other characters.
    """
    if len(models) == 1 or len(set(models)) < len(models):
        raise ValueError("models: there must be two or more, each with a name of its own")
    return check_names(models)


def check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names that can be parts of inputs' names, and are told apart.

    Raises:
        ValueError: one has other characters, or occurs twice.
    """
    strange = [name for name in names if not re.fullmatch(r"\w+", name)]
    if strange:
        raise ValueError(f"'{strange[0]}' must have letters, digits and _ only; it is part of an input's name")
    if len(set(names)) < len(names):
        raise ValueError("each must have a name of its own")
    return names


def inputs_of_models(models: tuple[str, ...]) -> dict[str, Columns]:
    """Return the inputs that models' verdicts come by."""
    return {f"verdicts_{name}": VERDICTS for name in models}


def of_models(models: tuple[str, ...], inputs: Mapping[str, Any]) -> pl.DataFrame:
    """Return one verdict per sample of all models, with the model's name as ``worker``.

    Samples get new numbers, in turn one of each model, so that each has one of its own.
    """
    parts: list[pl.LazyFrame] = []
    for place, name in enumerate(models):
        one = one_verifier(inputs[f"verdicts_{name}"].lazy())
        number = pl.col("sample_index") * len(models) + place
        parts.append(one.with_columns(number.alias("sample_index"), pl.lit(name).alias("worker")))
    return pl.concat(parts).collect(engine="streaming")
