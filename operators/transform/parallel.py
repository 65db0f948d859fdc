"""Parallel structure in traces (Yang et al. 2025, "Multiverse"): what could be thought at once is marked as such.

    <Parallel><Goal><Outline>1: ...</Outline><Outline>2: ...</Outline></Goal>
    <Path>1: ...</Path><Path>2: ...</Path>
    <Conclusion>...</Conclusion></Parallel>

An engine that knows the tags forks at the Goal, follows the Paths side by side, and joins them at the Conclusion.
"""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field, field_validator
from rapidfuzz.distance import Levenshtein

from operators.engine import Engine, Request
from operators.text import fill
from operators.transform.transformation import AskingTransformation, Change, Row
from schemas.identity import sample_seed

TAGS = ("Parallel", "Goal", "Outline", "Path", "Conclusion")
_TAG = re.compile(rf"<(/?)({'|'.join(TAGS)})>")
_ALIKE = re.compile(rf"(?i)<\s*/?\s*(?:{'|'.join(TAGS)})\b[^>]*>")
"""What somebody meant as a tag, right or not."""
_INSIDE: dict[str, tuple[str, ...]] = {
    "": ("Parallel",),
    "Parallel": ("Goal", "Path", "Conclusion"),
    "Goal": ("Outline",),
    "Outline": (),
    "Path": ("Parallel",),
    "Conclusion": (),
}
_REWRITE = (
    "Rewrite this reasoning so that what doesn't depend on each other is marked as parallel. Keep its words; only add "
    "the tags and outlines. Use this structure wherever two or more parts are independent:\n\n"
    "<Parallel>\n<Goal>\n<Outline>1: what the first part finds</Outline>\n<Outline>2: what the second part finds"
    "</Outline>\n</Goal>\n<Path>1: the first part's reasoning</Path>\n<Path>2: the second part's reasoning</Path>\n"
    "<Conclusion>what follows from both</Conclusion>\n</Parallel>\n\nEvery Outline has one Path, in the same order. "
    "What is not parallel stays outside of the tags. Write nothing but the rewritten reasoning.\n\nReasoning:\n{trace}"
)


class SynthesizeParallel(AskingTransformation):
    """Ask a model to mark the parallel parts of each trace, and keep what is well-formed and close to the original.

    A trace that has tags already is checked without asking. Close is a normalised Levenshtein distance of at most
    ``max_distance`` between ``sequential(rewritten)`` and the original; the answer must stay the same as well. The
    lineage tells the distance, or what was wrong with the last attempt.
    """

    version: ClassVar[int] = 1
    attempts: int = Field(default=2, ge=1)
    """Rewritings to ask for; the first that passes is kept."""
    max_distance: float = Field(default=0.4, ge=0.0, le=1.0)
    """The largest normalised edit distance between the rewritten trace and the original."""
    template: str = _REWRITE
    """A template, filled in with {trace}."""
    max_tokens: int = Field(default=4096, ge=1)
    """The most tokens of the rewritten trace."""

    @field_validator("template")
    @classmethod
    def _has_place(cls, value: str) -> str:
        if "{trace}" not in value:
            raise ValueError("the template must contain {trace}")
        return value

    async def change(self, engine: Engine, row: Row) -> Change:
        text: str = row["text"]
        if _ALIKE.search(text):
            return Change(unchanged=check(text) or "it is parallel already")
        [trace] = self.traces([row])
        thought = "".join(trace.steps) if trace.before else text
        turns = [{"role": "user", "content": fill(self.template, {"trace": thought})}]
        prompt = await engine.render(turns, chat=self.chat)
        fault: str | None = None
        for attempt in range(self.attempts):
            name = f"{row['problem_key']}/{row['sample_index']}"
            seed = sample_seed(self.seed, name, attempt)
            [completion] = await engine.generate(Request(prompt, self.params, seed, 1, f"{name}/{attempt}"))
            marked = completion.text.strip()
            fault = self._fault(marked, thought, completion.finish_reason)
            if fault is None:
                whole = trace.before + marked + trace.after if trace.before else marked
                if self.keys([whole]) == self.keys([text]):
                    return Change(whole, note={"distance": round(distance(marked, thought), 4), "attempt": attempt})
                fault = "the answer would change"
        return Change(None, fault, {"attempts": self.attempts})

    def _fault(self, marked: str, thought: str, finish_reason: str) -> str | None:
        if finish_reason == "length":
            return f"the rewritten trace has more than {self.max_tokens} tokens"
        fault = check(marked)
        if fault is not None:
            return fault
        if "<Parallel>" not in marked:
            return "nothing in it is marked as parallel"
        apart = distance(marked, thought)
        if apart > self.max_distance:
            return f"too far from the original: a distance of {apart:.2f}, at most {self.max_distance:g} is allowed"
        return None


def check(text: str) -> str | None:
    """Return what is wrong with a text's parallel structure, None where it is well-formed.

    Tags stand only in ``<Parallel>``, which has one Goal, first, with Outlines; then Paths, one for each Outline, which
    may be parallel inside; and one Conclusion, last. Between these is nothing but white space.
    """
    odd = next((match[0] for match in _ALIKE.finditer(text) if not _TAG.fullmatch(match[0])), None)
    if odd is not None:
        return f"{odd} isn't one of the tags"
    opened: list[tuple[str, list[str]]] = [("", [])]
    end = 0
    for tag in _TAG.finditer(text):
        closes, name = tag[1] == "/", tag[2]
        here, children = opened[-1]
        if here == "Parallel" and text[end : tag.start()].strip():
            return f"text between the parts of a Parallel: {text[end : tag.start()].strip()[:40]!r}"
        end = tag.end()
        if not closes:
            if name not in _INSIDE[here]:
                return f"<{name}> can't stand {f'in <{here}>' if here else 'outside of <Parallel>'}"
            children.append(name)
            opened.append((name, []))
            continue
        if here != name:
            return f"</{name}> closes nothing" if not here else f"</{name}> where </{here}> is due"
        opened.pop()
        fault = _complete(name, children, opened[-1][1])
        if fault is not None:
            return fault
    return f"<{opened[-1][0]}> isn't closed" if len(opened) > 1 else None


def _complete(name: str, children: list[str], siblings: list[str]) -> str | None:
    """Return what an element that ends lacks. A Goal leaves its number of Outlines among its siblings."""
    if name == "Goal":
        if not children:
            return "a Goal without an Outline"
        siblings[-1] = f"Goal {len(children)}"
    if name != "Parallel":
        return None
    goals = [child for child in children if child.startswith("Goal")]
    if len(goals) != 1 or children[0] != goals[0]:
        return "a Parallel needs one Goal, first"
    if children.count("Conclusion") != 1 or children[-1] != "Conclusion":
        return "a Parallel needs one Conclusion, last"
    outlines, paths = int(goals[0].split()[1]), children.count("Path")
    return None if outlines == paths else f"{outlines} Outlines but {paths} Paths"


def sequential(text: str) -> str:
    """Return a text without its tags, as it reads from top to bottom."""
    return re.sub(r"\n{3,}", "\n\n", _TAG.sub("", text)).strip()


def distance(marked: str, original: str) -> float:
    """Return the normalised Levenshtein distance, 0 to 1, of a text without its tags from the original."""
    return Levenshtein.normalized_distance(sequential(marked), original.strip())
