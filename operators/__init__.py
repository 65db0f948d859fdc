"""What is done to the data. Operators are found by their public names, or as ``package.module:Class``."""

from __future__ import annotations

from operators.base import operator_class
from operators.function import operator
from operators.names import OPERATORS

__all__ = ["OPERATORS", "operator", "operator_class"]
