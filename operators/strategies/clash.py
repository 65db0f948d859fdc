"""Knowledge conflicts (Xie et al. 2024, "Adaptive Chameleon or Stubborn Sloth"): what a model says where what it reads
contradicts what it remembers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from operators.asking import at_most
from operators.strategies.conflicts import NAMED, Objects, amounts, arranged, condition, same
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import BETWEEN, SILENT, asked, leanings, only, spoken_part, there
from operators.strategies.words import Ask, Bill, Node, Result, Said
from operators.text import Pattern, PromptTemplate
from operators.verify.letters import settled

MEMORY, COUNTER, UNCERTAIN = 1, 2, 3
"""What an answer in a condition comes to, in the episode's note; 0 where none can be read."""
DROPPED = ("abstained", "not entailed", "unstable", "no counter answer", "counter memory not entailed")
"""Why an episode went no further: its note has the place in here, from 1 on."""


@dataclass(frozen=True)
class _Memory:
    """What the model answered from memory, and what it says for it."""

    answer: str
    evidence: str


class Clash(Strategy):
    """Elicit what a model remembers, write passages for it and against it, and ask again behind these.

    An answer from memory counts if its evidence entails it and the model gives it again from that evidence. The counter
    answer is the true one where the memory is wrong, else another object of the same relation (of the problem's
    ``objects``) that the evidence doesn't name; a passage for it is written, and once more where it doesn't entail it.
    Then each of ``conditions`` is asked as multiple choice: memory, counter answer, uncertain, in an order by lot. Rows
    are the answers, in the order of the conditions; ``measure.conflict`` reads the note.

    The published code checks entailment with a model of its own; here it is the likelihood of ``yes`` among ``yes`` and
    ``no``. Passages for a wrong claim are false: such episodes are marked counterfactual.
    """

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("metadata",)

    conditions: tuple[Annotated[str, AfterValidator(condition)], ...] = (*NAMED, "2:1", "1:2")
    """What is read before the question: ``single`` (the counter passage alone), ``memory_first``, ``counter_first`` and
    ``random`` (both), ``irrelevant`` (the counter passage among ``irrelevant`` ones), or amounts: ``2:1`` is two
    passages for the memory and one against it, in random order."""
    objects: str = "objects"
    """The field of the problem's metadata that lists objects of the relation that is asked about."""
    entailed: float = Field(default=0.9, ge=0.0, le=1.0)
    """Likelihood of ``yes`` that a passage needs; 0 checks nothing."""
    passage_tokens: int = Field(default=128, ge=1)
    """The most tokens of a passage that is written against the answer."""
    choice_tokens: int = Field(default=16, ge=1)
    """The most tokens of an answer under a condition."""
    abstains: Pattern = r"(?i)\b(?:don't know|do not know|not sure|unsure|uncertain|cannot|can't|unable|unknown)\b"
    """How a reply reads that gives no answer (a regular expression)."""
    elicit: PromptTemplate = (
        "{prompt}\n\nAnswer from what you know: in the first line the answer alone, in few words; below it a short "
        "paragraph of facts that prove it."
    )
    """How the model's own answer is asked for, with {prompt}."""
    again: PromptTemplate = "{passages}\n\n{prompt}\n\nAnswer from this, in few words."
    """A template, filled in with {prompt} and {passages}."""
    support: PromptTemplate = (
        "Question: {prompt}\nAnswer: {claim}\n\nWrite a short paragraph, as an encyclopedia would, that states and "
        "proves this answer."
    )
    """A template, filled in with {prompt} and {claim}."""
    entails: PromptTemplate = (
        "{passages}\n\nQuestion: {prompt}\nAnswer: {claim}\n\nDoes the text above say that this answer is right? "
        "Answer yes or no."
    )
    """A template, filled in with {prompt}, {passages} and {claim}."""
    choose: PromptTemplate = (
        "{passages}\n\nAnswer the question by this information and by what you know.\n\n{prompt}\n\n{options}\n\n"
        "Answer with the letter alone."
    )
    """A template, filled in with {prompt}, {passages} and {options}."""
    uncertain: str = "Uncertain"
    """The option for a model that can't tell."""
    irrelevant: tuple[str, ...] = (
        "Bread dough rises because yeast turns sugar into carbon dioxide, which stays in the dough as bubbles.",
        "A sundial tells the time by the shadow of its gnomon; on a cloudy day it tells nothing.",
    )
    """Passages that have nothing to do with the question."""

    @property
    def rows(self) -> int:
        return len(self.conditions)

    @property
    def shows_answers(self) -> bool:
        return True

    @property
    def _amounts(self) -> tuple[int, int]:
        """Return how many passages are needed for the memory and for the counter answer."""
        counts = [amounts(name) for name in self.conditions]
        return max((mine for mine, _ in counts), default=0), max((other for _, other in counts), default=1)

    def worst(self, prompt: int, most: int) -> Bill:
        mine, other = self._amounts
        longest = max(at_most(one) for one in (self.elicit, self.again, self.support, self.entails, self.choose))
        written = (1 + mine) * self.passage_tokens + 2 * other * self.passage_tokens
        shown = (mine + other) * (self.passage_tokens + 4) + sum(map(at_most, self.irrelevant)) + 64
        read = prompt + longest + shown + 3 * most
        calls = 2 + mine + 2 * other + self.rows
        checks = 2 * (1 + 2 * other) if self.entailed > 0 else 0
        short = self.rows * self.choice_tokens
        return Bill(calls, calls * read, 0, 2 * most + written + short, checks, checks * read)

    async def play(self, ep: Episode) -> Result:
        known = Objects.of(ep.problem, self.objects)
        [first] = await ep.generate([Ask(prompt=await asked(ep, self.elicit))])
        if first.finish in SILENT:
            return only(Node.whole(first))
        memory, dropped = await self._remembered(ep, known, first)
        if memory is None:
            return self._over(ep, dropped)
        right = same(memory.answer, known.true)
        counter = known.true if not right else known.other(ep, memory.answer, memory.evidence)
        ep.note(right=float(right))
        if counter is None:
            return self._over(ep, 4)
        mine, other = self._amounts
        supported = [memory.evidence, *await self._written(ep, [memory.answer] * (mine - 1))][:mine]
        against = await self._proven(ep, counter, other)
        if against is None:
            return self._over(ep, 5)
        return await self._asked(ep, {MEMORY: memory.answer, COUNTER: counter}, supported, against)

    async def _remembered(self, ep: Episode, known: Objects, said: Said) -> tuple[_Memory | None, int]:
        """Return what is remembered by what was said, or why nothing of it can be used."""
        answer, _, evidence = spoken_part(said.text).strip().partition("\n")
        if not answer.strip() or not evidence.strip() or re.search(self.abstains, answer):
            return None, 1
        memory = _Memory(known.named(answer) or answer.strip(), evidence.strip())
        if not (await self._entail(ep, [memory.evidence], memory.answer))[0]:
            return None, 2
        prompt = await asked(ep, self.again, passages=memory.evidence)
        [said] = await ep.generate([Ask(prompt=prompt, parent=said.call)])
        once_more = spoken_part(said.text).strip()
        return (memory, 0) if same(known.named(once_more) or once_more, memory.answer) else (None, 3)

    async def _written(self, ep: Episode, claims: Sequence[str]) -> list[str]:
        prompts = [await asked(ep, self.support, claim=claim) for claim in claims]
        said = (
            await ep.generate([Ask(prompt=one, max_tokens=self.passage_tokens) for one in prompts]) if prompts else []
        )
        return [one.text.strip() for one in said]

    async def _proven(self, ep: Episode, counter: str, count: int) -> list[str] | None:
        """Return passages that entail the counter answer; None where one doesn't, written twice."""
        texts = await self._written(ep, [counter] * count)
        lacking = [at for at, good in enumerate(await self._entail(ep, texts, counter)) if not good]
        more = await self._written(ep, [counter] * len(lacking))
        good = await self._entail(ep, more, counter)
        for at, text in zip(lacking, more, strict=True):
            texts[at] = text
        return texts if all(good) and all(texts) else None

    async def _entail(self, ep: Episode, texts: Sequence[str], claim: str) -> list[bool]:
        if self.entailed == 0:
            return [True] * len(texts)
        prompts = [await asked(ep, self.entails, passages=text, claim=claim) for text in texts]
        sure = await leanings(ep, prompts, "yes", "no")
        return [one is not None and one >= self.entailed for one in sure]

    async def _asked(
        self, ep: Episode, claims: dict[int, str], supported: Sequence[str], against: Sequence[str]
    ) -> Result:
        orders: list[list[int]] = []
        asks: list[Ask] = []
        texts = {**claims, UNCERTAIN: self.uncertain}
        for name in self.conditions:
            shown = arranged(ep, name, supported, against, self.irrelevant)
            order = sorted(texts, key=lambda one, name=name: ep.uniform(f"option/{name}/{one}"))
            orders.append(order)
            options = "\n".join(f"{letter}. {texts[one]}" for letter, one in zip("ABC", order, strict=True))
            prompt = await asked(ep, self.choose, passages=BETWEEN.join(shown), options=options)
            asks.append(Ask(prompt=prompt, max_tokens=self.choice_tokens))
        nodes = [Node.whole(one, slot) for slot, one in enumerate(await ep.generate(asks))]
        told: dict[str, Any] = {}
        for name, order, node in zip(self.conditions, orders, nodes, strict=True):
            found = settled(spoken_part(node.text), "ABC", [texts[one] for one in order])
            told[f"said_{name}"] = order["ABC".index(found[0])] if len(found) == 1 else 0
        ep.note(**told)
        heard = there(nodes)
        return Result(tuple(nodes), nodes.index(heard[0]) if heard else None, "done" if heard else "nothing",
                      counterfactual=True)  # fmt: skip

    def _over(self, ep: Episode, why: int) -> Result:
        ep.note(dropped=why)
        return Result((), None, "nothing", counterfactual=why == len(DROPPED))
