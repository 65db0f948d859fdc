"""Talking: the problem's conversation and what follows it, and replies that are read (and asked again where they can't
be)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from operators.strategies.episode import Episode
from operators.strategies.words import POLICY, Ask, Node, Result, Said
from operators.text import fill
from operators.thinking import TAGS
from schemas.conversation import Turn, spoken, text_of

Read = TypeVar("Read")
BETWEEN = "\n\n"
"""Between turns that are no chat, and between texts that are put together."""
SILENT = ("error", "cap")
"""How completions end that say nothing."""
REPEATS = 1
"""How often a reply that can't be read is asked for again."""


def conversation(ep: Episode, *more: str) -> list[Turn]:
    """Return the problem's conversation and what follows: the assistant's words, the user's, and so on in turn."""
    turns = list(ep.setting.turns) or spoken(ep.problem.get("messages"))
    turns = turns or [{"role": "user", "content": ep.problem["prompt"]}]
    for place, text in enumerate(more):
        role = "user" if place % 2 else "assistant"
        turns.append({"role": role, "content": text if ep.setting.chat else text + BETWEEN})
    return turns


def since(ep: Episode, *more: str) -> tuple[Turn, ...]:
    """Return what follows the problem's conversation, as a row keeps it."""
    return tuple(conversation(ep, *more)[-len(more) :])


def retold(ep: Episode, template: str, **places: str) -> list[Turn]:
    """Return the problem's conversation with a template as its last turn, which has {prompt}: what that turn said."""
    *before, last = conversation(ep)
    return [*before, {"role": "user", "content": fill(template, {"prompt": text_of(last), **places})}]


async def asked(ep: Episode, template: str, role: str = POLICY, **places: str) -> str:
    """Return the rendered prompt of a question of its own; {prompt} is the problem's."""
    text = fill(template, {"prompt": ep.problem["prompt"], **places})
    return await ep.render([{"role": "user", "content": text}], role)


async def read_each(
    ep: Episode, asks: Sequence[Ask], read: Callable[[str], Read | None]
) -> tuple[list[Said], list[Read | None]]:
    """Ask as one group, and read each reply; one that can't be read is asked for once more, with another seed.

    Each reply that can't be read is counted (note ``unreadable``). At temperature 0 nothing is asked again.
    """
    said = await ep.generate(asks)
    found = [None if one.finish in SILENT else read(one.text) for one in said]
    for attempt in range(1, REPEATS + 1):
        lacking = [at for at, one in enumerate(said) if found[at] is None and one.finish not in SILENT]
        ep.note(unreadable=len(lacking))
        lacking = [at for at in lacking if _warm(ep, asks[at])]
        if not lacking:
            return said, found
        paths = [f"{said[at].call}/r{attempt}" for at in lacking]
        more = await ep.generate([asks[at] for at in lacking], again=paths)
        for at, one in zip(lacking, more, strict=True):
            found[at] = None if one.finish in SILENT else read(one.text)
            said[at] = said[at] if one.finish in SILENT else one
            ep.note(unreadable=found[at] is None)
    return said, found


async def leanings(ep: Episode, prompts: Sequence[str], yes: str, no: str, role: str = POLICY) -> list[float | None]:
    """Return, behind each prompt, the likelihood of one reply among two; None where the engine refuses one."""
    said = await ep.likelihood([(prompt, reply) for prompt in prompts for reply in (yes, no)], role)
    return [
        None if one is None or other is None else sigmoid(one[0] - other[0])
        for one, other in zip(said[::2], said[1::2], strict=True)
    ]


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(min(700.0, -value)))


def _warm(ep: Episode, ask: Ask) -> bool:
    return (ep.params.temperature if ask.temperature is None else ask.temperature) > 0


# -- reading -----------------------------------------------------------------------------------------------------------


def tagged(text: str, tag: str) -> str | None:
    """Return what stands in the last ``<tag>...</tag>`` of a text, None where there is none or nothing in it."""
    return between(text, f"<{tag}>", f"</{tag}>")


def between(text: str, opening: str, closing: str) -> str | None:
    """Return what stands between two marks, where they stand last; None where they don't, or nothing is between."""
    before, closed, _ = text.rpartition(closing)
    _, opened, inside = before.rpartition(opening)
    return inside.strip() or None if closed and opened else None


def last_object(text: str) -> dict[str, Any] | None:
    """Return the last JSON object of a text that is in no other one."""
    found, at = None, text.find("{")
    while at >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found = value
        at = text.find("{", end)
    return found


def listed(text: str) -> list[str]:
    """Return a text's lines without what numbers them, and without empty ones."""
    lines = [re.sub(r"^\s*(?:[-*•]|\(?\d{1,2}[.):])\s*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def said_last(text: str, words: Sequence[str]) -> str | None:
    """Return which of some words stands last in a text, in any case of letters."""
    found = re.findall(rf"(?i)\b({'|'.join(map(re.escape, words))})\b", text)
    return next((word for word in words if found and word.casefold() == found[-1].casefold()), None)


def options(text: str) -> dict[str, str]:
    """Return the choices that a problem lists, by their letters: ``(A) four``, ``B. five``, a line each."""
    found = dict(re.findall(r"(?m)^[ \t]*\(?([A-Z])[).:][ \t]+(\S.*?)[ \t]*$", text))
    return found if len(found) > 1 else {}


def spoken_part(text: str) -> str:
    """Return what follows the last mark that closes a thought; the whole text where there is none."""
    ends = [place + len(closing) for _, closing in TAGS if (place := text.rfind(closing)) >= 0]
    return text[max(ends, default=0) :].strip()


# -- ends --------------------------------------------------------------------------------------------------------------


def there(nodes: Sequence[Node]) -> list[Node]:
    """Return nodes that say something."""
    return [node for node in nodes if node.finish not in SILENT]


def continued(node: Node, said: Said) -> Node:
    """Return a node and what was said behind it, ended as that was."""
    return replace(
        Node.whole(said),
        text=node.text + said.text,
        steps=node.steps + 1,
        tokens=node.tokens + said.tokens,
        sum_logprob=None,
        step_logprob=None,
        prompt_tokens=node.prompt_tokens or said.prompt_tokens,
        call=said.call or node.call,
    )


def only(node: Node, ended_by: str = "done") -> Result:
    """Return the end of an episode that comes to one text; one that says nothing is found by nobody."""
    says = node.finish not in SILENT
    return Result((node,), 0 if says else None, ended_by if says else "nothing")
