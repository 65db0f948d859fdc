"""The money of one run: its account, what its stages may take of it, its deadlines and its gate.

The driver calls it: once before anything is sent, after every commit, in every turn of its loop, and at the end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping

from cluster.engines import resolve
from cluster.records.bill import Amount
from cluster.records.run import Say
from cluster.records.throughput import read_entry
from cluster.spending.account import Account, check_prices
from cluster.spending.admission import Admission
from cluster.spending.books import Books
from cluster.spending.history import History, settle
from cluster.spending.loan import Keeping, Loan
from cluster.spending.purse import Purse
from cluster.spending.source import view_of
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StageState, StoreState, StreamState
from cluster.storage.ranges import Ranges
from cluster.storage.root import Root
from cluster.working.engine_worker import SCORER
from operators.asking import AskingOperator
from operators.strategies.words import POLICY
from schemas.budget import Budget
from schemas.engine import EngineSpec
from schemas.errors import BadInput
from schemas.job import RunSettings
from schemas.manifest import RunManifest, Spending
from schemas.prices import MICRO, Prices, price_of, priced_as

KEPT = 0.5
"""Share of the caps that is kept for stages that ask about whole problems, where ``run.budget.keep`` says nothing."""


class Money:
    """Caps, deadlines and gate of one run.

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
        self._ended: str | None = None
        """Why sampling ended before it had all that was wanted."""
        self._suspended: str | None = None
        """Why episodes were left unfinished."""
        self.began = time.monotonic()
        self._warned = False
        self._gpu_hours_before = 0.0
        self.sampling: list[SampleState] = []
        self._asking: list[StageState] = []
        """Stages that ask an engine about samples, or about what was made of them."""
        self._judges: dict[str, StageState] = {}

    def begin(self, states: Mapping[str, StageState], judges: Mapping[str, StageState]) -> None:
        """Open the account.

        Args:
            judges: sampling stage -> the stage that judges its samples.

        Raises:
            BadInput: an unknown price.
            StoreBusy: another run is spending on the same account.
        """
        self.sampling = [state for state in states.values() if isinstance(state, SampleState)]
        self._asking = [state for state in states.values() if state.asks]
        self._judges = dict(judges)
        prices = {name: self._prices(state, spec) for state in self._engines for name, spec in _engines_of(state)}
        for state in self._engines:
            _note_gpus(state)
        for state in self.sampling:
            state.books = self.books
        self.manifest.prices = {name: found.model_dump() for name, found in prices.items() if found is not None}
        if self.budget is not None:
            self._open_account(self.budget, prices, states)

    def go_on(self, states: Mapping[str, StageState]) -> None:
        """Hear that sampling is over, and stages were planned anew: they go on with the money of those before them."""
        self._ended = self.reached
        for sampling in self.sampling:
            sampling.closed = True  # what comes back now is the next run's
        for place, before in enumerate(self._asking):
            state = self._asking[place] = states[before.name]
            if state is not before:
                state.loans, state.closed = before.loans, before.closed
                _note_gpus(state)

    @property
    def _engines(self) -> list[StageState]:
        return [*self.sampling, *self._asking]

    def _prices(self, state: StageState, spec: EngineSpec) -> Prices | None:
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
            state.loans = {SCORER: Loan(account, self.books, state.name, SCORER, by_token[state.name])}
        self._keep_for_whole_problems(budget, [state for state in asking if not isinstance(state, StoreState)])
        for state in self.sampling:
            keeping = tuple(_keepings(state, states, budget.keep))
            state.purse = self._purse(account, state, by_token, keeping)
        if account.share >= 1.0:
            self._say(f"the account '{name}' has nothing left: {before.samples:,} samples, {before.tokens:,} tokens")

    def _purse(
        self, account: Account, state: SampleState, by_token: Mapping[str, Prices | None], keeping: tuple[Keeping, ...]
    ) -> Purse | Admission:
        problems, strategy = len(state.run.problems), state.operator.strategy
        if strategy is None:
            return Purse(account, self.books, state.name, by_token[state.name], problems, keeping)
        names = {POLICY: state.name, **{role: priced_as(state.name, role) for role in state.plan.stage.engines}}
        state.loans = {
            role: Loan(account, self.books, state.name, role, by_token[name]) for role, name in names.items()
        }
        known = [found for name in names.values() if (found := by_token[name]) is not None]

        def worst(prompt: int) -> Amount:
            took = strategy.worst(prompt, state.operator.max_tokens)
            # every role's calls at the dearest role's price
            rates = [rates for found in known if (rates := found.rates) is not None]
            read = took.prompt_tokens + took.scorer_tokens
            micro = max((read * rate[0] + took.completion_tokens * rate[2] for rate in rates), default=0.0)
            return Amount(0, took.tokens, math.ceil(micro))

        rows = state.rows
        return Admission(account, self.books, state.name, rows, state.loans, worst, problems, keeping)

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
            loan = state.loans[SCORER]
            share = budget.keep.get(state.name, KEPT / max(1, by_itself))
            amount = Amount(0, int((tokens or 0) * share), int((micro or 0) * share))
            if state.name in budget.keep:
                loan.keep(amount)
            else:
                loan.most = amount

    def change(self, budget: Budget) -> None:
        """Let other caps hold from now on (``cluster.driving.caps`` says which can)."""
        assert self.account is not None
        self.budget = self.account.budget = budget
        self.account.freed += 1
        open_ = [state for state in self._asking if not (state.complete or isinstance(state, StoreState))]
        self._keep_for_whole_problems(budget, open_)

    def on_done(self, state: StageState, samples: int) -> None:
        """Hear that a stage that asks is done with samples, or will never be: what was kept for them is free."""
        for loan in state.loans.values():
            loan.on_done(samples, state.complete)

    def look(self) -> bool:
        """Warn, check the gate and the deadlines; return whether what runs has to be cancelled now."""
        if self.account is None or self.budget is None:
            return False
        self._count_gpu_time(self.account)
        for state in self._asking:
            if state.complete:
                for loan in state.loans.values():
                    loan.release()
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
        return any(state.may_want for state in self.sampling) or any(
            state.waiting or state.in_flight for state in self._asking
        )

    def _check_deadlines(self, budget: Budget, account: Account) -> None:
        hours = (time.monotonic() - self.began) / 3600
        if budget.hours is not None and hours >= budget.hours:
            self._stop(f"run.budget.hours = {budget.hours:g} have passed")
        elif budget.gpu_hours is not None and self.gpu_hours >= budget.gpu_hours:
            self._stop(f"run.budget.gpu_hours = {budget.gpu_hours:g} are used up")
        elif budget.dollars is not None and account.gpu_time:
            spent = account.spent.microdollars + account.gpu_time.microdollars
            if spent >= budget.dollars * MICRO:
                self._stop(f"run.budget.dollars = {budget.dollars:g} are used up, with the time of the GPUs")

    def on_short(self, state: StageState) -> None:
        """Hear that calls of a stage wait for money, and nobody will bring any.

        Episodes are suspended then, and what was drawn is judged with what was kept for it.
        """
        if isinstance(state, SampleState):
            if not state.closed:
                state.closed = True
                self._suspended = f"the budget doesn't afford another call of stage {state.name}"
                self._say(f"{self._suspended}: its unfinished episodes wait for a later run")
        elif self.stopped is None:
            self._stop(f"the budget doesn't afford another call of stage {state.name}")

    def _held(self, state: StageState) -> dict[str, float]:
        """Return, by the name under which each engine is priced, for how many GPU seconds it was held in this run."""
        on = state.may_want if isinstance(state, SampleState) else (state.waiting or state.in_flight > 0)
        held: dict[str, float] = {}
        for role, pool in state.record.pools.items():
            spans = [(found.first, time.time() if on else found.last) for found in pool.replicas]
            seconds = sum(max(0.0, last - first) for first, last in spans if first)
            held[priced_as(state.name, role) if role else state.name] = seconds * pool.gpus_per_replica
        return held

    @property
    def gpu_hours(self) -> float:
        """GPU hours of the account, those of engines that run now included."""
        return self._gpu_hours_before + sum(sum(self._held(state).values()) for state in self._engines) / 3600

    def _count_gpu_time(self, account: Account) -> None:
        """Add up what this run's engines cost that are paid by the hour, where dollars are capped."""
        if account.budget.dollars is None:
            return
        micro = 0
        for state in self._engines:
            for name, seconds in self._held(state).items():
                prices = Prices.model_validate(self.manifest.prices.get(name, {}))
                if prices.rates is None:
                    micro += prices.microdollars(0, 0, 0, seconds) or 0
        account.gpu_time = Amount(microdollars=micro)

    def _stop(self, why: str) -> None:
        self.stopped, self._must_stop = why, True
        for state in self._engines:
            state.closed = True
        self._say(f"{why}: nothing more is sent")

    def _check_gate(self) -> None:
        """Let the rest of the money out once the first samples have shown what they must, or stop the run."""
        assert self.budget is not None and self.budget.gate is not None and self.account is not None
        gate = self.budget.gate
        samples = [state.record for state in self.sampling]
        drawn = sum(record.computed for record in samples)
        still = any(state.purse is not None and state.purse.reserved > 0 for state in self.sampling)
        if drawn < gate.samples and (still or not any(state.broke for state in self.sampling)):
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
            self.account.freed += 1
            self._say(f"the first {drawn:,} samples pass the gate")

    # -- the end -------------------------------------------------------------------------------------------------

    @property
    def reached(self) -> str | None:
        """Why there are fewer samples than were wanted, where that was the budget; None otherwise."""
        if self.stopped is not None:
            return self.stopped
        if self._ended is not None:
            return self._ended
        if self._suspended is not None:
            return self._suspended
        if any(state.broke and state.wants for state in self.sampling):
            return "the budget doesn't afford another sample"
        return None

    def finish(self) -> None:
        """Settle with the ledger."""
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


def _engines_of(state: StageState) -> Iterator[tuple[str, EngineSpec]]:
    """Yield the names under which a stage's engines are priced, and the engines."""
    stage = state.plan.stage
    assert stage.engine is not None
    yield stage.name, stage.engine
    for role, spec in stage.engines.items():
        yield priced_as(stage.name, role), spec


def _note_gpus(state: StageState) -> None:
    stage = state.plan.stage
    for role, spec in {"": stage.engine, **stage.pools}.items():
        if spec is not None:
            state.record.role(role).gpus_per_replica = spec.ranks * spec.gpus


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
        if not other.loans or other.name in shares or not isinstance(operator, AskingOperator):
            continue
        waiting = _waiting(state, other) if isinstance(other, StreamState) else None
        assert state.plan.stage.engine is not None
        most = state.plan.stage.engine.most_completion(state.operator.max_tokens)
        yield Keeping(other.loans[SCORER], operator, most, len(state.run.problems), waiting)


def _waiting(sampling: SampleState, other: StreamState) -> Callable[[], Ranges]:
    """Return what tells which samples of a run are there and wait for a stage."""
    return lambda: other.store.held.missing(
        view_of(len(sampling.run.problems), sampling.operator.per_problem, sampling.store.held)
    )
