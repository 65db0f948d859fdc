"""The order of work of several classes of jobs: they alternate, each as evenly as its size allows.

A mixture of experts is balanced for the mixture of jobs that it was planned for. Where all of one class run first, and
then all of another, every step is unbalanced, each in its own way; where classes alternate, each is like the whole.
What shares a prompt stays together: it is problems that alternate, not their samples.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cluster.storage.ranges import Ints


def ordered(classes: NDArray[Any], order: Literal["alternate", "grouped"]) -> Ints:
    """Return the order in which items are sampled, as positions: classes in turn, or one after the other."""
    if not classes.size or bool((classes == classes[0]).all()):
        return np.arange(len(classes))
    if order == "alternate":
        return interleaved(classes)
    _, first, which = np.unique(classes, return_index=True, return_inverse=True)
    return np.argsort(first[which], kind="stable")


def interleaved(classes: NDArray[Any]) -> Ints:
    """Return the order in which items alternate by class, as positions; items of one class keep theirs.

    The i-th of a class's n items has its turn at (i + 1/2) / n of the whole.
    """
    turn = np.empty(len(classes))
    for each in np.unique(classes):
        mine = np.flatnonzero(classes == each)
        turn[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
    return np.argsort(turn, kind="stable")
