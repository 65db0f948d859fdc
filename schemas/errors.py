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


class ContractViolation(GristmillError, ValueError):
    """A table broke its row contract; the text names stage, column, row key and rule. Nothing was written."""


class StageFailed(GristmillError, RuntimeError):
    """An operator raised; the text names the stage and carries the worker's own traceback."""


class EngineFailed(GristmillError, RuntimeError):
    """An engine could not be started or died, in the engine's own words."""


class RunIncomplete(GristmillError, RuntimeError):
    """Some rows could not be produced; everything else is stored and the same command resumes."""

    exit_code = 3
