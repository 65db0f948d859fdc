"""Is what a program wrote, or returned, what is expected?"""

from __future__ import annotations

import sys
from typing import Any, cast


def same_output(found: str, expected: str, tolerance: float) -> bool:
    """Compare two outputs word by word; numbers that aren't whole may differ by ``tolerance``."""
    left, right = found.split(), expected.split()
    return len(left) == len(right) and all(
        one == other or _close(one, other, tolerance) for one, other in zip(left, right, strict=True)
    )


def _close(one: str, other: str, tolerance: float) -> bool:
    if not tolerance or not ({".", "e", "E"} & {*other}):
        return False
    try:
        return _near(float(one), float(other), tolerance)
    except ValueError:
        return False


def _near(found: float, expected: float, tolerance: float) -> bool:
    return abs(found - expected) <= tolerance * max(1.0, abs(expected))


def same_value(found: Any, expected: Any, tolerance: float) -> bool:
    """Compare what a function returned with a JSON value, which knows neither tuples nor keys that aren't text."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(found, numpy.ndarray | numpy.generic):
        found = found.tolist()
    if isinstance(expected, list):
        items = cast("list[Any]", expected)
        return (
            isinstance(found, list | tuple)
            and len(cast("list[Any]", found)) == len(items)
            and all(same_value(one, other, tolerance) for one, other in zip(found, items, strict=True))
        )
    if isinstance(expected, dict):
        pairs = {_key(key): value for key, value in cast("dict[Any, Any]", expected).items()}
        if not isinstance(found, dict):
            return False
        both = {_key(key): value for key, value in cast("dict[Any, Any]", found).items()}
        return both.keys() == pairs.keys() and all(same_value(both[key], pairs[key], tolerance) for key in pairs)
    if expected is None or isinstance(expected, str):
        return (found is None or isinstance(found, str)) and found == expected
    if not isinstance(found, int | float):
        return False
    if found == expected or (found != found and expected != expected):
        return True
    return isinstance(expected, float) and _near(float(found), expected, tolerance)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) or key is None else str(key)
