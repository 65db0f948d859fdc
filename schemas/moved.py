"""Names that are elsewhere now: importing one from where it was says where it is.

A finder behind all others is asked only for modules that nobody has. Modules that became packages answer for the names
that they had by a ``__getattr__`` (``names``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED: dict[str, str] = {
    "cluster.background": "cluster.tools.background",
    "cluster.carry": "cluster.working.carry",
    "cluster.choice": "cluster.planning.choice",
    "cluster.claims": "cluster.driving.claims",
    "cluster.compaction": "cluster.working.compaction",
    "cluster.cores": "cluster.tools.cores",
    "cluster.driver": "cluster.driving.driver",
    "cluster.engine_stages": "cluster.pools.stage_engines",
    "cluster.engines.adaptive": "cluster.engines.openai.gate",
    "cluster.engines.deadlines": "cluster.engines.openai.deadlines",
    "cluster.engines.expert_counts": "cluster.engines.vllm.expert_counts",
    "cluster.engines.last_words": "cluster.engines.vllm.last_words",
    "cluster.engines.openai_scores": "cluster.engines.openai.scores",
    "cluster.engines.vllm_experts": "cluster.engines.vllm.experts",
    "cluster.engines.vllm_routing": "cluster.engines.vllm.routing",
    "cluster.events": "cluster.records.events",
    "cluster.flights": "cluster.stages.flights",
    "cluster.garbage": "cluster.upkeep.garbage",
    "cluster.gather": "cluster.upkeep.gather",
    "cluster.health": "cluster.driving.health",
    "cluster.interruption": "cluster.runners.interruption",
    "cluster.local": "cluster.runners.local",
    "cluster.order": "cluster.moe.order",
    "cluster.plan": "cluster.planning.plan",
    "cluster.repair": "cluster.upkeep.repair",
    "cluster.replicas": "cluster.pools.replicas",
    "cluster.retention": "cluster.upkeep.retention",
    "cluster.run": "cluster.records.run",
    "cluster.runner": "cluster.runners.runner",
    "cluster.sample_state": "cluster.stages.sample_state",
    "cluster.sampler": "cluster.working.engine_worker",
    "cluster.scorer": "cluster.working.engine_worker",
    "cluster.scorers": "cluster.pools.asking",
    "cluster.spending.control": "cluster.driving.control",
    "cluster.states": "cluster.stages.states",
    "cluster.suspects": "cluster.stages.suspects",
    "cluster.tables": "cluster.storage.tables",
    "cluster.throughput": "cluster.records.throughput",
    "cluster.timeline": "cluster.records.timeline",
    "cluster.topology": "cluster.moe.topology",
    "cluster.turns": "cluster.pools.turns",
    "cluster.verify_data": "cluster.upkeep.verify_data",
    "cluster.verify_file": "cluster.upkeep.verify_file",
    "cluster.verify_store": "cluster.upkeep.verify_store",
    "cluster.warm_up": "cluster.stages.warm_ups",
    "cluster.watch": "cluster.driving.watch",
    "cluster.work": "cluster.working.work",
    "cluster.workers": "cluster.tools.processes",
    "jobs.bench.command": "jobs.bench.benchmark",
    "jobs.catalogue": "jobs.looking.catalogue",
    "jobs.cost": "jobs.looking.cost",
    "jobs.diff": "jobs.looking.diff",
    "jobs.estimate": "jobs.running.estimate",
    "jobs.export.command": "jobs.export.exporting",
    "jobs.job_file": "jobs.config.job_file",
    "jobs.job_init": "jobs.config.job_init",
    "jobs.keeping": "jobs.looking.keeping",
    "jobs.moe.cli": "jobs.commands.moe",
    "jobs.moe.command": "jobs.moe.plans",
    "jobs.nightly.calendar": "jobs.config.calendar",
    "jobs.nightly.cli": "jobs.commands.nightly",
    "jobs.op": "jobs.looking.op",
    "jobs.options": "jobs.config.options",
    "jobs.outlook": "jobs.running.outlook",
    "jobs.posterior": "jobs.running.posterior",
    "jobs.progress": "jobs.running.progress",
    "jobs.run": "jobs.running.run",
    "jobs.settings": "jobs.config.settings",
    "jobs.simulate.command": "jobs.simulate.simulation",
    "jobs.submit.cli": "jobs.commands.submit",
    "jobs.submit.command": "jobs.submit.submitting",
    "jobs.summary": "jobs.running.summary",
    "jobs.trace": "jobs.looking.trace",
    "jobs.verify_data": "jobs.looking.verify_data",
    "operators.budget.compute_optimal": "operators.policies.compute_optimal",
    "operators.budget.consistency": "operators.policies.consistency",
    "operators.budget.counting": "operators.policies.counting",
    "operators.budget.difficulty": "operators.measure.difficulty",
    "operators.budget.greedy": "operators.policies.greedy",
    "operators.budget.marginal": "operators.policies.marginal",
    "operators.budget.oracle": "operators.policies.oracle",
    "operators.budget.pets": "operators.policies.pets",
    "operators.budget.policies": "operators.policies.named",
    "operators.budget.policy": "operators.policies.policy",
    "operators.budget.shapes": "operators.policies.shapes",
    "operators.budget.with_flaws": "operators.policies.with_flaws",
    "operators.prune.lbfgsb": "operators.numeric.lbfgsb",
    "operators.prune.linesearch": "operators.numeric.linesearch",
    "operators.prune.weibull": "operators.numeric.weibull",
    "operators.sample.sample": "operators.sample.sampling",
    "operators.synthesize.concise": "operators.transform.concise",
    "operators.synthesize.counterfactual": "operators.transform.counterfactual",
    "operators.synthesize.decontaminate": "operators.overlap.decontaminate",
    "operators.synthesize.deduplicate": "operators.overlap.deduplicate",
    "operators.synthesize.drop_trace": "operators.transform.drop_trace",
    "operators.synthesize.interleave": "operators.transform.interleave",
    "operators.synthesize.minhash": "operators.overlap.minhash",
    "operators.synthesize.parallel": "operators.transform.parallel",
    "operators.synthesize.roll_outs": "operators.transform.roll_outs",
    "operators.synthesize.shingles": "operators.overlap.shingles",
    "operators.synthesize.sifting": "operators.overlap.sifting",
    "operators.synthesize.trace": "operators.transform.trace",
    "operators.synthesize.transformation": "operators.transform.transformation",
    "operators.synthesize.trial_and_error": "operators.transform.trial_and_error",
}
"""Modules: old name -> new name."""


class _Moved(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in MOVED:
            where = f"it is {MOVED[fullname]} now"
        else:
            inside = {new.rpartition(".")[0] for old, new in MOVED.items() if old.startswith(f"{fullname}.")}
            if not inside:
                return None
            where = f"what was in it is in {', '.join(sorted(inside))} now"
        raise ModuleNotFoundError(f"there is no '{fullname}' any more; {where}", name=fullname)


def install() -> None:
    """Let imports of old modules say the new ones. Calling it again does nothing."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())


def names(module: str, moved: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for a module that became a package: name -> the module that has it now."""

    def missing(name: str) -> Any:
        if name in moved:
            raise ImportError(f"'{name}' isn't in '{module}' any more; it is {moved[name]}.{name} now", name=module)
        raise AttributeError(f"module '{module}' has no attribute '{name}'")

    return missing


def sentence(error: ModuleNotFoundError) -> str:
    """Return what to say of a user's module that can't be imported."""
    if str(error).startswith("there is no"):
        return str(error)
    return f"module '{error.name}' can't be imported; is it on PYTHONPATH?"
