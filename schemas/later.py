"""Libraries that take long to import, each imported when it is first used.

What only declares something (an operator's settings, a contract, a pipeline) is imported by every command, and none of
them should wait for SciPy that computes nothing. A module writes ``from schemas.later import np`` and goes on as if
NumPy were imported; type checkers see the real thing. The aliases of arrays are for annotations, where nothing is
evaluated.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any


class Later(ModuleType):
    """A module that is imported when an attribute of it is asked for; what was asked for once is found at once."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, found)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.__name__,)


if TYPE_CHECKING:
    import asyncio as asyncio

    import fsspec as fsspec  # pyright: ignore[reportMissingTypeStubs]
    import numpy as np
    import polars as pl  # pyright: ignore[reportUnusedImport]
    import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs, reportUnusedImport]
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]
    Hashes = NDArray[np.uint64]
    Signatures = NDArray[np.uint32]
    graphs: Any
    linalg: Any
    optimize: Any
    sparse: Any
    special: Any
else:
    asyncio = Later("asyncio")
    fsspec = Later("fsspec")
    np = Later("numpy")
    pl = Later("polars")
    pq = Later("pyarrow.parquet")
    graphs = Later("scipy.sparse.csgraph")  # SciPy ships no types
    linalg = Later("scipy.sparse.linalg")
    optimize = Later("scipy.optimize")
    sparse = Later("scipy.sparse")
    special = Later("scipy.special")
    Floats = Ints = Bools = Hashes = Signatures = Any

    class NDArray:
        """Stands for the type of arrays where one is named in a cast."""

        def __class_getitem__(cls, dtype: Any) -> Any:
            return Any
