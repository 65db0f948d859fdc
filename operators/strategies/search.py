"""What searches share: a scorer, a rule for steps, look-ahead, and how one final is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from operators.strategies.answers import Answers
from operators.strategies.episode import Episode
from operators.strategies.scorers import Prm, Scorer
from operators.strategies.steps import StepRule, grow
from operators.strategies.strategy import Strategy
from operators.strategies.weighing import best, preferred
from operators.strategies.words import POLICY, Bill, Node, Result


class Scored(Strategy):
    """Base of strategies that score texts and choose one."""

    scorer: Scorer = Prm()
    """What gives a text its value (a scorer)."""
    select: Literal["best", "majority", "weighted"] = "best"
    """Which final is chosen: the best score, the answer that most finals give, or the largest sum of scores (of an
    answer's finals the best one)."""
    answers: Answers = Answers()
    """How answers are read, for votes."""

    @property
    def asks(self) -> tuple[str, ...]:
        role = self.scorer.asks
        return () if role in (None, POLICY) else (role,)

    @property
    def tools(self) -> tuple[str, ...]:
        return self.scorer.tools

    @property
    def shows_answers(self) -> bool:
        return self.scorer.oracle

    @property
    def cautions(self) -> tuple[str, ...]:
        if self.scorer.asks != POLICY:
            return ()
        return (
            f"scorer '{self.scorer.name}' asks the model that writes: models often can't tell their good steps from "
            "their bad ones, and like their own; see what measure.scorer_steps says of it",
        )

    def chosen(self, ep: Episode, finals: Sequence[Node]) -> int | None:
        """Return the place of the final that the episode stands for, None where nothing was found."""
        if self.select == "best":
            return best(finals)
        votes = [1.0 if self.select == "majority" else node.score or 0.0 for node in finals]
        places = self.answers.vote(ep, finals, votes)
        return next((place for place in preferred(finals) if place in places), best(finals))

    def result(self, ep: Episode, finals: Sequence[Node], chosen: int | None = None) -> Result:
        """Return the episode's end; whatever still lives is ended now."""
        ended = tuple(node if node.ended else node.end("cap" if ep.capped else "unfinished") for node in finals)
        if chosen is None:
            chosen = self.chosen(ep, ended)
        return Result(ended, chosen, "nothing" if chosen is None else "done")

    def scoring(self, prompt: int, most: int, texts: int) -> Bill:
        """Return the most that so many scores take."""
        return self.scorer.most(prompt, most).times(texts)


class Search(Scored):
    """Base of strategies that write step by step."""

    steps: ClassVar[bool] = True

    rule: StepRule = StepRule()
    """Where a step ends, and where a text does."""

    async def grown(
        self, ep: Episode, nodes: Sequence[Node], times: int | Sequence[int] = 1, slots: Sequence[int] | None = None
    ) -> list[list[Node]]:
        """Return the scored children of each node."""
        children = await grow(ep, nodes, self.rule, times, slots=slots)
        scored = iter(await self.judged(ep, [child for one in children for child in one]))
        return [[next(scored) for _ in one] for one in children]

    async def judged(self, ep: Episode, nodes: Sequence[Node]) -> list[Node]:
        """Return nodes with their scores."""
        return await self.scorer.judge(ep, nodes)

    async def closed(self, ep: Episode, nodes: Sequence[Node]) -> list[Node]:
        """Return nodes that are written to their end by one last call each, with their scores."""
        return await self.judged(ep, [child for [child] in await grow(ep, nodes, self.rule, whole=True)])

    def writing(self, prompt: int, most: int, walks: int, children: int = 1, ahead: int = 0) -> Bill:
        """Return the most that walks from the prompt to the end take, without scores.

        Args:
            walks: each of at most ``rule.max_steps`` calls.
            children: completions of a call.
            ahead: further calls for each child (look-ahead).
        """
        rule, paths = self.rule, walks * children
        calls = rule.max_steps * (walks * (1 + children * (rule.empties - 1)) + paths * ahead * rule.empties)
        read = paths * rule.read(prompt, most, ahead) * rule.empties
        return Bill(calls, read, 0, paths * rule.written(most, ahead) * rule.empties)

    def walking(self, prompt: int, most: int, walks: int, children: int = 1, ahead: int = 0) -> Bill:
        """Return the most that walks take, of which each text of each step is scored."""
        scored = self.scoring(prompt, self.rule.most(most), walks * children * self.rule.max_steps)
        return self.writing(prompt, most, walks, children, ahead) + scored

    def opening(self, prompt: int, most: int, expansions: int, children: int, closed: int) -> Bill:
        """Return the most that single expansions take, wherever they are, and calls that write a text to its end."""
        tries, most = self.rule.empties, self.rule.most(most)
        texts = expansions * children + closed
        calls = expansions * (1 + children * (tries - 1)) + closed * tries
        return Bill(calls, tries * texts * (prompt + most), 0, tries * texts * most)


class LookingAhead(Search):
    """Base of searches that may look ahead: a child is worth what its greedy continuation is worth (Snell et al.)."""

    lookahead: int = Field(default=0, ge=0)
    """Steps that each new child is continued at temperature 0 before it is scored; they are thrown away. Costs this
    many times the calls again."""

    async def judged(self, ep: Episode, nodes: Sequence[Node]) -> list[Node]:
        further = list(nodes)
        for _ in range(self.lookahead):
            live = list({node.text: node for node in further if not node.ended}.values())
            grown = await grow(ep, live, self.rule, temperature=0.0)
            by_text = {node.text: child for node, [child] in zip(live, grown, strict=True)}
            further = [node if node.ended else by_text[node.text] for node in further]
        scored = await super().judged(ep, further)
        for node, ahead, one in zip(nodes, further, scored, strict=True):
            if node.call is not None and ahead is not node and one.score is not None:
                ep.values.pop(ahead.call or "", None)  # what is thrown away has no value of its own
                ep.values[node.call] = one.score
        return [
            node.scored(node.score if node.finish == "cap" else None if node.finish == "error" else one.score)
            for node, one in zip(nodes, scored, strict=True)
        ]
