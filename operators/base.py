"""The operator: a frozen configuration with one pure method from tables to a table.

An operator knows nothing of Ray, files or clusters. What it reads, what it writes and how much of the data one call
must see are class attributes; everything that changes its result is a field.

    class LongestAnswer(Operator):
        '''Pick the longest completion of each problem.'''

        version = 1
        scope = "problem"
        inputs = {"samples": Sample.select("problem_key", "sample_index", "problem_id", "completion")}
        output = Answer

        def run(self, samples: pl.DataFrame) -> pl.DataFrame: ...
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, PlainSerializer

from operators.names import OPERATORS
from schemas.contract import Columns, Contract
from schemas.errors import BadInput
from schemas.identity import digest, identity
from schemas.later import pl
from schemas.moved import sentence
from schemas.settings import Settings

Scope = Literal["source", "sample", "problem", "dataset"]


class Operator(Settings):
    """Base of all operators.

    Class attributes:
        version: semantic version, raised by hand when results change; part of every identity.
        scope: what one call sees. ``source`` makes problems from outside; ``sample`` sees any batch of samples (each
            row's result depends on that row and its problem alone, so it streams into a store); ``problem`` sees all
            samples of the problems in it; ``dataset`` sees everything, as LazyFrames (where it can be computed piece by
            piece, derive from operators.piecewise.PiecewiseOperator).
        inputs: dataset name -> the columns that are read of it; no other column is loaded.
        optional: names in ``inputs`` that a stage may leave unconnected; ``run`` then gets None.
        lazy: names in ``inputs`` that come as LazyFrames whatever the scope is: ``run`` reads of them what it needs, so
            that texts it doesn't take are never in memory all at once (``operators.texts``).
        output: the contract of the result.
        synonyms: what columns are called in a table that people know; ``gristmill op`` reads it as it is.
        asks: the operator that chooses what people should label for this one (``gristmill op NAME --next 50``).
        compares: it judges by problems' answers and verifications alone: where no problem has any, it judges nothing.
        needs_judged: where no sample was judged, it has nothing to measure.
        tools: things ``run`` gets handed in by keyword, never starts: ``engine`` (operators.engine.Engine), ``workers``
            (operators.workers.WorkerPool) and ``sandbox`` (operators.sandbox.Sandbox).
    """

    version: ClassVar[int]
    scope: ClassVar[Scope]
    inputs: ClassVar[dict[str, Columns]]
    optional: ClassVar[frozenset[str]] = frozenset()
    lazy: ClassVar[frozenset[str]] = frozenset()
    output: ClassVar[type[Contract]]
    synonyms: ClassVar[dict[str, str]] = {}
    asks: ClassVar[str | None] = None
    compares: ClassVar[bool] = False
    needs_judged: ClassVar[bool] = False
    tools: ClassVar[tuple[str, ...]] = ()

    def run(self, *args: Any, **kwargs: Any) -> pl.DataFrame:
        """Compute the output table; inputs and tools come by keyword.

        Tables have exactly the columns that ``inputs`` names. Scope ``sample`` and ``problem`` get DataFrames, but for
        the inputs in ``lazy``; ``dataset`` gets LazyFrames.
        """
        raise TypeError(f"{type(self).__name__} doesn't define run()")

    def batches(self, tell: Callable[[str], None]) -> Iterator[pl.DataFrame]:
        """Yield what a source's ``run`` returns a piece at a time: the same rows in the same order.

        A source of many problems overrides this, so that they are never in memory all at once.

        Args:
            tell: hears what people should know of the problems: rows without an answer, copies that were left out.
        """
        yield self.run()

    def check_problems(self, problems: pl.DataFrame) -> None:
        """Refuse problems that this operator couldn't work on, before anything is sampled.

        Args:
            problems: some of them, with all columns; all are shown, in several calls where they are many.

        Raises:
            BadInput: naming the problem, what is wrong with it, and the remedy.
        """

    def objections(self, problems: pl.DataFrame, **tools: Any) -> list[str]:
        """Return what can be said against problems that needs a closer look than ``check_problems``, in a line each.

        A dry run shows it; nothing is refused for it.

        Args:
            problems: all of them, with all columns.
            tools: those of ``tools`` that need no model.
        """
        return []

    def with_holdout(self, share: float) -> Operator:
        """Return the operator as a pipeline places it whose source holds out a share of the problems.

        What learns from known answers leaves these problems' alone, unless its own settings say otherwise.
        """
        return self

    @classmethod
    def public_name(cls) -> str:
        """Return the name the command line and job files know it by, or ``package.module:Class``."""
        target = f"{cls.__module__}:{cls.__qualname__}"
        return next((name for name, known in OPERATORS.items() if known == target), target)

    def fingerprint(self) -> dict[str, Any]:
        """Return what makes two results of this operator on the same view the same."""
        return {"operator": self.public_name(), "version": self.version, **identity(self)}

    def id(self) -> str:
        """Return the hash of ``fingerprint``."""
        return digest(self.fingerprint())


def operator_class(name: str) -> type[Operator]:
    """Return the class of a public name, or of ``package.module:Class``.

    Raises:
        BadInput: no such name (the nearest one is offered), module or class, or not an Operator.
    """
    target = OPERATORS.get(name, name)
    if ":" not in target:
        near = difflib.get_close_matches(name, OPERATORS, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise BadInput(f"no operator '{name}'; {hint}'gristmill describe' lists them; your own is package.module:Class")
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise BadInput(f"operator '{name}': {sentence(error)}") from error
    except AttributeError as error:
        raise BadInput(f"operator '{name}': module '{module}' has no class '{attribute}'") from error
    if not (isinstance(found, type) and issubclass(found, Operator)):
        raise BadInput(f"operator '{name}' is not a subclass of operators.base.Operator")
    return found


def _build(value: Any) -> Any:
    """Make the operator that ``{"operator": NAME, field: value, ...}``, or a bare NAME, describes."""
    if isinstance(value, str):
        value = {"operator": value}
    if not isinstance(value, dict):
        return value
    fields: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
    return operator_class(str(fields.pop("operator", "")))(**fields)


def _describe(operator: Operator) -> dict[str, Any]:
    return {"operator": operator.public_name(), **operator.model_dump(mode="json")}


AnyOperator = Annotated[Operator, BeforeValidator(_build), PlainSerializer(_describe)]
"""A field of a pipeline's configuration that any operator can fill, by public name or as ``package.module:Class``."""
