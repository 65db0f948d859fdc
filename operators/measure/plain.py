"""Plain sampling: what its samples take, and how often what is made of n of them is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from operators.draws import draws
from operators.measure.pass_at_k import estimate
from operators.measure.subsets import Aligned, align, right_on
from operators.select.classes import one_verifier
from operators.select.majority import MajorityVote
from operators.select.perplexity import Rpc
from operators.select.scored import BestOfN
from operators.select.selection import SCORES, VERDICTS, Selection
from operators.strategies.words import POLICY
from schemas.contract import Columns
from schemas.datasets import Sample, Verdict
from schemas.errors import BadInput
from schemas.later import Floats, Ints, np, pl
from schemas.prices import MICRO, Prices

UNITS = ("completion_tokens", "tokens", "scorer_passes", "dollars")
TOKENS = ("prompt_tokens", "cached_prompt_tokens", "completion_tokens")
SCORER = "scorer"
STOPPING = {"first_right": "until_right", "agreed": "until_agreed"}
"""How an episode ended by what came out -> plain sampling that stops by the same rule."""
SIZES = 24
"""Sizes at which a curve is measured at most; between them it is interpolated."""
PLAIN_INPUTS: dict[str, Columns] = {
    "samples": Sample.select(
        *Rpc.inputs["samples"].names, "prompt_tokens", "cached_prompt_tokens", "completion_tokens"
    ),
    "verdicts": Verdict.select(*VERDICTS.names, "episode", "chosen"),
    "scores": SCORES,
}


class Plain:
    """What is known of plain sampling: bills of a sample, and how often votes of n samples are right.

    Sampling may stop by what came out: ``until_right`` at the first right sample, ``until_agreed`` at the first answer
    that comes a second time, which it takes (the first sample's, where none does). Then n is the most that it draws.

    Attributes:
        total: samples that every problem has.
        methods: what is made of samples, by name.
        table: of each problem ``problem_key``, ``place``, and what a sample of it takes, by unit.

    Args:
        subsets: random subsets at each size.
        prices: of the engines' tokens, by role; ``dollars`` are known where the policy's are.

    Raises:
        BadInput: no problem was sampled and judged.
    """

    def __init__(
        self,
        tables: Mapping[str, pl.DataFrame | None],
        subsets: int,
        seed: int,
        prices: Mapping[str, Prices] | None = None,
        who: str = "measure.equal_bill",
    ) -> None:
        samples, verdicts, scores = tables["samples"], tables["verdicts"], tables.get("scores")
        assert samples is not None and verdicts is not None
        verdicts = draws(one_verifier(verdicts))
        known = verdicts.group_by("problem_key").agg(pl.col("is_correct").is_not_null().any())
        verdicts = verdicts.join(known.filter("is_correct"), on="problem_key", how="semi")
        if verdicts.is_empty():
            raise BadInput(f"{who}: no problem was sampled plainly and judged, so there is nothing to compare")
        sizes = verdicts.filter(~pl.col("status").is_in(["error", "skipped"])).group_by("problem_key").len()
        self.total = int(sizes["len"].min() or 0)  # pyright: ignore[reportArgumentType]
        others = {"samples": samples.select(Rpc.inputs["samples"].names)}
        if scores is not None:  # of several scorers the one whose name sorts first
            others["scores"] = scores.filter(pl.col("scorer") == pl.col("scorer").min())
        self._data: Aligned = align(
            {"verdicts": verdicts.drop("episode", "chosen", strict=False), **others}, self.total
        )
        self._orders = [np.random.default_rng((seed, one)).permutation(self.total) for one in range(subsets)]
        logprobs = samples["mean_logprob"].null_count() < len(samples)
        self.methods: dict[str, Selection] = {"majority": MajorityVote()}
        self.methods |= {"rpc": Rpc()} if logprobs else {}
        self.methods |= {"best_of_n": BestOfN()} if scores is not None else {}
        prompt, cached, completion = (pl.col(name).fill_null(0) for name in TOKENS)
        rates = _rates(prices, POLICY)
        read = _rates(prices, SCORER)
        self._scoring_priced = read is not None
        bills = samples.filter(pl.col("status") != "error").group_by("problem_key").agg(
            completion_tokens=completion.mean(),
            tokens=(completion + prompt).mean(),
            dollars=pl.lit(None, pl.Float64) if rates is None else cost(rates, prompt, cached, completion).mean(),
            scoring=pl.lit(None, pl.Float64) if read is None else (completion + prompt).mean() * read[0] / MICRO,
        )  # fmt: skip
        keys = pl.DataFrame({"problem_key": self._data.keys}).with_row_index("place")
        self.table = keys.join(bills, on="problem_key", how="left", maintain_order="left")
        self.priced = rates is not None
        self._known: dict[tuple[str, int], tuple[Floats, Floats]] = {}

    def bill(self, unit: str, method: str) -> Floats | None:
        """Return what a sample of each problem takes; None where this method takes nothing in the unit, or it isn't
        known what."""
        scored = method == "best_of_n"
        if unit == "scorer_passes":
            return np.ones(len(self.table)) if scored else None
        if unit == "dollars":
            if not self.priced or (scored and not self._scoring_priced):
                return None
            return (self.table["dollars"] + (self.table["scoring"] if scored else 0.0)).to_numpy()
        return self.table[unit].to_numpy() * (2.0 if scored and unit == "tokens" else 1.0)

    def sizes(self, method: str, low: int = 1, high: int | None = None) -> list[int]:
        """Return the sizes at which a curve is measured between two: all of them where that costs nothing."""
        high = self.total if high is None else min(high, self.total)
        if method not in self.methods:
            return list(range(low, high + 1))
        return sorted({*np.unique(np.geomspace(low, high, SIZES).round().astype(int)).tolist(), low, high})

    def right(self, method: str, size: int) -> Floats:
        """Return how often the method is right with so many samples of each problem."""
        return self._found(method, size)[0]

    def drawn(self, method: str, size: int) -> Floats:
        """Return how many samples of each problem it draws, on average."""
        return self._found(method, size)[1]

    def _found(self, method: str, size: int) -> tuple[Floats, Floats]:
        if (method, size) not in self._known:
            drawn = np.full(len(self.table), float(size))
            if method in ("coverage", "until_right"):
                self._covered()
            elif method == "until_agreed":
                self._until_agreed()
            else:
                self._known[method, size] = self._voted(method, size), drawn
        return self._known[method, size]

    def _until_agreed(self) -> None:
        """Stop at the first answer that comes a second time, in each order of the samples."""
        problems = len(self.table)
        keys = self._data.verdicts["answer_key"].rank("dense").cast(pl.Int64).fill_null(-1)
        codes = keys.to_numpy().reshape(problems, self.total)
        truth = self._data.verdicts["is_correct"].fill_null(False).to_numpy().reshape(problems, self.total)
        right, drawn = (np.zeros((self.total + 1, problems)) for _ in range(2))
        for order in self._orders:
            for place, (said, good) in enumerate(zip(codes[:, order], truth[:, order], strict=True)):
                at = _second(said)
                right[1:at, place] += good[0]
                right[at:, place] += good[min(at, self.total) - 1]
                drawn[1:, place] += np.minimum(np.arange(1, self.total + 1), at)
        for size in range(1, self.total + 1):
            self._known["until_agreed", size] = right[size] / len(self._orders), drawn[size] / len(self._orders)

    def _voted(self, method: str, size: int) -> Floats:
        orders: Sequence[Ints] = [np.arange(self.total)] if size == self.total else self._orders
        [found] = right_on(self.methods[method], self._data, orders, size).values()
        return found.mean(axis=0)

    def _covered(self) -> None:
        right = self._data.verdicts.group_by("problem_key", maintain_order=True).agg(
            n=pl.len(), c=pl.col("is_correct").fill_null(False).sum()
        )
        n, c = (right[name].to_numpy().astype(np.int64) for name in ("n", "c"))
        sizes = np.arange(1, self.total + 1)
        found = estimate(n, c, sizes)
        # whoever stops at the first right one goes on to the next where none of those before was right
        more = np.concatenate([np.ones((len(n), 1)), 1.0 - found[:, :-1]], axis=1).cumsum(axis=1)
        for place, size in enumerate(sizes.tolist()):
            self._known["coverage", size] = found[:, place], np.full(len(n), float(size))
            self._known["until_right", size] = found[:, place], more[:, place]


def cost(rates: tuple[float, float, float], prompt: pl.Expr, cached: pl.Expr, completion: pl.Expr) -> pl.Expr:
    """Return dollars, at microdollars for a fresh prompt token, a cached one (of ``prompt``) and a completion token."""
    fresh, again, made = rates
    return ((prompt - cached) * fresh + cached * again + completion * made) / MICRO


def _rates(prices: Mapping[str, Prices] | None, role: str) -> tuple[float, float, float] | None:
    found = (prices or {}).get(role)
    return None if found is None else found.rates


def _second(said: Ints) -> int:
    """Return how many answers there are up to the first that is there already; one more than all where none is."""
    seen: set[int] = set()
    for count, one in enumerate(said.tolist(), 1):
        if one in seen:
            return count
        if one >= 0:
            seen.add(one)
    return len(said) + 1
