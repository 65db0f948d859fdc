"""Arrays without items among tests: they agree with nothing that has some.

NumPy compares an empty array with a number, or with an array of one, by comparing nothing, and ``all()`` of nothing is
true: a program that returns empty arrays would pass. So the tests' empty arrays refuse to be compared with what has
items, and ``allclose`` says what it would say of any other two of different lengths.
"""

from __future__ import annotations

from functools import cache, wraps
from typing import Any

CREATORS = ("array", "asarray", "asanyarray", "ascontiguousarray")


def guarded(array: Any) -> Any:
    """Return an array; an empty one as one that agrees with nothing."""
    return array if array.size else array.view(_empty())


def guard() -> None:
    """Have NumPy make such arrays in this process."""
    import numpy

    for name in CREATORS:
        setattr(numpy, name, _creating(getattr(numpy, name)))
    for name in ("isclose", "allclose"):
        setattr(numpy, name, _comparing(getattr(numpy, name)))


def _creating(create: Any) -> Any:
    @wraps(create)
    def guarding(*args: Any, **kwargs: Any) -> Any:
        return guarded(create(*args, **kwargs))

    return guarding


def _comparing(compare: Any) -> Any:
    import numpy

    @wraps(compare)
    def comparing(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
        return compare(numpy.asanyarray(a), numpy.asanyarray(b), *args, **kwargs)

    return comparing


@cache
def _empty() -> Any:
    import numpy

    class Empty(numpy.ndarray):
        """An array without items."""

        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
            plain = [one.view(numpy.ndarray) if isinstance(one, Empty) else one for one in inputs]
            if len(inputs) > 1 and any(numpy.size(one) for one in plain):
                raise ValueError("an array is empty, and is compared with what isn't")
            kwargs.pop("out", None)
            return getattr(ufunc, method)(*plain, **kwargs)

    return Empty
