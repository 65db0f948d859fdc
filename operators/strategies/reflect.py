"""Recursive reflection (Buehler 2025, "PRefLexOR"): a thought is improved by its own reflection, and answered anew."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import BETWEEN, SILENT, asked, between, only, retold, since, there
from operators.strategies.words import Ask, Bill, Node, Result
from operators.text import PromptTemplate, fill

CRITIC = "critic"


class Reflect(Strategy):
    """Answer with a thought and a reflection; ``rounds`` times a critic improves the thought, which is answered anew.

    In the end an integrator (the policy) makes one answer of all rounds'. Follows PRefLexOR's code; as there a model
    that was trained for it needs no ``template`` but "{prompt}", with its tags as ``thought`` and ``reflection``. Where
    a text has no thought it is the thought; the episode ends at an empty reflection, unless the critic ``reviews``.
    A row is the whole recursion as a conversation, to train on (``synthesize.sft conversation=whole``).
    """

    version: ClassVar[int] = 2
    optional_roles = (CRITIC,)

    rounds: int = Field(default=3, ge=1)
    """How many rounds of thought and reflection there are."""
    every: bool = False
    """Each round's answer is a row, the last one chosen, and none is integrated."""
    first: bool = True
    """The first answer is integrated too: so in the thinking variant of the code, and not in the other."""
    reviews: bool = False
    """The critic writes the reflection, a call more a round: for models without reflections of their own."""
    demand: str = "Improve your thought by your reflection, and answer anew."
    """What stands between the rounds of a row's conversation. The model isn't asked so."""
    thought: tuple[str, str] = ("<thinking>", "</thinking>")
    """What stands around a thought."""
    reflection: tuple[str, str] = ("<reflect>", "</reflect>")
    """What stands around a reflection."""
    temperature: float | None = Field(default=0.1, ge=0.0)
    """The temperature of all calls; null: that of the sampling stage."""
    template: PromptTemplate = (
        "{prompt}\n\nThink in <thinking></thinking>, then look back at your thought in <reflect></reflect>: what is "
        "missing, what is wrong? Then give the complete answer."
    )
    """The first prompt, with {prompt}."""
    review: PromptTemplate = (
        "Problem: {prompt}\n\nA thought on it:\n{thought}\n\nWhat is missing in it, and what is wrong?"
    )
    """A template, filled in with {prompt} and {thought}."""
    improve: PromptTemplate = (
        "Problem: {prompt}\n\nA thought on it:\n{thought}\n\nA reflection on this thought:\n{reflection}\n\nImprove "
        "the thought by the reflection. Keep its structure, and write nothing but the improved thought."
    )
    """A template, filled in with {prompt}, {thought} and {reflection}."""
    integrate: PromptTemplate = (
        "{prompt}\n\nThese are answers to it, each later one better thought out:\n\n{answers}\n\nMake one complete "
        "answer of them."
    )
    """A template, filled in with {prompt} and {answers}."""

    @property
    def rows(self) -> int:
        return self.rounds + 1 if self.every else 1

    def worst(self, prompt: int, most: int) -> Bill:
        marks = sum(len(mark.encode()) for mark in self.thought) + 4
        asking = prompt + at_most(self.template)
        calls = 2 + (2 + self.reviews) * self.rounds
        improving = prompt + at_most(self.improve) + 2 * most
        reviewing = self.reviews * (prompt + at_most(self.review) + most)
        again = asking + marks + most
        last = prompt + at_most(self.integrate) + (self.rounds + 1) * (most + 8)
        return Bill(calls, asking + self.rounds * (improving + reviewing + again) + last, 0, calls * most)

    async def play(self, ep: Episode) -> Result:
        prompt = await ep.render(retold(ep, self.template))
        [said] = await ep.generate([Ask(prompt=prompt, temperature=self.temperature)])
        answered, talk = [Node.whole(said)], list[str]()
        while len(answered) <= self.rounds and answered[-1].finish not in SILENT:
            last = answered[-1]
            thought = between(last.text, *self.thought) or last.text.strip()
            reflection = await self._critic(ep, self.review, last, thought=thought) if self.reviews else None
            reflection = reflection or between(last.text, *self.reflection)
            if not reflection:
                break
            improved = await self._critic(ep, self.improve, last, thought=thought, reflection=reflection)
            begun = f"{self.thought[0]}{between(improved, *self.thought) or improved}{self.thought[1]}\n"
            [said] = await ep.generate(
                [Ask(prompt=prompt, prefix=begun, temperature=self.temperature, parent=last.call)]
            )
            if said.finish in SILENT or not improved:
                break
            talk += [last.text, self.demand]
            text = begun + said.text
            node = replace(Node.whole(said, len(answered)), text=text, turns=since(ep, *talk, text))
            answered.append(node)
        ep.note(rounds=len(answered) - 1)
        if self.every or not there(answered):
            return Result(
                tuple(answered),
                len(answered) - 1 if there(answered) else None,
                "done" if there(answered) else "nothing",
            )
        parts = [self._answer(node.text) for node in (answered if self.first else answered[1:] or answered)]
        shown = BETWEEN.join(f"{place}. {part}" for place, part in enumerate(parts, 1))
        [said] = await ep.generate([Ask(prompt=await ep.render(retold(ep, self.integrate, answers=shown)))])
        if said.finish in SILENT:
            return only(answered[-1])
        talk += [answered[-1].text, fill(self.integrate, {"prompt": "", "answers": shown}).strip()]
        return only(replace(Node.whole(said), turns=since(ep, *talk, said.text)))

    async def _critic(self, ep: Episode, template: str, node: Node, **places: str) -> str:
        prompt = await asked(ep, template, CRITIC, **places)
        [said] = await ep.generate([Ask(prompt=prompt, role=CRITIC, temperature=self.temperature, parent=node.call)])
        return said.text.strip()

    def _answer(self, text: str) -> str:
        """Return what stands behind the thought and the reflection."""
        return text.rpartition(self.reflection[1])[2].rpartition(self.thought[1])[2].strip()
