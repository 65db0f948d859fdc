"""What a run may send and who says so: caps, gate and policies, tied to the stages of one run.

The driver calls it: once before anything is sent, after every commit, in every turn of its loop, and at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import numpy as np
import polars as pl

from cluster.engines import resolve
from cluster.planning.plan import RunPlan
from cluster.planning.problems import Problems
from cluster.records.bill import Amount
from cluster.records.reader import find_run, last_stage, open_stage
from cluster.records.rules import write_rules
from cluster.records.run import Say
from cluster.records.throughput import read_entry
from cluster.spending.account import Account, check_prices
from cluster.spending.allocations import AllocationLog
from cluster.spending.books import Books
from cluster.spending.history import History, holes, settle
from cluster.spending.loan import Keeping, Loan
from cluster.spending.purse import Purse
from cluster.spending.source import LENGTHS, PolicySource, view_of
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StageState, StoreState, StreamState
from cluster.storage.ranges import Ranges, RangeSet
from cluster.storage.root import Root
from cluster.storage.tables import SUFFIXES, read_table
from operators.asking import AskingOperator
from operators.measure.counts import count_verdicts
from operators.measure.difficulty import log_odds
from operators.policies.named import AnyPolicy, ComputeOptimalSpec, MarginalSpec, UniformSpec
from operators.policies.policy import Ints
from schemas.budget import Budget
from schemas.datasets import Problem, Verdict
from schemas.errors import BadInput
from schemas.job import RunSettings
from schemas.manifest import RunManifest, Spending
from schemas.prices import MICRO, Prices, price_of

KEPT = 0.5
"""Share of the caps that is kept for stages that ask about whole problems, where ``run.budget.keep`` says nothing."""
READ_ROWS = 500_000
"""Verdicts that are read at once when a run begins."""


class Control:
    """Caps, gate and policies of one run.

    Args:
        books: where it stands what was lent, and what came of it.
        say: tells whoever watches.
    """

    def __init__(self, root: Root, settings: RunSettings, manifest: RunManifest, books: Books, say: Say) -> None:
        self.root = root
        self.settings = settings
        self.manifest = manifest
        self.budget = settings.budget
        self.account: Account | None = None
        self.stopped: str | None = None
        """Why nothing may be sent any more, for good."""
        self.gate_failed = False
        self.books = books
        self._say = say
        self._must_stop = False
        self._began = time.monotonic()
        self._warned = False
        self._gpu_hours_before = 0.0
        self._log: AllocationLog | None = None
        self._sampling: list[SampleState] = []
        self._asking: list[StageState] = []
        """Stages that ask an engine about samples, or about what was made of them."""
        self._judges: dict[str, StreamState] = {}
        """Sampling stage -> the stage whose verdicts its policy hears."""
        self._unjudged: dict[str, RangeSet] = {}
        """Sampling stage -> samples whose verdict the policy hasn't heard yet."""

    def begin(self, plan: RunPlan, states: Mapping[str, StageState]) -> None:
        """Open the account, start the policies.

        Raises:
            BadInput: an unknown price, or a policy that nothing can inform.
            StoreBusy: another run is spending on the same account.
        """
        self._sampling = [state for state in states.values() if isinstance(state, SampleState)]
        self._asking = [state for state in states.values() if state.asks]
        prices = {state.name: self._prices(state) for state in (*self._sampling, *self._asking)}
        for state in (*self._sampling, *self._asking):
            spec = state.plan.stage.engine
            state.record.gpus_per_replica = spec.ranks * spec.gpus if spec is not None else 0.0
        for state in self._sampling:
            state.books = self.books
        self.manifest.prices = {name: found.model_dump() for name, found in prices.items() if found is not None}
        if self.budget is not None:
            self._open_account(self.budget, prices, states)
        log = AllocationLog(self.root, self.manifest.run_id)
        for state in self._sampling:
            judge = _judge(state, states.values())
            if judge is not None:
                self._judges[state.name] = judge
            spec = self._policy(state)
            if self.budget is not None or spec is not None:
                state.log = self._log = log
            if spec is not None:
                self._follow(state, spec, plan)

    def _prices(self, state: StageState) -> Prices | None:
        spec = state.plan.stage.engine
        assert spec is not None
        model, revision = resolve(spec)
        found = price_of(model, self.settings.prices)
        if found is None and (entry := read_entry(self.root, spec, model, revision)) is not None and entry.prices.known:
            found = entry.prices
        if self.budget is not None and not state.complete:
            check_prices(self.budget, found, model)
        return found

    def _open_account(
        self, budget: Budget, prices: Mapping[str, Prices | None], states: Mapping[str, StageState]
    ) -> None:
        name = self.manifest.account = budget.account or self.manifest.pipeline
        history = History(self.root, name, self.manifest.run_id)
        history.settle()
        before, self._gpu_hours_before = history.spent, history.gpu_hours
        account = self.account = Account(budget, before)
        by_token = {
            name: found if budget.dollars is not None and found is not None and found.rates is not None else None
            for name, found in prices.items()
        }
        asking = [state for state in self._asking if not state.complete]
        for state in asking:
            state.loan = Loan(account, self.books, state.name, by_token[state.name])
        self._keep_for_whole_problems(budget, [state for state in asking if not isinstance(state, StoreState)])
        for state in self._sampling:
            keeping = tuple(_keepings(state, states, budget.keep))
            state.purse = Purse(account, self.books, state.name, by_token[state.name], len(state.run.problems), keeping)
        if account.share >= 1.0:
            self._say(f"the account '{name}' has nothing left: {before.samples:,} samples, {before.tokens:,} tokens")

    def _keep_for_whole_problems(self, budget: Budget, stages: list[StageState]) -> None:
        """Keep money for stages that ask about whole problems once all samples are there: the share that
        ``run.budget.keep`` says; else what they take at most for each sample, up to half of the caps for all of them.
        """
        unknown = sorted(set(budget.keep) - {state.name for state in self._asking if not isinstance(state, StoreState)})
        if unknown:
            raise BadInput(
                f"run.budget.keep names {', '.join(unknown)}: money is kept by shares for stages that ask an engine "
                "about whole problems; for those that ask about each sample it is kept by itself"
            )
        assert self.account is not None
        _, tokens, micro = self.account.caps
        by_itself = sum(state.name not in budget.keep for state in stages)
        for state in stages:
            assert state.loan is not None
            share = budget.keep.get(state.name, KEPT / max(1, by_itself))
            amount = Amount(0, int((tokens or 0) * share), int((micro or 0) * share))
            if state.name in budget.keep:
                state.loan.keep(amount)
            else:
                state.loan.most = amount

    def _policy(self, state: SampleState) -> AnyPolicy | None:
        if state.operator.policy is not None:
            return state.operator.policy
        if self.budget is None or not self.budget.is_capped:
            return None
        # with money for a part only, drawing in order would sample the first problems and none of the others
        return MarginalSpec() if state.name in self._judges else UniformSpec()

    def _follow(self, state: SampleState, spec: AnyPolicy, plan: RunPlan) -> None:
        operator = state.operator
        judge = self._judges.get(state.name)
        if judge is None and spec.name != "uniform":
            raise BadInput(f"stage {state.name}: policy {spec.name} needs verdicts, and no stage judges these samples")
        numbering = plan.problems.numbering
        before, similar = self._before(spec, plan.problems)
        sent = numbering.known_ranges(holes(self.root, state.plan.folder))
        first = self._first_arm(state, spec)
        source = PolicySource(spec, numbering, operator.n, state.store.held, sent, before, similar, first)
        state.follow(source)
        state.record.policy = spec.name
        caps = None if self.budget is None else self.budget.model_dump(mode="json", exclude_none=True)
        rule = {"policy": spec.model_dump(mode="json"), "n": operator.n, "budget": caps}
        odds = None if before is None else log_odds(before)
        write_rules(self.root, self.manifest.run_id, state.name, rule, plan.problems.keys, state.store.held, odds)
        there = view_of(len(plan.problems), operator.n, state.store.held)
        if judge is None:
            source.observe_samples(there)
            return
        self._unjudged[state.name] = RangeSet(there)
        for part in judge.store.held.present(there).groups(READ_ROWS):
            self._hear(state, part)

    def _first_arm(self, state: SampleState, spec: AnyPolicy) -> PolicySource | None:
        """Return the source that a stage shares a policy with, if one chooses between several stages.

        Raises:
            BadInput: the stages that compute_optimal chooses between aren't as many as it says, or differ in it.
        """
        if not isinstance(spec, ComputeOptimalSpec):
            return None
        arms = [other for other in self._sampling if other.operator.policy == spec]
        if len(arms) != spec.arms:
            raise BadInput(
                f"stage {state.name}: compute_optimal chooses between {spec.arms} sampling stages with the same "
                f"policy, and there are {len(arms)}; the pipeline 'arms' makes one for each configuration"
            )
        sources = [other.source for other in self._sampling if other.source is not None]
        return next((source for source in sources if source.spec == spec), None)

    def _before(self, spec: AnyPolicy, problems: Problems) -> tuple[Ints | None, Ints | None]:
        """Return n and c of the same problems by each source, [problems, sources, 2], and of others, [others, 2], from
        the tables or the runs that the policy names."""
        if not isinstance(spec, MarginalSpec) or not spec.before:
            return None, None
        same: list[Ints] = []
        similar: list[Ints] = []
        for name in (spec.before,) if isinstance(spec.before, str) else spec.before:
            counts, on = self._counts_before(name)
            ours = pl.concat(problems.tables(self.root, Problem.select(on)))
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
        return np.stack(same, axis=1), np.concatenate(similar)

    def _counts_before(self, name: str) -> tuple[pl.DataFrame, str]:
        """Return n and c by problem and model from a table or a run, and which column names the problem."""
        if name.endswith((*SUFFIXES, ".gz")):
            counts = read_table(name)
            on = "problem_key" if "problem_key" in counts.columns else "problem_id"
            if not {on, "n", "c"} <= set(counts.columns):
                raise BadInput(f"policy.before '{name}': needs problem_id (or problem_key), n and c")
            model = pl.col("model").cast(pl.String).fill_null("") if "model" in counts.columns else pl.lit("")
            counts = counts.with_columns(pl.col(on).cast(pl.String), model=model).sort("model", maintain_order=True)
        else:
            manifest = find_run(self.root, name)
            stage = last_stage(manifest, "verdicts")
            if stage is None:
                raise BadInput(f"policy.before: run {manifest.run_id} has no verdicts")
            names = ["problem_key", "sample_index", "verifier", "is_correct", "status"]
            rows = open_stage(self.root, manifest, stage).select(names)
            verdicts = self.root.patiently(rows.collect, f"reading the verdicts of {manifest.run_id}")
            counts, on = count_verdicts(verdicts).rename({"problem_id": "problem_key"}), "problem_key"
            counts = counts.with_columns(model=pl.lit(""))
        return counts.group_by(on, "model", maintain_order=True).agg(pl.col("n", "c").sum().cast(pl.Int64)), on

    # -- while the run goes on -----------------------------------------------------------------------------------

    def on_committed(self, state: StageState, ranges: Ranges) -> None:
        """Hear what became a fact, and tell the policies."""
        if state.loan is not None:
            state.loan.on_done(ranges.total, state.complete)
            for sampling in self._sampling:  # what was kept for these is free
                sampling.broke = False
        for sampling in self._sampling:
            source = sampling.source
            if source is None:
                continue
            if state is sampling:
                source.on_arrived(ranges)
                if sampling.name in self._judges:
                    self._unjudged[sampling.name].add(ranges)
                else:
                    source.observe_samples(ranges)
            elif state is self._judges.get(sampling.name):
                self._hear(sampling, ranges)

    def _hear(self, sampling: SampleState, ranges: Ranges) -> None:
        """Tell a policy of verdicts, each once."""
        unjudged, source = self._unjudged[sampling.name], sampling.source
        assert source is not None
        fresh = unjudged.present(ranges)
        if fresh:
            unjudged.remove(fresh)
            source.learn_costs(sampling.store.slice(fresh).read(self.root, LENGTHS), self._rates(sampling))
            source.observe(self._judges[sampling.name].store.slice(fresh).read(self.root, source.columns))

    def _rates(self, sampling: SampleState) -> tuple[float, float]:
        """Return what a prompt and a completion token cost, in any one unit."""
        prices = Prices.model_validate(self.manifest.prices.get(sampling.name, {}))
        return (1.0, 1.0) if prices.rates is None else (prices.rates[0], prices.rates[2])

    def on_left_out(self, state: StageState, ranges: Ranges) -> None:
        """Hear of rows that nobody will judge or draw."""
        if state.loan is not None:
            state.loan.on_done(ranges.total, state.complete)
        for sampling in self._sampling:
            if sampling.source is not None and state in (sampling, self._judges.get(sampling.name)):
                sampling.source.give_up(ranges)
                if state is sampling:
                    sampling.source.ban(np.unique(ranges.numbers))

    def look(self) -> bool:
        """Warn, check the gate and the deadlines; return whether what runs has to be cancelled now."""
        if self.account is None or self.budget is None:
            return False
        self._count_gpu_time(self.account)
        for state in self._asking:
            if state.loan is not None and state.complete:
                state.loan.release()
        self.manifest.spending = self._spending(self.account)
        if self.stopped is None:
            if not self._warned and self.account.share >= self.budget.warn_at:
                self._warned = True
                self._say(f"{self.account.share:.0%} of the budget is spent")
            if not self.account.gate_open:
                self._check_gate()
            if self.stopped is None and self._asks_on:
                self._check_deadlines(self.budget, self.account)
        must_stop, self._must_stop = self._must_stop, False
        return must_stop

    @property
    def _asks_on(self) -> bool:
        """Whether an engine is still asked, or may be."""
        return any(state.may_want for state in self._sampling) or any(
            state.waiting or state.in_flight for state in self._asking
        )

    def _check_deadlines(self, budget: Budget, account: Account) -> None:
        hours = (time.monotonic() - self._began) / 3600
        if budget.hours is not None and hours >= budget.hours:
            self._stop(f"run.budget.hours = {budget.hours:g} have passed")
        elif budget.gpu_hours is not None and self.gpu_hours >= budget.gpu_hours:
            self._stop(f"run.budget.gpu_hours = {budget.gpu_hours:g} are used up")
        elif budget.dollars is not None and account.gpu_time:
            spent = account.spent.microdollars + account.gpu_time.microdollars
            if spent >= budget.dollars * MICRO:
                self._stop(f"run.budget.dollars = {budget.dollars:g} are used up, with the time of the GPUs")

    def on_short(self, state: StageState) -> None:
        """Hear that calls of a stage wait for money, and nobody will bring any."""
        if self.stopped is None:
            self._stop(f"the budget doesn't afford another call of stage {state.name}")

    def _held(self, state: StageState) -> float:
        """Return for how many GPU seconds a stage has held its engines in this run."""
        on = state.may_want if isinstance(state, SampleState) else (state.waiting or state.in_flight > 0)
        held = [(found.first, time.time() if on else found.last) for found in state.record.replicas]
        return sum(max(0.0, last - first) for first, last in held if first) * state.record.gpus_per_replica

    @property
    def gpu_hours(self) -> float:
        """GPU hours of the account, those of engines that run now included."""
        return self._gpu_hours_before + sum(map(self._held, (*self._sampling, *self._asking))) / 3600

    def _count_gpu_time(self, account: Account) -> None:
        """Add up what this run's engines cost that are paid by the hour, where dollars are capped."""
        if account.budget.dollars is None:
            return
        micro = 0
        for state in (*self._sampling, *self._asking):
            prices = Prices.model_validate(self.manifest.prices.get(state.name, {}))
            if prices.rates is None:
                micro += prices.microdollars(0, 0, 0, self._held(state)) or 0
        account.gpu_time = Amount(microdollars=micro)

    def _stop(self, why: str) -> None:
        self.stopped, self._must_stop = why, True
        for state in (*self._sampling, *self._asking):
            state.closed = True
        self._say(f"{why}: nothing more is sent")

    def _check_gate(self) -> None:
        """Let the rest of the money out once the first samples have shown what they must, or stop the run."""
        assert self.budget is not None and self.budget.gate is not None and self.account is not None
        gate = self.budget.gate
        samples = [state.record for state in self._sampling]
        drawn = sum(record.computed for record in samples)
        still = any(state.purse is not None and state.purse.reserved > 0 for state in self._sampling)
        if drawn < gate.samples and (still or not any(state.broke for state in self._sampling)):
            return
        judges = {judge.name: judge for judge in self._judges.values()}
        if any(judge.record.computed + judge.record.quarantined < drawn for judge in judges.values()):
            return
        judged = [judge.record for judge in judges.values()]
        verdicts = sum(record.computed for record in judged)
        failed = []
        for name, bound, number, of, least in (
            ("parsed", gate.least_parsed, verdicts - sum(r.unparseable for r in judged), verdicts, True),
            ("accepted", gate.least_accepted, sum(r.accepted for r in judged), verdicts, True),
            ("truncated", gate.most_truncated, sum(r.truncated for r in samples), drawn, False),
            ("failed", gate.most_failed, sum(r.failed for r in samples), drawn, False),
        ):
            share = number / of if of else (0.0 if not least else 1.0)
            if share < bound if least else share > bound:
                failed.append(f"{share:.1%} of {of:,} were {name} ({'at least' if least else 'at most'} {bound:.1%})")
        if failed:
            self.gate_failed = True
            self._stop(f"the first samples don't pass run.budget.gate: {'; '.join(failed)}")
        else:
            self.account.gate_open = True
            for state in self._sampling:
                state.broke = False
            self._say(f"the first {drawn:,} samples pass the gate")

    # -- the end -------------------------------------------------------------------------------------------------

    @property
    def adaptive(self) -> bool:
        """Whether what later stages read is known only at the end of sampling."""
        return any(state.source is not None for state in self._sampling)

    @property
    def reached(self) -> str | None:
        """Why there are fewer samples than were wanted, where that was the budget; None otherwise."""
        if self.stopped is not None:
            return self.stopped
        if any(state.broke and state.wants for state in self._sampling):
            return "the budget doesn't afford another sample"
        return None

    def finish(self) -> None:
        """Settle with the ledger."""
        if self._log is not None:
            self._log.close()
        self.books.close()
        if self.account is None or self.manifest.account is None:
            return
        # what was sent and hasn't come back is lost now
        self.account.spent += self.account.reserved
        self.account.orphaned += self.account.reserved
        self.manifest.spending = self._spending(self.account)
        settle(self.root, self.manifest)

    def _spending(self, account: Account) -> Spending:
        names = ("samples", "tokens", "dollars", "gpu_hours", "hours")
        caps = {name: getattr(self.budget, name) for name in names}
        return Spending(
            account=self.manifest.account or "",
            samples=account.spent.samples,
            tokens=account.spent.tokens,
            microdollars=account.spent.microdollars + account.gpu_time.microdollars,
            gpu_hours=self.gpu_hours,
            orphaned_samples=account.orphaned.samples,
            orphaned_tokens=account.orphaned.tokens,
            caps={name: cap for name, cap in caps.items() if cap is not None},
        )


def _judge(state: SampleState, states: Iterable[StageState]) -> StreamState | None:
    """Return the first stage that judges a sampling stage's samples."""
    for other in states:
        if not isinstance(other, StreamState) or other.plan.stage.operator.output is not Verdict:
            continue
        if state.plan.stage in other.plan.stage.inputs.values():
            return other
    return None


def _keepings(state: SampleState, states: Mapping[str, StageState], shares: Collection[str]) -> Iterator[Keeping]:
    """Yield what is to be kept for each stage that will ask an engine about a sampling stage's samples.

    Args:
        shares: stages for which a share of the caps is kept.
    """
    reads = {state.name}
    for other in states.values():
        upstream = {stage.name for stage in other.plan.stage.inputs.values()}
        if not upstream & reads:
            continue
        reads.add(other.name)
        operator = other.plan.stage.operator
        if other.loan is None or other.name in shares or not isinstance(operator, AskingOperator):
            continue
        waiting = _waiting(state, other) if isinstance(other, StreamState) else None
        yield Keeping(other.loan, operator, state.operator.max_tokens, len(state.run.problems), waiting)


def _waiting(sampling: SampleState, other: StreamState) -> Callable[[], Ranges]:
    """Return what tells which samples of a run are there and wait for a stage."""
    return lambda: other.store.held.missing(
        view_of(len(sampling.run.problems), sampling.operator.n, sampling.store.held)
    )
