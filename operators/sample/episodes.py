"""Episodes as samples: a strategy is played, and what it came to becomes rows."""

from __future__ import annotations

import json
from typing import Any

from operators.engine import Completion
from operators.sample.rows import sample_row
from operators.strategies.episode import Episode
from operators.strategies.setting import Caps, Setting
from operators.strategies.strategy import Strategy
from operators.strategies.words import Node, Result
from operators.thinking import opens_thought
from schemas.errors import BadInput


async def play(strategy: Strategy, setting: Setting, run_id: str) -> list[dict[str, Any]]:
    """Play one episode and return its rows.

    Raises:
        EngineError: a transient fault; nothing of the episode may be committed, but its calls are in the journal.
        BadInput: the strategy gave more rows than it said.
    """
    ep = Episode(setting, Caps(strategy.cap_tokens, strategy.cap_calls, strategy.cap_scores))
    result = await strategy.play(ep)
    if len(result.finals) > strategy.rows:
        raise BadInput(
            f"strategy {strategy.public_name()} gave {len(result.finals)} rows, and says that it gives {strategy.rows}"
        )
    facts = json.dumps(_facts(strategy, ep, result), sort_keys=True)
    led = opens_thought(setting.prompt + setting.lead)
    finals = [*result.finals, *[None] * (strategy.rows - len(result.finals))]
    refused = next((node.error for node in finals if node is not None and node.finish == "error"), None)
    nothing = result.chosen is None
    if any(node is not None and node.finish != "error" for node in finals):
        refused = None
    rows: list[dict[str, Any]] = []
    for slot, node in enumerate(finals):
        chosen = slot == (result.chosen or 0)
        said, error = _completion(node), None if node is None else node.error
        row = sample_row(
            setting.problem, setting.index * strategy.rows + slot, setting.seed, run_id, said, led, refused or error
        )
        if node is None and refused is None and not (chosen and nothing):
            row["status"] = "none"
        row |= {
            "episode": setting.index,
            "slot": slot,
            "chosen": chosen,
            "search_score": None if node is None else node.score,
            "lineage": None if node is None or node.lineage < 0 else node.lineage,
            "turns": None if node is None or node.turns is None else list(node.turns),
            "episode_facts": facts if slot == 0 else None,
        }
        rows.append(row)
    return rows


def _completion(node: Node | None) -> Completion:
    if node is None:
        return Completion("", "none", 0, 0)
    return Completion(
        node.text,
        node.finish or "unfinished",
        node.prompt_tokens,
        node.tokens,
        node.cached,
        node.reasoning,
        node.tool_calls,
        sum_logprob=node.sum_logprob,
        mean_logprob=None if node.sum_logprob is None else node.sum_logprob / max(1, node.tokens),
    )


def _facts(strategy: Strategy, ep: Episode, result: Result) -> dict[str, Any]:
    there = [node for node in result.finals if node is not None]
    bill = ep.bill
    return {
        "strategy": strategy.public_name(),
        "finals": len(there),
        "chosen": result.chosen,
        "ended_by": "cap" if ep.capped else result.ended_by,
        "oracle": result.oracle or strategy.shows_answers,
        **({"counterfactual": True} if result.counterfactual else {}),
        "calls": bill.calls,
        "prompt_tokens": bill.prompt_tokens,
        "cached_prompt_tokens": bill.cached_prompt_tokens,
        "completion_tokens": bill.completion_tokens,
        "scorer_passes": bill.passes,
        "scorer_tokens": bill.scorer_tokens,
        "roles": {
            role: [took.prompt_tokens + took.scorer_tokens, took.cached_prompt_tokens, took.completion_tokens]
            for role, took in sorted(ep.by_role.items())
        },
        "lineages": len({node.lineage for node in there}),
        "distinct_texts": len({node.text for node in there}),
        "ends": [None if node is None else node.call for node in result.finals],
        "scores": {call: round(value, 6) for call, value in sorted(ep.values.items())},
        "note": dict(sorted(ep.notes.items())),
    }
