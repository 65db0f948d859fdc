"""The errors Gristmill raises: one small hierarchy, each with an exit code and a remedy in its text.

Every error pickles (they cross process borders), and each also derives from the standard exception a caller
would expect. The command line prints the text and leaves with ``exit_code``.
"""

from __future__ import annotations

from typing import ClassVar


class GristmillError(Exception):
    """Base of all errors that are raised on purpose."""

    exit_code: ClassVar[int] = 1


class BadInput(GristmillError, ValueError):
    """Something the user gave can't be used: a file, a column, a setting, a model. Nothing was started."""

    exit_code = 2


class NothingToDo(BadInput):
    """No problem is left for a run: earlier ones finished them all."""


class ContractViolation(GristmillError, ValueError):
    """A table broke its row contract; the text names stage, column, row key and rule. Nothing was written."""


class StageFailed(GristmillError, RuntimeError):
    """An operator raised; the text names the stage and carries the worker's own traceback."""


class EngineFailed(GristmillError, RuntimeError):
    """An engine could not be started or died, in the engine's own words."""


class RunIncomplete(GristmillError, RuntimeError):
    """Some rows could not be produced; everything else is stored and the same command resumes."""

    exit_code = 3


class BudgetReached(GristmillError, RuntimeError):
    """A cap was reached; everything that was paid for is stored, and a higher cap goes on from there."""

    exit_code = 4


class StorageUnavailable(GristmillError, OSError):
    """The storage didn't answer for as long as we were willing to wait; what was committed stays."""

    exit_code = 3


class RootLost(GristmillError, OSError):
    """The root was removed, or can't be written any more, while it was in use; what was committed stays in it."""

    exit_code = 3


class StorageFull(GristmillError, OSError):
    """No space is left where the root lies; what was committed stays."""

    exit_code = 3


class DamagedFile(GristmillError, OSError):
    """A committed file can't be read: truncated, overwritten or gone."""


class DamagedLog(GristmillError, OSError):
    """A table's log isn't whole: the text names the file and what mends it. Nothing was read or drawn."""


class StoreBusy(GristmillError, RuntimeError):
    """Another run is writing a store that this one needs to write."""

    exit_code = 3


class LeaseLost(GristmillError, RuntimeError):
    """This run slept past its lease and another one took over the store; nothing more can be committed by it."""

    exit_code = 3


class WorkerLost(GristmillError, RuntimeError):
    """A worker died or had to be killed while it held a batch; the batch is tried again."""


class NodeLost(WorkerLost):
    """A node died with the worker on it: what the worker held is not to blame, and is tried again."""


class ClusterLost(GristmillError, RuntimeError):
    """What runs the workers died; what was committed stays, and the same command starts another."""

    exit_code = 3
