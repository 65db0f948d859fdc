"""What policies are told of a run's problems before the first sample: other counts, features, and earlier nights.

Everything comes from the tables and runs that the policy names and from the problems themselves, in the order of their
numbers, so a run that goes on is told the same again. What was told is written into the run's log
(``cluster.records.rules``), by which measures know why some problems got more samples than others.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from cluster.planning.problems import Problems
from cluster.records.reader import find_run, last_stage, open_stage
from cluster.records.run import Say
from cluster.storage.root import Root
from cluster.storage.tables import SUFFIXES, read_table
from operators.measure.counts import count_verdicts
from operators.measure.difficulty import MOST, Group
from operators.measure.features import features_of, own_facts
from operators.policies.named import AnyPolicy, Informed
from operators.policies.policy import Floats, Ints, Known
from schemas.datasets import Problem
from schemas.errors import BadInput
from schemas.manifest import RunManifest

PROBLEMS = "problems"
"""``policy.features`` of problems that speak for themselves."""
FACTS = ("problem_key", "problem_id", "prompt", "task_type", "metadata")


class Beforehand:
    """Reads what a policy names.

    Args:
        say: tells whoever watches.
    """

    def __init__(self, root: Root, problems: Problems, say: Say) -> None:
        self.root = root
        self.problems = problems
        self._say = say

    def of(self, spec: AnyPolicy) -> Known:
        """Return what is known of the run's problems.

        Raises:
            BadInput: a table or run isn't there, or doesn't say what it should.
        """
        if not isinstance(spec, Informed):
            return Known()
        before, similar = self._before((spec.before,) if isinstance(spec.before, str) else spec.before or ())
        nights = [night for name in spec.nights if len(night := self._night(name))]
        similar = None if spec.nights else similar  # what other problems are like, the nights say
        if spec.features is None:
            return Known(before, similar, None, [_group(night, None) for night in nights])
        return Known(before, similar, *self._features(spec.features, nights))

    def _before(self, names: Iterable[str]) -> tuple[Ints | None, Ints | None]:
        """Return n and c of the same problems by each source, [problems, sources, 2], and of others, [others, 2]."""
        same: list[Ints] = []
        similar: list[Ints] = []
        for name in names:
            counts, on = self._counts(name)
            ours = pl.concat(self.problems.tables(self.root, Problem.select(on)))
            for (model,), of_model in counts.group_by("model", maintain_order=True):
                found = ours.join(of_model, on=on, how="left", maintain_order="left")
                others = of_model.join(ours, on=on, how="anti", maintain_order="left")
                same.append(found.select(pl.col("n", "c").fill_null(0)).to_numpy().astype(np.int64))
                similar.append(others.select("n", "c").to_numpy().astype(np.int64))
                known = len(found) - found["n"].null_count()
                self._say(
                    f"policy.before {name}{f' ({model})' if model else ''}: {known:,} of {len(found):,} problems are "
                    f"known, {len(others):,} others are like them"
                )
        return (np.stack(same, axis=1), np.concatenate(similar)) if same else (None, None)

    def _counts(self, name: str) -> tuple[pl.DataFrame, str]:
        """Return n and c by problem and model from a table or a run, and which column names the problem."""
        if name.endswith((*SUFFIXES, ".gz")):
            counts = read_table(name)
            on = "problem_key" if "problem_key" in counts.columns else "problem_id"
            if not {on, "n", "c"} <= set(counts.columns):
                raise BadInput(f"policy.before '{name}': needs problem_id (or problem_key), n and c")
            model = pl.col("model").cast(pl.String).fill_null("") if "model" in counts.columns else pl.lit("")
            counts = counts.with_columns(pl.col(on).cast(pl.String), model=model).sort("model", maintain_order=True)
        else:
            counts, on = self._of_run(find_run(self.root, name), "policy.before"), "problem_key"
            counts = counts.with_columns(model=pl.lit(""))
        return counts.group_by(on, "model", maintain_order=True).agg(pl.col("n", "c").sum().cast(pl.Int64)), on

    def _of_run(self, manifest: RunManifest, whose: str) -> pl.DataFrame:
        """Return problem_key, n and c of a run, in the order of the keys."""
        stage = last_stage(manifest, "verdicts")
        if stage is None:
            raise BadInput(f"{whose}: run {manifest.run_id} has no verdicts")
        names = ["problem_key", "sample_index", "verifier", "is_correct", "status", "chosen"]
        rows = open_stage(self.root, manifest, stage).select(names)
        verdicts = self.root.patiently(rows.collect, f"reading the verdicts of {manifest.run_id}")
        return count_verdicts(verdicts).rename({"problem_id": "problem_key"}).select("problem_key", "n", "c")

    def _night(self, name: str) -> pl.DataFrame:
        """Return n and c of a run's other problems, and what these say; ``MOST`` evenly spaced ones stand for more."""
        manifest = find_run(self.root, name)
        ours = self.problems.keys.rename("problem_key").to_frame()
        counts = (
            self._of_run(manifest, "policy.nights").filter(pl.col("n") > 0).join(ours, on="problem_key", how="anti")
        )
        counts = counts.sort("problem_key").gather_every(max(1, -(-len(counts) // MOST)))
        stage = last_stage(manifest, "problems")
        if stage is None:
            raise BadInput(f"policy.nights: run {manifest.run_id} has no problems")
        rows = open_stage(self.root, manifest, stage).select(FACTS)
        facts = self.root.patiently(rows.collect, f"reading the problems of {manifest.run_id}")
        self._say(f"policy.nights {manifest.run_id}: {len(counts):,} other problems are like these")
        return counts.join(facts, on="problem_key", how="inner", maintain_order="left")

    def _features(self, source: str, nights: list[pl.DataFrame]) -> tuple[Floats | None, list[Group]]:
        """Return features of the run's problems, and the nights with theirs, all on one scale; of one problem alone,
        which nothing can be told from, None.

        Raises:
            BadInput: nothing is said of some problem.
        """
        ours = pl.concat(self.problems.tables(self.root, Problem.select(*FACTS)))
        if source == PROBLEMS:
            rows = own_facts(pl.concat([ours, *(night.select(FACTS) for night in nights)]))
        else:
            table = read_table(source)
            on = next((name for name in ("problem_key", "problem_id") if name in table.columns), None)
            if on is None:
                raise BadInput(f"policy.features '{source}': no column names the problem; problem_id must")
            table = table.with_columns(pl.col(on).cast(pl.String)).unique(on, keep="first", maintain_order=True)
            lacking = ours.join(table, on=on, how="anti", maintain_order="left")
            if len(lacking):
                raise BadInput(
                    f"policy.features '{source}' says nothing of {len(lacking):,} problems, for example "
                    f"'{lacking[on][0]}'"
                )
            nights = [night.join(table, on=on, how="semi", maintain_order="left") for night in nights]
            named = pl.concat([ours.select(on), *(night.select(on) for night in nights)])
            rows = named.join(table, on=on, how="left", maintain_order="left")
        found = features_of(rows)
        if not found.shape[1]:
            return None, [_group(night, None) for night in nights]
        self._say(f"policy.features {source}: {found.shape[1]} of {len(ours):,} problems")
        ends = np.cumsum([len(ours), *(len(night) for night in nights)])
        own, *others = np.split(found, ends[:-1])
        return own, [_group(night, some) for night, some in zip(nights, others, strict=True)]


def _group(night: pl.DataFrame, features: Floats | None) -> Group:
    n, c = (night[name].to_numpy().astype(np.int64) for name in ("n", "c"))
    return Group(n, c, features)
