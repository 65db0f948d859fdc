"""Adaptive branching (Inoue et al. 2025, "Wider or Deeper?", AB-MCTS-A): a new answer, or one that refines another."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import ClassVar, Literal

from pydantic import Field

from operators.asking import at_most
from operators.strategies.episode import Episode
from operators.strategies.search import Scored
from operators.strategies.talking import conversation, there
from operators.strategies.words import Ask, Bill, Node, Result


@dataclass
class Arm:
    """What is believed of the rewards of one choice: a normal distribution with unknown mean and variance.

    The prior is mean 0, kappa 1, nu 1, tau2 .1 (treequest).
    """

    rewards: list[float] = field(default_factory=list[float])

    def posterior(self) -> tuple[float, float, float, float]:
        """Return (mean, kappa, nu, tau2) of the normal-inverse-chi-squared distribution after the rewards."""
        m, kappa, nu, tau2, n = 0.0, 1.0, 1.0, 0.1, len(self.rewards)
        if not n:
            return m, kappa, nu, tau2
        mean = math.fsum(self.rewards) / n
        spread = math.fsum((reward - mean) ** 2 for reward in self.rewards) + n * kappa * (m - mean) ** 2 / (kappa + n)
        return (kappa * m + n * mean) / (kappa + n), kappa + n, nu + n, (nu * tau2 + spread) / (nu + n)

    def draw(self, ep: Episode, name: str) -> float:
        """Return a mean reward, drawn from the posterior (Thompson sampling)."""
        m, kappa, nu, tau2 = self.posterior()
        sigma2 = nu * tau2 / _chi_squared(ep, round(nu), name)
        return m + math.sqrt(sigma2 / kappa) * _normal(ep, f"{name}/mean")


@dataclass
class Place:
    """An answer of the tree (the root is none), with an arm for a new child, one for its children, and one of each."""

    node: Node | None = None
    generate: Arm = field(default_factory=Arm)
    go_on: Arm = field(default_factory=Arm)
    children: list[tuple[Arm, Place]] = field(default_factory=list["tuple[Arm, Place]"])


class AbMcts(Scored):
    """Spend ``budget`` calls one after the other, each on a new answer or on refining one, whatever promises more.

    At a place the arm of a new child is compared with that of its children, by draws from what is believed of their
    rewards (scores in [0, 1]). The reward of a new answer goes to its parent's arm for new ones; further up to the arm
    of the children, and of the child that was taken. Only the variant A of the paper, of one model.
    """

    version: ClassVar[int] = 1

    budget: int = Field(default=16, ge=1)
    """How many calls an episode makes."""
    select: Literal["best", "majority", "weighted"] = "best"
    refine: str = "Look for mistakes in your answer, and give a complete and improved solution."
    """What is said behind an answer that is to be refined."""

    @property
    def rows(self) -> int:
        return self.budget

    def worst(self, prompt: int, most: int) -> Bill:
        read = self.budget * prompt + (self.budget - 1) * (most + at_most(self.refine) + 16)
        return Bill(self.budget, read, 0, self.budget * most) + self.scoring(prompt, most, self.budget)

    async def play(self, ep: Episode) -> Result:
        root, finals, deep = Place(), list[Node](), 0
        for number in range(self.budget):
            way = [root]
            taken: list[Arm] = []
            while way[-1].children:
                here, name = way[-1], f"arm/{number}/{len(way)}"
                if here.generate.draw(ep, f"{name}/new") >= here.go_on.draw(ep, f"{name}/on"):
                    break
                draws = [arm.draw(ep, f"{name}/{at}") for at, (arm, _) in enumerate(here.children)]
                arm, child = here.children[draws.index(max(draws))]
                taken.append(arm)
                way.append(child)
            parent = way[-1].node
            told = () if parent is None else (parent.text, self.refine)
            prompt = await ep.render(conversation(ep, *told)) if told else None
            [said] = await ep.generate([Ask(prompt=prompt, parent=None if parent is None else parent.call)])
            [node] = await self.scorer.judge(ep, [Node.whole(said, number)])
            finals, deep = [*finals, node], max(deep, len(way))
            if ep.capped:
                break
            reward, arm = node.score or 0.0, Arm()
            arm.rewards.append(reward)
            way[-1].generate.rewards.append(reward)
            for place, above in zip(way, taken, strict=False):
                place.go_on.rewards.append(reward)
                above.rewards.append(reward)
            if there([node]):
                way[-1].children.append((arm, Place(node)))
        ep.note(from_root=len(root.children), deepest=deep)
        return self.result(ep, finals)


def _normal(ep: Episode, name: str) -> float:
    return NormalDist().inv_cdf(min(1 - 1e-12, max(1e-12, ep.uniform(name))))


def _chi_squared(ep: Episode, freedom: int, name: str) -> float:
    """Return a draw: the sum of so many squared standard normals."""
    return max(1e-300, math.fsum(_normal(ep, f"{name}/{at}") ** 2 for at in range(freedom)))
