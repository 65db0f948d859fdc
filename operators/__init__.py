"""What is done to the data. The one table of public names; a user's own class is named ``package.module:Class``."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from schemas.errors import BadInput

if TYPE_CHECKING:
    from operators.base import Operator

OPERATORS: dict[str, str] = {
    "load": "operators.load:Load",
    "sample": "operators.sample.sample:Sample",
    "verify.math": "operators.verify.math:VerifyMath",
    "verify.exact": "operators.verify.exact:VerifyExact",
    "verify.code": "operators.verify.code:VerifyCode",
    "verify.command": "operators.verify.command:VerifyCommand",
    "verify.choice": "operators.verify.choice:VerifyChoice",
    "verify.procedure": "operators.verify.procedure:VerifyProcedure",
    "verify.judge": "operators.verify.judge:VerifyJudge",
    "verify.rest": "operators.verify.rest:VerifyRest",
    "verify.by_task": "operators.verify.compose:VerifyByTask",
    "verify.all_of": "operators.verify.compose:VerifyAllOf",
    "verify.any_of": "operators.verify.compose:VerifyAnyOf",
    "verify.cascade": "operators.verify.compose:VerifyCascade",
    "verify.reasoning_gym": "operators.verify.reasoning_gym:VerifyReasoningGym",
    "score.outcome": "operators.score.outcome:ScoreOutcome",
    "score.process": "operators.score.process:ScoreProcess",
    "score.likelihood": "operators.score.likelihood:ScoreLikelihood",
    "score.judge": "operators.score.judge:ScoreJudge",
    "prune.rpc": "operators.prune.rpc:PruneRpc",
    "prune.confidence": "operators.prune.confidence:PruneConfidence",
    "select.majority": "operators.select.majority:MajorityVote",
    "select.weighted": "operators.select.scored:WeightedVote",
    "select.best_of_n": "operators.select.scored:BestOfN",
    "select.perplexity": "operators.select.perplexity:Perplexity",
    "select.perplexity_consistency": "operators.select.perplexity:PerplexityConsistency",
    "select.rpc": "operators.select.perplexity:Rpc",
    "select.top_two": "operators.select.top_two:SelectTopTwo",
    "select.mbr": "operators.select.mbr:SelectMbr",
    "select.chops": "operators.select.chops:SelectChops",
    "select.abductive": "operators.select.abductive:SelectAbductive",
    "select.judges": "operators.select.judges:SelectJudges",
    "select.several": "operators.select.several:SelectSeveral",
    "measure.pass_at_k": "operators.measure.pass_at_k:PassAtK",
    "measure.forecast": "operators.measure.forecast:MeasureForecast",
    "measure.selection": "operators.measure.selection:MeasureSelection",
    "measure.calibration": "operators.measure.calibration:MeasureCalibration",
    "measure.multiplicity": "operators.measure.multiplicity:MeasureMultiplicity",
    "measure.rice": "operators.measure.rice:MeasureRice",
    "measure.verifier_audit": "operators.measure.verifier_audit:MeasureVerifierAudit",
    "synthesize.choose": "operators.synthesize.choose:SynthesizeChoose",
    "synthesize.sft": "operators.synthesize.sft:SynthesizeSft",
    "synthesize.preference": "operators.synthesize.preference:SynthesizePreference",
    "synthesize.step_rewards": "operators.synthesize.step_rewards:SynthesizeStepRewards",
    "synthesize.deduplicate": "operators.overlap.deduplicate:SynthesizeDeduplicate",
    "synthesize.decontaminate": "operators.overlap.decontaminate:SynthesizeDecontaminate",
    "synthesize.mix": "operators.synthesize.mix:SynthesizeMix",
    "synthesize.concise": "operators.transform.concise:SynthesizeConcise",
    "synthesize.drop_trace": "operators.transform.drop_trace:SynthesizeDropTrace",
    "synthesize.parallel": "operators.transform.parallel:SynthesizeParallel",
    "synthesize.trial_and_error": "operators.transform.trial_and_error:SynthesizeTrialAndError",
    "synthesize.counterfactual": "operators.transform.counterfactual:SynthesizeCounterfactual",
    "synthesize.thought_pairs": "operators.transform.counterfactual:SynthesizeThoughtPairs",
    "synthesize.interleave": "operators.transform.interleave:SynthesizeInterleave",
    "synthesize.roll_outs": "operators.transform.roll_outs:SynthesizeRollOuts",
    "synthesize.roll_out_rewards": "operators.transform.roll_outs:SynthesizeRollOutRewards",
}


def operator_class(name: str) -> type[Operator]:
    """Return the class of a public name, or of ``package.module:Class``.

    Raises:
        BadInput: no such name (the nearest one is offered), module or class, or not an Operator.
    """
    from operators.base import Operator

    target = OPERATORS.get(name, name)
    if ":" not in target:
        near = difflib.get_close_matches(name, OPERATORS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise BadInput(f"no operator '{name}'{hint} Known: {', '.join(OPERATORS)}, or your own as package.module:Class")
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise BadInput(f"operator '{name}': module '{error.name}' can't be imported; is it on PYTHONPATH?") from error
    except AttributeError as error:
        raise BadInput(f"operator '{name}': module '{module}' has no class '{attribute}'") from error
    if not (isinstance(found, type) and issubclass(found, Operator)):
        raise BadInput(f"operator '{name}' is not a subclass of operators.base.Operator")
    return found
