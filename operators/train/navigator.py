"""Train the navigator of ``rlot``: double dueling DQN on what its episodes did, offline (Hao et al. 2025)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from operators.base import Operator
from operators.strategies.navigator import BLOCKS, LAYERS, RATINGS, Network
from schemas.contract import polars_schema
from schemas.datasets import Sample
from schemas.episodes import Navigator
from schemas.errors import BadInput
from schemas.later import Bools, Floats, Ints, np, pl


@dataclass(frozen=True)
class Transitions:
    """What episodes did, a row a step: states (n, 7), allowed blocks (n, 5), actions, rewards, and what came then."""

    states: Floats
    allowed: Bools
    actions: Ints
    rewards: Floats
    next_states: Floats
    next_allowed: Bools
    done: Bools


class TrainNavigator(Operator):
    """Fit a navigator on the transitions of ``rlot``'s episodes that have a scorer (drawn blocks, or an earlier one's).

    The published reward of a step is the score of the text behind it (``reward="score"``). All scores are positive, so
    going on always pays more than stopping, and what is learned is never to terminate before the cap; that is refused
    unless it is meant (``endless``). ``gain`` is gamma times the new score less the old one, which sums up to what the
    end is worth; ``step_cost`` is taken off each step that goes on. Hyper-parameters are ours: none are published.
    """

    version: ClassVar[int] = 1
    scope = "dataset"
    inputs = {"samples": Sample.select("problem_key", "sample_index", "episode_facts")}
    output = Navigator

    reward: Literal["gain", "score"] = "gain"
    """What a step earns: the gain of the score, or the score itself (as published)."""
    step_cost: float = Field(default=0.05, ge=0.0)
    """What each step that goes on costs."""
    endless: bool = False
    """Train although the reward never rewards stopping: the published setting."""
    gamma: float = Field(default=0.9, gt=0.0, le=1.0)
    """The discount of what comes later."""
    updates: int = Field(default=20_000, ge=1)
    """Steps of training."""
    batch: int = Field(default=64, ge=1)
    """Transitions in each step."""
    rate: float = Field(default=1e-3, gt=0.0)
    """Adam's step."""
    copied: int = Field(default=100, ge=1)
    """Updates between two copies of the target network."""
    clip: float = Field(default=10.0, gt=0.0)
    """The largest norm of a gradient."""
    seed: int = 0
    """The seed of the first weights and of the batches."""

    def run(self, samples: pl.LazyFrame) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the navigator's layers, a row each.

        Raises:
            BadInput: no transitions, or a reward that never rewards stopping.
        """
        if self.reward == "score" and self.step_cost == 0 and not self.endless:
            raise BadInput(
                "train.navigator: with reward=score and step_cost=0 going on always pays more than stopping, so the "
                "navigator learns never to terminate; take reward=gain or a step_cost, or set endless=true"
            )
        facts = samples.filter(pl.col("episode_facts").is_not_null()).sort("problem_key", "sample_index").collect()
        told = [json.loads(text).get("note", {}) for text in facts["episode_facts"]]
        found = self.transitions(told)
        network = self.fit(found)
        note = json.dumps(
            {"transitions": len(found.actions), "episodes": int(found.done.sum()), "updates": self.updates}
        )
        rows = [
            {
                "layer": name,
                "values": np.concatenate([network.weights[name].ravel(), network.biases[name]]).tolist(),
                "note": note,
            }
            for name in LAYERS
        ]
        return pl.DataFrame(rows, schema=polars_schema(Navigator)).sort("layer")

    def transitions(self, notes: list[dict[str, Any]]) -> Transitions:
        """Return the transitions that episodes' notes tell of."""
        rows: list[tuple[Any, ...]] = []
        for note in notes:
            count = sum(f"action_{at}" in note for at in range(int(note.get("actions", 0))))
            states = [[float(note[f"state_{at}_{number}"]) for number in range(RATINGS)] for at in range(count)]
            allowed = [
                [bool(int(note[f"allowed_{at}"]) >> block & 1) for block in range(len(BLOCKS))] for at in range(count)
            ]
            before = 0.0
            for at in range(count):
                score, last = float(note.get(f"score_{at}", before)), at == count - 1
                reward = score if self.reward == "score" else self.gamma * score - before
                reward -= 0.0 if last else self.step_cost
                then = at if last else at + 1
                rows.append(
                    (states[at], allowed[at], int(note[f"action_{at}"]), reward, states[then], allowed[then], last)
                )
                before = score
        if not rows:
            raise BadInput("train.navigator: no sample has transitions; draw with strategy 'rlot' and a scorer")
        states, allowed, actions, rewards, then, after, done = zip(*rows, strict=True)
        return Transitions(
            np.array(states, dtype=np.float64), np.array(allowed, dtype=np.bool_), np.array(actions, dtype=np.int64),
            np.array(rewards, dtype=np.float64), np.array(then, dtype=np.float64), np.array(after, dtype=np.bool_),
            np.array(done, dtype=np.bool_),
        )  # fmt: skip

    def fit(self, found: Transitions) -> Network:
        """Return the trained network: y = r + gamma Q_target(s', argmax over allowed a of Q(s', a)), Huber's loss."""
        draws = np.random.default_rng(self.seed)
        network, target = Network.fresh(self.seed), Network.fresh(self.seed)
        first, second = np.zeros_like(network.parameters), np.zeros_like(network.parameters)
        for update in range(1, self.updates + 1):
            rows = draws.integers(0, len(found.actions), self.batch)
            then = np.where(found.next_allowed[rows], network.q(found.next_states[rows]), -np.inf).argmax(axis=1)
            every = np.arange(self.batch)
            ahead = target.q(found.next_states[rows])[every, then]
            wanted = found.rewards[rows] + self.gamma * np.where(found.done[rows], 0.0, ahead)
            off = network.q(found.states[rows])[every, found.actions[rows]] - wanted
            by_q = np.zeros((self.batch, len(BLOCKS)))
            by_q[every, found.actions[rows]] = np.clip(off, -1.0, 1.0) / self.batch
            gradient = network.gradient(by_q)
            gradient *= min(1.0, self.clip / max(1e-12, float(np.linalg.norm(gradient))))
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            step = first / (1 - 0.9**update) / (np.sqrt(second / (1 - 0.999**update)) + 1e-8)
            network.parameters -= self.rate * step
            if update % self.copied == 0:
                target.parameters[:] = network.parameters
        return network
