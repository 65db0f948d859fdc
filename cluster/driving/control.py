"""What a run may send and who says so: money and policies, tied to the stages of one run.

The driver calls it: once before anything is sent, after every commit, in every turn of its loop, and at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cluster.driving.beforehand import Beforehand
from cluster.driving.money import Money
from cluster.planning.plan import RunPlan
from cluster.records.rules import read_rules, write_rules
from cluster.records.run import Say
from cluster.spending.allocations import AllocationLog
from cluster.spending.draw_costs import EPISODES, LENGTHS, costs_of_episodes, costs_of_samples, prices_of_roles
from cluster.spending.history import holes
from cluster.spending.source import PolicySource, view_of
from cluster.stages.sample_state import SampleState
from cluster.stages.states import StageState, StreamState
from cluster.storage.ranges import Ranges, RangeSet, ranges_of
from cluster.storage.root import Root
from operators.policies.named import AnyPolicy, ComputeOptimalSpec, MarginalSpec, UniformSpec
from operators.policies.policy import Known
from schemas.datasets import SAMPLE_KEY, Sample, Verdict
from schemas.errors import BadInput
from schemas.manifest import RunManifest
from schemas.prices import Prices

READ_ROWS = 500_000
"""Verdicts that are read at once when a run begins."""


class Control:
    """The policies of one run, and its money.

    Args:
        money: what the run may spend.
        say: tells whoever watches.
    """

    def __init__(self, root: Root, manifest: RunManifest, money: Money, say: Say) -> None:
        self.root = root
        self.manifest = manifest
        self.money = money
        self._say = say
        self._log: AllocationLog | None = None
        self._sampling: list[SampleState] = []
        self._judges: dict[str, StreamState] = {}
        """Sampling stage -> the stage whose verdicts its policy hears."""
        self._unjudged: dict[str, RangeSet] = {}
        """Sampling stage -> samples whose verdict the policy hasn't heard yet."""
        self.instead: dict[str, AnyPolicy] = {}
        """Sampling stage -> the policy that people put in the place of the job's own."""
        self._beforehand: Beforehand | None = None

    def begin(self, plan: RunPlan, states: Mapping[str, StageState]) -> None:
        """Open the account, start the policies.

        Raises:
            BadInput: an unknown price, or a policy that nothing can inform.
            StoreBusy: another run is spending on the same account.
        """
        self._sampling = [state for state in states.values() if isinstance(state, SampleState)]
        for state in self._sampling:
            judge = _judge(state, states.values())
            if judge is not None:
                self._judges[state.name] = judge
        self.money.begin(states, self._judges)
        log = AllocationLog(self.root, self.manifest.run_id)
        self._beforehand = Beforehand(self.root, plan.problems, self._say)
        for state in self._sampling:
            spec = self._policy(state)
            if self.money.budget is not None or spec is not None:
                state.log = self._log = log
            if spec is not None:
                self._follow(state, spec, plan)

    def policy_of(self, state: SampleState) -> AnyPolicy | None:
        """Return the policy by which a stage is sampled, or will be; None where it is sampled in order."""
        return state.source.spec if state.source is not None else self._policy(state)

    def _policy(self, state: SampleState) -> AnyPolicy | None:
        if state.name in self.instead:
            return self.instead[state.name]
        if state.operator.policy is not None:
            return state.operator.policy
        if self.money.budget is None or not self.money.budget.is_capped:
            return None
        # with money for a part only, drawing in order would sample the first problems and none of the others
        return MarginalSpec() if state.name in self._judges else UniformSpec()

    def _follow(self, state: SampleState, spec: AnyPolicy, plan: RunPlan) -> None:
        operator = state.operator
        judge = self._judges.get(state.name)
        if judge is None and spec.name != "uniform":
            raise BadInput(f"stage {state.name}: policy {spec.name} needs verdicts, and no stage judges these samples")
        numbering = plan.problems.numbering
        assert self._beforehand is not None
        known = self._beforehand.of(spec)
        sent = numbering.known_ranges(holes(self.root, state.plan.folder)).over(state.rows)
        first = self._first_arm(state, spec)
        draws, held = operator.per_problem // state.rows, RangeSet(state.store.held.ranges.over(state.rows))
        source = PolicySource(spec, numbering, draws, held, sent, known, first)
        state.follow(source)
        state.record.policy = spec.name
        rule = self._rule(state, spec)
        write_rules(self.root, self.manifest.run_id, state.name, rule, plan.problems.keys, state.store.held, known)
        self._hear_what_is_there(state)

    def _rule(self, state: SampleState, spec: AnyPolicy) -> dict[str, Any]:
        budget = self.money.budget
        caps = None if budget is None else budget.model_dump(mode="json", exclude_none=True, exclude={"keep"})
        return {"policy": spec.as_logged(), "n": state.operator.per_problem, "budget": caps}

    def _hear_what_is_there(self, state: SampleState) -> None:
        """Tell a policy that begins of all samples that are there, as far as they are judged."""
        judge, source = self._judges.get(state.name), state.source
        assert source is not None
        there = view_of(source.numbering.problems, state.operator.per_problem, state.store.held)
        if judge is None:
            source.observe_samples(there.over(state.rows))
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
        if len(arms) == spec.arms and len({other.operator.per_problem // other.rows for other in arms}) > 1:
            draws = ", ".join(f"{other.name} {other.operator.per_problem // other.rows:,}" for other in arms)
            raise BadInput(
                f"stage {state.name}: stages that compute_optimal chooses between have as many draws each, an episode "
                f"of a strategy being one, and not {draws}; set sample.n to the draws times the rows of an episode"
            )
        if len(arms) != spec.arms:
            raise BadInput(
                f"stage {state.name}: compute_optimal chooses between {spec.arms} sampling stages with the same "
                f"policy, and there are {len(arms)}; the pipeline 'arms' makes one for each configuration"
            )
        sources = [other.source for other in self._sampling if other.source is not None]
        return next((source for source in sources if source.spec == spec), None)

    # -- what people change --------------------------------------------------------------------------------------

    def refuse_policy(self, state: SampleState, spec: AnyPolicy) -> str:
        """Return why a stage can't be sampled by another policy from now on; empty where it can."""
        old = state.source
        if old is None:
            return "it is sampled in order, the same for every problem; start it with a policy to change that one"
        if isinstance(spec, ComputeOptimalSpec) or isinstance(old.spec, ComputeOptimalSpec):
            return "compute_optimal calibrates its arms before anything else, and can't be changed half-way"
        if state.closed:
            return "its sampling has ended"
        if state.name not in self._judges and spec.name != "uniform":
            return f"policy {spec.name} needs verdicts, and no stage judges these samples"
        return ""

    def known(self, spec: AnyPolicy) -> Known:
        """Return what a policy is to be told of the problems before it begins.

        Raises:
            BadInput: it can't be read.
        """
        assert self._beforehand is not None
        return self._beforehand.of(spec)

    def change_policy(self, state: SampleState, spec: AnyPolicy, known: Known, by: Mapping[str, str]) -> None:
        """Sample a stage by another policy from now on: it hears of everything that is there, and takes what is under
        way for sent."""
        old = state.source
        assert old is not None
        source = PolicySource(spec, old.numbering, old.most, old.taken, Ranges.none(), known)
        source.follow(old)
        state.source, state.record.policy = source, spec.name
        self._write_change(state, by)
        self._hear_what_is_there(state)

    def on_caps_changed(self, by: Mapping[str, str]) -> None:
        """Write down that other caps hold from now on."""
        for state in self._sampling:
            if state.source is not None:
                self._write_change(state, by)

    def _write_change(self, state: SampleState, by: Mapping[str, str]) -> None:
        source = state.source
        assert source is not None
        numbers = np.arange(source.numbering.problems)
        write_rules(
            self.root, self.manifest.run_id, state.name, {**self._rule(state, source.spec), "ordered": dict(by)},
            source.numbering.keys(numbers), RangeSet(source.taken.ranges.times(state.rows)), source.known,
            before=read_rules(self.root, self.manifest.run_id, state.name),
        )  # fmt: skip

    # -- while the run goes on -----------------------------------------------------------------------------------

    def on_committed(self, state: StageState, ranges: Ranges) -> None:
        """Hear what became a fact, and tell the policies."""
        self.money.on_done(state, ranges.total)
        for sampling in self._sampling:
            source = sampling.source
            if source is None:
                continue
            if state is sampling:
                source.on_arrived(ranges.over(sampling.rows))
                if sampling.name in self._judges:
                    self._unjudged[sampling.name].add(ranges)
                else:
                    source.observe_samples(ranges.over(sampling.rows))
            elif state is self._judges.get(sampling.name):
                self._hear(sampling, ranges)

    def _hear(self, sampling: SampleState, ranges: Ranges) -> None:
        """Tell a policy of verdicts, each once; of an episode it hears what its chosen row is worth."""
        unjudged, source = self._unjudged[sampling.name], sampling.source
        assert source is not None
        fresh = unjudged.present(ranges)
        if fresh:
            unjudged.remove(fresh)
            verdicts = self._judges[sampling.name].store.slice(fresh).read(self.root, source.columns)
            if sampling.operator.strategy is None:
                rows = sampling.store.slice(fresh).read(self.root, LENGTHS)
                source.learn_costs(costs_of_samples(rows, self._prices(sampling)))
            else:
                rows = sampling.store.slice(fresh).read(self.root, EPISODES)
                source.learn_costs(costs_of_episodes(rows, self._prices(sampling)))
                if sampling.rows > 1:  # else each row is an episode, also one that measures don't take for a draw
                    verdicts = verdicts.join(rows.filter("chosen"), on=SAMPLE_KEY, how="semi")
            source.observe(verdicts)

    def _prices(self, sampling: SampleState) -> dict[str, Prices] | None:
        """Return the price of each role that a stage asks; None where a token's price isn't known of every role of all
        stages that share its policy: then tokens are what counts."""
        assert sampling.source is not None
        together = [state for state in self._sampling if state.source in sampling.source.siblings]
        known = {state.name: prices_of_roles(self.manifest, state.name, state.plan.stage.engines) for state in together}
        every = [prices for roles in known.values() for prices in roles.values()]
        return known[sampling.name] if all(prices.rates is not None for prices in every) else None

    def on_left_out(self, state: StageState, ranges: Ranges) -> None:
        """Hear of rows that nobody will judge or draw."""
        self.money.on_done(state, ranges.total)
        for sampling in self._sampling:
            if sampling.source is not None and state in (sampling, self._judges.get(sampling.name)):
                sampling.source.give_up(self._draws(sampling, state, ranges))
                if state is sampling:
                    sampling.source.ban(np.unique(ranges.numbers))

    def on_taken_up(self, state: StageState, ranges: Ranges) -> None:
        """Hear of rows that are made again, though nothing more was expected of them."""
        for sampling in self._sampling:
            if sampling.source is not None and state in (sampling, self._judges.get(sampling.name)):
                sampling.source.take_up(self._draws(sampling, state, ranges))

    def over(self, states: Iterable[StageState]) -> bool:
        """Whether what some stages lack won't be made in this run any more."""
        return self.money.reached is not None or any(state.closed for state in [*self._sampling, *states])

    def _draws(self, sampling: SampleState, state: StageState, ranges: Ranges) -> Ranges:
        """Return the draws that are lost with some samples: of episodes those whose chosen row is among them."""
        if sampling.rows == 1 or state is sampling:
            return ranges.over(sampling.rows)
        rows = sampling.store.slice(ranges).read(self.root, Sample.select(*SAMPLE_KEY, "chosen")).filter("chosen")
        return sampling.store.numbering.ranges(ranges_of(rows.sort(SAMPLE_KEY))).over(sampling.rows)

    # -- the end -------------------------------------------------------------------------------------------------

    @property
    def adaptive(self) -> bool:
        """Whether what later stages read is known only at the end of sampling."""
        return any(state.source is not None for state in self._sampling)

    def finish(self) -> None:
        """Settle with the ledger."""
        if self._log is not None:
            self._log.close()
        self.money.finish()


def _judge(state: SampleState, states: Iterable[StageState]) -> StreamState | None:
    """Return the first stage that judges a sampling stage's samples."""
    for other in states:
        if not isinstance(other, StreamState) or other.plan.stage.operator.output is not Verdict:
            continue
        if state.plan.stage in other.plan.stage.inputs.values():
            return other
    return None
