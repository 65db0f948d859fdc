"""Claims: before a run pays for anything, it becomes the one writer of every store it will add to.

Stores are taken in order of their folders, all or none, so two runs can't wait for each other. What was committed
between planning and taking is planned again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from cluster.planning.plan import RunPlan, StagePlan, make_plan, problems_of
from cluster.planning.problems import Problems
from cluster.planning.reuse import take_over
from cluster.records.rules import Rules
from cluster.records.run import Say
from cluster.runners.interruption import Interruption
from cluster.storage.lease import read_lease
from cluster.storage.ranges import Ranges
from cluster.storage.root import Root
from cluster.storage.store import Store
from pipelines.graph import Pipeline
from schemas.errors import LeaseLost, StoreBusy
from schemas.job import RunSettings


class Claims:
    """The leases of one run."""

    def __init__(self, root: Root, run_id: str, settings: RunSettings) -> None:
        self.root = root
        self.run_id = run_id
        self.settings = settings
        self._stores: dict[str, Store] = {}
        self._lock = threading.Lock()
        """Held while leases are taken, renewed or released."""

    def make_plan(self, pipeline: Pipeline, say: Say, interruption: Interruption) -> RunPlan:
        """Return a plan whose stores with something to add are all ours.

        Raises:
            StoreBusy: another run is writing one of them, and the settings say not to wait or to read.
        """
        only_read: set[str] = set()
        said = ""
        problems: Problems | None = None
        while True:
            problems = self._problems(pipeline, problems)
            plan = make_plan(
                pipeline, self.root, self.settings, only_read=only_read, stores=self._stores, problems=problems
            )
            before = sum(len(store.held) for store in self._stores.values())
            busy = self._take(plan, say)
            if busy is None:
                if sum(len(store.held) for store in self._stores.values()) == before:
                    if not take_over(plan, self.root, self.run_id, say):
                        return plan
                    stores, problems = self._stores, plan.problems
                    again = make_plan(
                        pipeline, self.root, self.settings, only_read=only_read, stores=stores, problems=problems
                    )
                    return replace(again, notes=plan.notes)
                self.release()
                continue
            stage, error = busy
            self.release()
            if interruption.requested:
                raise error
            if self.settings.if_busy == "read":
                say(f"{error}. Reading what is there", stage.stage.name)
                only_read.add(stage.stage.name)
            elif self.settings.if_busy == "wait" or self._may_be_dead(stage, say):
                if str(stage.folder) != said:
                    say(f"waiting: {error}", stage.stage.name)
                    said = str(stage.folder)
                time.sleep(min(1.0, self.settings.lease_seconds / 4))
                for store in self._stores.values():
                    store.refresh()
            else:
                raise error

    def _problems(self, pipeline: Pipeline, before: Problems | None) -> Problems:
        """Return the run's problems: those from before, unless another run may have finished some of them since."""
        if before is not None and not self.settings.without_runs:
            return before
        problems = problems_of(pipeline, self.root, self.settings)
        if before is not None and before.view == problems.view:
            return before
        self._stores.clear()  # they know problems by their numbers
        return problems

    def plan_again(
        self, pipeline: Pipeline, plan: RunPlan, views: Mapping[str, Ranges], rules: Mapping[str, Rules]
    ) -> RunPlan:
        """Return the plan of the same run with views that its policies have decided; the stores stay ours."""
        return make_plan(
            pipeline, self.root, self.settings, stores=self._stores, views=views, rules=rules, problems=plan.problems
        )

    def _take(self, plan: RunPlan, say: Say) -> tuple[StagePlan, StoreBusy] | None:
        """Take what the plan adds to; return the first that is taken by others."""
        wanted = [stage for stage in plan.stages.values() if stage.store is not None and stage.action != "reuse"]
        stores = [(store, stage) for stage in wanted for store in (stage.store, stage.calls) if store is not None]
        for store, stage in stores:
            lease = read_lease(self.root, store.folder)
            if lease is not None and lease.seems_lapsed and lease.alive():
                say(f"{lease.describe()} holds the store; looking whether it is alive", stage.stage.name)
        for store, stage in sorted(stores, key=lambda one: one[0].folder):
            try:
                with self._lock:
                    if store.lease is None:
                        store.acquire(self.run_id, self.settings.lease_seconds)
            except StoreBusy as error:
                return stage, error
        return None

    def _may_be_dead(self, stage: StagePlan, say: Say) -> bool:
        """Watch a lease that is held on another machine: one that isn't renewed belongs to a run that died."""
        first = read_lease(self.root, stage.folder)
        if first is None or first.here():
            return False
        say(f"{first.describe()} holds the store; looking whether it is alive", stage.stage.name)
        while first.alive():
            time.sleep(min(1.0, self.settings.lease_seconds / 4))
            now = read_lease(self.root, stage.folder)
            if now is None or now.released:
                return True
            if now.expires != first.expires:
                return False
        return True

    def renew(self) -> None:
        """Renew all leases that are held and haven't lapsed. Called from a thread of its own."""
        with self._lock:
            for store in self._stores.values():
                store.renew()

    def reclaim(self) -> None:
        """Take up again what lapsed, if nobody wanted it meanwhile. Called by the driver's loop.

        Raises:
            LeaseLost: another run took over.
        """
        for store in self._stores.values():
            store.reclaim()

    def release(self) -> None:
        """Let others write; a lease that was lost in the meantime needs no release."""
        with self._lock:
            for store in self._stores.values():
                try:
                    store.release()
                except (LeaseLost, OSError):
                    continue
