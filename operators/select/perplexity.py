"""Selections by the model's own probabilities: perplexity, perplexity consistency, and RPC."""

from __future__ import annotations

from typing import ClassVar

from operators.prune.rpc import PruneRpc
from operators.select.selection import LOGPROBS, PATHS, TEXTS, VERDICTS, Voting, probability
from schemas.datasets import SAMPLE_KEY, Sample
from schemas.later import pl


class Perplexity(Voting):
    """Pick the answer of the sample with the least perplexity, that is the largest p = exp(mean_logprob).

    Confidence is that p.
    """

    version: ClassVar[int] = 1
    inputs = {"verdicts": VERDICTS, "samples": LOGPROBS}
    largest = True

    def weigh(self, ballots: pl.DataFrame) -> pl.Expr:
        return probability()


class PerplexityConsistency(Voting):
    """Pick the answer with the largest sum of p = exp(mean_logprob) over its distinct completions.

    Zhou et al. 2025, "Bridging Internal Probability and Self-Consistency". A completion that was drawn twice is the
    same path and counts once: how likely it is, its p says already.
    """

    version: ClassVar[int] = 1
    inputs = {"verdicts": VERDICTS, "samples": TEXTS}
    distinct = True

    def weigh(self, ballots: pl.DataFrame) -> pl.Expr:
        return probability()


class Rpc(Voting):
    """Pick the answer by perplexity consistency over the paths that reasoning pruning keeps (Zhou et al. 2025).

    ``paths`` are pruned here (``prune.rpc``), unless they are connected.
    """

    version: ClassVar[int] = 1
    inputs = {"verdicts": VERDICTS, "samples": Sample.select(*TEXTS.names, "problem_id", "status"), "paths": PATHS}
    optional = frozenset({"paths"})
    distinct = True

    def run(
        self,
        verdicts: pl.DataFrame,
        samples: pl.DataFrame | None = None,
        scores: pl.DataFrame | None = None,
        paths: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Return one row per problem of ``verdicts``."""
        assert samples is not None
        if paths is None:
            paths = PruneRpc().run(samples.drop("completion_hash"))
        return super().run(
            verdicts, samples=samples.drop("problem_id", "status"), paths=paths.select(*SAMPLE_KEY, "kept")
        )

    def weigh(self, ballots: pl.DataFrame) -> pl.Expr:
        return probability() * pl.col("kept").fill_null(False)
