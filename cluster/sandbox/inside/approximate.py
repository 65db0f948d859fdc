"""Numbers that are nearly equal, as ``pytest.approx`` says."""

from __future__ import annotations

import math
import sys
from typing import Any, cast

_RELATIVE, _ABSOLUTE = 1e-6, 1e-12


class approx:
    """Equals what is within ``rel`` (1e-6) of the expected value, or ``abs`` (1e-12), in lists and dicts as well."""

    __hash__ = None  # pyright: ignore[reportAssignmentType]
    __array_ufunc__ = None
    __array_priority__ = 100

    def __init__(self, expected: Any, rel: Any = None, abs: Any = None, nan_ok: bool = False) -> None:
        self._expected, self._rel, self._abs, self._nan_ok = expected, rel, abs, nan_ok

    def __repr__(self) -> str:
        return f"approx({self._expected!r})"

    def __eq__(self, other: object) -> bool:
        return self._same(_listed(other), _listed(self._expected))

    def _same(self, found: Any, expected: Any) -> bool:
        if isinstance(expected, dict):
            both = cast("dict[Any, Any]", expected)
            return (
                isinstance(found, dict)
                and found.keys() == both.keys()
                and all(self._same(found[k], both[k]) for k in both)
            )
        if isinstance(expected, list | tuple):
            items = cast("list[Any]", expected)
            return (
                isinstance(found, list | tuple)
                and len(cast("list[Any]", found)) == len(items)
                and all(map(self._same, found, items))
            )
        try:
            return self._near(found, expected)
        except (TypeError, ValueError, OverflowError):
            return bool(found == expected)

    def _near(self, found: Any, expected: Any) -> bool:
        if isinstance(expected, str | bytes | bool) or expected is None or found is None or isinstance(found, str):
            return bool(found == expected)
        if found == expected:
            return True
        distance = abs(found - expected)
        if math.isnan(abs(expected)):
            return self._nan_ok and math.isnan(abs(found))
        if math.isinf(abs(expected)):
            return False
        return bool(distance <= self._tolerance(abs(expected)))

    def _tolerance(self, size: Any) -> Any:
        absolute = _ABSOLUTE if self._abs is None else self._abs
        if self._rel is None and self._abs is not None:
            return absolute
        return max((_RELATIVE if self._rel is None else self._rel) * float(size), absolute)


def _listed(value: Any) -> Any:
    numpy: Any = sys.modules.get("numpy")
    return value.tolist() if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic) else value
