"""A search by tokens as a call of an episode: asked once, kept, paid and capped like any other.

The journal has a row of what all of it took, and one of each text that it found, whose parent is that row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from operators.engine import EngineError
from operators.strategies.calls import Call, digest_of
from operators.strategies.episode import Episode
from operators.strategies.replies import refused
from operators.strategies.talking import sigmoid
from operators.strategies.words import POLICY, Bill, Node
from operators.token_tree import Took, Tree, TreeRequest
from schemas.errors import BadInput
from schemas.file_hash import file_hash

KIND = "search"
"""What the journal calls such a call."""


def bill_of(took: Took) -> Bill:
    """Return what a search took, or takes at most, as an episode's bill."""
    return Bill(1, took.read, 0, took.written, took.passes, took.scorer_read)


async def search(ep: Episode, request: TreeRequest) -> list[Node]:
    """Have the policy's engine carry out a search; return what it found, as ended nodes, the best first.

    Rewards are taken to be log-odds: a node's score is the probability. Where a cap of the episode would be passed, or
    the engine refuses, there is one node, which says so (finish ``cap``, ``error``).

    Raises:
        EngineError: a fault that may pass; the episode is played again later.
        BadInput: the engine can't search by tokens.
    """
    path, anew = ep.begin_group()
    if not ep.allows(bill_of(request.most(await ep.tokens_of(request.prompt + request.prefix)))):
        return [Node(ended=True, finish="cap", lineage=0)]
    about = {"role": POLICY, "prompt_hash": digest_of(request.prompt), "prefix_length": len(request.prefix)}

    async def answered() -> list[Call]:
        try:
            tree = await ep.engine(POLICY).grow_tree(replace(request, request_id=ep.name_of(path)))
        except EngineError as error:
            if error.transient:
                raise
            return [replace(refused(str(error)), call=path, kind=KIND, **about)]
        return [replace(call, **about) for call in _calls(path, tree)]

    cut_off = bool(known := ep.setting.journal.find(path)) and not _is_whole(known)
    whole, *finals = await ep.once(path, digest_of(KIND, _known_as(request)), answered, anew or cut_off)
    if whole.status == "error":
        ep.pay(Bill(1))
        return [Node(ended=True, finish="error", error=whole.error, lineage=0, call=path)]
    passes, scorer_read, computed, _ = map(int, whole.values or ())
    ep.pay(bill_of(Took(whole.prompt_tokens, whole.completion_tokens, passes, scorer_read, computed)))
    ep.note(computed_tokens=computed)
    found = sorted(finals, key=lambda call: int(call.call.rpartition(":")[2]))
    ep.values |= {call.call: sigmoid(call.value or 0.0) for call in found}
    return [_node(call, slot, whole.prompt_tokens) for slot, call in enumerate(found)]


def _known_as(request: TreeRequest) -> dict[str, Any]:
    """Return what a search is known by: of the rewards the file's content, wherever it is.

    Raises:
        BadInput: there is no such file where this is called.
    """
    try:
        rewards = file_hash(Path(request.rewards)) if request.rewards else ""
    except OSError as error:
        raise BadInput(f"saffron: '{request.rewards}' can't be read on this machine: {error.strerror}") from error
    return asdict(replace(request, rewards=rewards))


def _calls(path: str, tree: Tree) -> list[Call]:
    """Return the rows of a search: what it took, then what it found."""
    took = tree.took
    values = (took.passes, took.scorer_read, took.computed, len(tree.finals))
    whole = Call(
        path, 0, None, "", "", KIND, "", finish="stop", values=values, prompt_tokens=took.read,
        completion_tokens=took.written,
    )  # fmt: skip
    finals = [
        Call(
            f"{path}:{place}", 0, path, "", "", KIND, "", text=one.text, finish=one.finish, value=one.reward,
            values=(one.tokens,), sum_logprob=one.sum_logprob,
        )
        for place, one in enumerate(tree.finals)
    ]  # fmt: skip
    return [whole, *finals]


def _is_whole(calls: Sequence[Call]) -> bool:
    """Whether all rows of a search are there."""
    first = calls[0]
    return first.status == "error" or (first.values is not None and len(calls) == 1 + first.values[-1])


def _node(call: Call, slot: int, prompt: int) -> Node:
    [tokens] = map(int, call.values or (0,))
    return Node(
        call.text, None, 1, True, call.finish or "stop", sigmoid(call.value or 0.0), call.sum_logprob,
        cut=call.finish == "length", tokens=tokens, prompt_tokens=prompt, lineage=slot, slot=slot, call=call.call,
    )  # fmt: skip
