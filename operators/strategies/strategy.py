"""The strategy: a frozen configuration with one coroutine, from a problem to the rows of one episode.

    class Twice(Strategy):
        '''Ask twice, and take the longer answer.'''

        version = 1

        def worst(self, prompt: int, most: int) -> Bill:
            return Bill(2, 2 * prompt, 0, 2 * most)

        async def play(self, ep: Episode) -> Result:
            first, second = [Node.whole(said) for said in await ep.generate([Ask(), Ask()])]
            return Result((max(first, second, key=lambda node: len(node.text)),), 0)

A strategy is a pure function of the problem, its configuration, the episode's seed and the answers that it gets. It
reads no clock, no random module, no environment, and no order in which answers arrived: an episode that was cut off is
played again, and finds the answers that were paid for.
"""

from __future__ import annotations

import difflib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, PlainSerializer

from operators.strategies.names import STRATEGIES
from schemas.errors import BadInput
from schemas.identity import Execution, digest, identity
from schemas.moved import sentence
from schemas.settings import Settings

if TYPE_CHECKING:
    from operators.strategies.episode import Episode
    from operators.strategies.words import Bill, Result


class Strategy(Settings, ABC):
    """Base of all strategies.

    Class attributes:
        version: raised by hand when results change; part of the identity.
        roles: engines that it asks beside the stage's own. Those in ``optional_roles`` are played by the stage's own
            engine where no other is given.
        columns: what it reads of a problem beside what asks it: ``metadata``.
        awaits: what a model must write by itself, or its episodes are no more than plain samples: the number in the
            episode's note that counts it -> what it is.
        steps: whether it stops completions at separators: then an engine must tell a stop string from the end.
        by_tokens: whether it has its engine search by tokens, which few can; that leaves nothing to chance.
    """

    version: ClassVar[int]
    roles: ClassVar[tuple[str, ...]] = ()
    optional_roles: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[tuple[str, ...]] = ()
    awaits: ClassVar[dict[str, str]] = {}
    steps: ClassVar[bool] = False
    by_tokens: ClassVar[bool] = False

    cap_tokens: int | None = Field(default=None, ge=1)
    """An episode ends by itself before it would read and write more tokens than this, in all roles."""
    cap_calls: int | None = Field(default=None, ge=1)
    """An episode ends by itself before it would make more calls than this."""
    cap_scores: int | None = Field(default=None, ge=1)
    """An episode ends by itself before it would ask for more scores than this."""
    live: Annotated[int | None, Execution] = Field(default=None, ge=1)
    """Episodes that an engine works on at once; by default enough of them to keep it busy."""

    @property
    def rows(self) -> int:
        """How many sample rows an episode gives."""
        return 1

    @property
    def asks(self) -> tuple[str, ...]:
        """The roles that this configuration asks, beside the stage's own engine."""
        return self.roles

    @property
    def tools(self) -> tuple[str, ...]:
        """What it needs beside engines (``operators.base.Operator.tools``)."""
        return ()

    @property
    def offered(self) -> Sequence[Mapping[str, Any]]:
        """The tools that the model is told of, as OpenAI's API describes them; training rows tell of them, too."""
        return ()

    @property
    def cautions(self) -> tuple[str, ...]:
        """What people should know of this configuration before they pay for it, a sentence each."""
        return ()

    @property
    def shows_answers(self) -> bool:
        """Whether the problem's answer is looked at on the way (an upper bound, not a method)."""
        return False

    def all_greedy(self, temperature: float) -> bool:
        """Whether nothing of an episode is left to chance, as at temperature 0: another one would be the same.

        Args:
            temperature: the sampling stage's.
        """
        from operators.strategies.scorers import Rating  # asks engines, which settings do without

        if self.by_tokens:
            return True
        own = getattr(self, "temperature", None)
        others = [getattr(getattr(self, "rule", None), "temperature", None)]
        scorer = getattr(self, "scorer", None)
        others += [scorer.temperature] if isinstance(scorer, Rating) else []
        asked = [temperature if own is None else own, *(one for one in others if one is not None)]
        return max(asked) == 0.0

    @abstractmethod
    def worst(self, prompt: int, most: int) -> Bill:
        """Return the most that one episode takes.

        Args:
            prompt: tokens of the problem's prompt.
            most: the sampling stage's ``max_tokens``.
        """

    @abstractmethod
    async def play(self, ep: Episode) -> Result:
        """Play one episode."""

    @classmethod
    def public_name(cls) -> str:
        """Return the name that job files know it by, or ``package.module:Class``."""
        target = f"{cls.__module__}:{cls.__qualname__}"
        return next((name for name, known in STRATEGIES.items() if known == target), target)

    def fingerprint(self) -> dict[str, Any]:
        """Return what makes two episodes of one problem and number the same."""
        return {"strategy": self.public_name(), "version": self.version, **identity(self)}

    def id(self) -> str:
        """Return the hash of ``fingerprint``."""
        return digest(self.fingerprint())


def strategy_class(name: str) -> type[Strategy]:
    """Return the class of a public name, or of ``package.module:Class``.

    Raises:
        BadInput: no such name (the nearest one is offered), module or class, not a Strategy, or not a whole one.
    """
    target = STRATEGIES.get(name, name)
    if ":" not in target:
        near = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise BadInput(f"no strategy '{name}'; {hint}'gristmill describe' lists them; your own is package.module:Class")
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise BadInput(f"strategy '{name}': {sentence(error)}") from error
    except AttributeError as error:
        raise BadInput(f"strategy '{name}': module '{module}' has no class '{attribute}'") from error
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise BadInput(f"strategy '{name}' is not a subclass of operators.strategies.strategy.Strategy")
    lacking = sorted(found.__abstractmethods__)
    if not isinstance(getattr(found, "version", None), int):
        lacking.append("version")
    if lacking:
        needs = {"play": "async def play(self, ep)", "worst": "def worst(self, prompt, most)", "version": "version = 1"}
        raise BadInput(f"strategy '{name}' lacks {', '.join(f'`{needs.get(one, one)}`' for one in lacking)}")
    return found


def _build(value: Any) -> Any:
    """Make the strategy that ``{"name": NAME, field: value, ...}``, or a bare NAME, describes."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict):
        return value
    fields: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
    return strategy_class(str(fields.pop("name", "")))(**fields)


def _describe(strategy: Strategy) -> dict[str, Any]:
    return {"name": strategy.public_name(), **strategy.model_dump(mode="json")}


AnyStrategy = Annotated[Strategy, BeforeValidator(_build), PlainSerializer(_describe)]
"""A field that any strategy can fill, by public name or as ``package.module:Class``."""
