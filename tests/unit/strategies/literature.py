"""One configuration of every form of the strategies that talk: revisions, debates, threads, cascades and their like."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from operators.engine import Completion, EngineError, Request, Scored, ScoreRequest
from operators.strategies.setting import Setting
from schemas.conversation import Turn
from tests.unit.strategies.playing import SMALL, Wild, setting

SAID = (
    "sure", "B", "(A) four\n(B) five", "so \\boxed{7}", "\\boxed{8}", "1. A b\n2) B\n- C", "nothing", "a\nb\n\nc d",
    "NO MISTAKE", "speech <reasoning>why not</reasoning> <bet>70</bet>", "<winner>opposition</winner>", "<bet>x</bet>",
    "<spawn><thread>a b</thread><thread>c</thread><thread>c</thread></spawn> then", "<spawn>no</spawn>", "<results> a",
    "<Parallel><Goal><Outline>1: a</Outline><Outline>2: b</Outline></Goal> and", "well</Path> more", "it is.\n\nNext",
    "I think # no", "Approach 1: so \\boxed{7}\nApproach 2: so \\boxed{8}\nApproach 3: \\boxed{7}", "entailed",
    '{"final_answer": "7", "a": [1]}', '{"solutions": "', "2 3 1 1 2 3 3", "80", "yes", "no", "The answer is 7",
    "7\nit is 7", "8\nso it is", "<think>t</think> 7", "DONE", "",
    "<thought>t</thought> <reflection>r</reflection> <answer>\\boxed{7}</answer>",
)  # fmt: skip
"""What models say to strategies: all that any of them reads, and what none can."""


class Babbling(Wild):
    """Says anything, whatever is asked; a stop string that it meets ends what it says."""

    def _one(self, request: Request, read: int, draws: random.Random) -> Completion:
        most, params = request.params.max_tokens, request.params
        if self.most:
            text = " ".join(draws.choice("ab") for _ in range(most)) + " "
            if params.stop and draws.random() < 0.5:
                text, stop = "", draws.choice(params.stop)
                return Completion(text + stop * params.keep_stop, "stop_string", read, 1, stop=stop)
            return Completion(text, "length", read, most)
        text, finish, stop = " ".join(draws.choice(SAID) for _ in range(draws.randrange(1, 3))), "stop", None
        met = min((mark for mark in params.stop if mark in text), key=text.index, default=None)
        if met is not None:
            text, finish, stop = text[: text.index(met)] + met * params.keep_stop, "stop_string", met
        words = text.split()
        if len(words) > most:
            text, finish, stop = " ".join(words[:most]), "length", None
        tokens = min(most, max(1, len(words)))
        return Completion(text, finish, read, tokens, 0, sum_logprob=-draws.random() * tokens, stop=stop)


KINDS: list[dict[str, Any]] = [
    {"name": "revise"},
    {"name": "revise", "chains": 2, "length": 3, "feedback": "critic", "stop": "clean", "select": "majority"},
    {"name": "revise", "chains": 2, "length": 3, "context": 1, "stop": "same_twice", "select": "best", "every": True},
    {"name": "force"},
    {"name": "force", "waits": 0, "min_think": 9, "max_think": 14, "answer_tokens": 4},
    {"name": "early", "rule": SMALL},
    {"name": "early", "rule": SMALL, "inject": True, "from_step": 1, "in_row": 1, "sure": 0.1,
     "reflection": "(?i)[ab]"},
    {"name": "cascade"},
    {"name": "cascade", "by": "score", "large_samples": 2, "show_draft": True, "threshold": 0.7, "select": "best"},
    {"name": "step_cascade", "rule": SMALL},
    {"name": "step_cascade", "rule": SMALL, "scorer": "certainty", "threshold": 0.3},
    {"name": "debate"},
    {"name": "debate", "agents": 1, "rounds": 3},
    {"name": "bets"},
    {"name": "bets", "mode": "public", "judges": 0},
    {"name": "aggregate", "widths": (4, 3, 2), "show": 2},
    {"name": "aggregate", "widths": (3, 1), "show": None, "select": "best", "scorer": "random"},
    {"name": "spawn", "max_children": 2, "max_rounds": 2, "child_tokens": 8},
    {"name": "spawn", "template": "{prompt}", "child_template": "{prompt} {message}", "returns": "answer"},
    {"name": "multiverse"},
    {"name": "multiverse", "depth": 1, "most": 2},
    {"name": "workers", "turns": 3, "step_tokens": 6, "check_every": 10},
    {"name": "workers", "names": ("A", "B", "C"), "turns": 6, "chunk": 2, "finish_tokens": 0},
    {"name": "div_se"},
    {"name": "idiv_se"},
    {"name": "iep", "step_tokens": 8},
    {"name": "iep", "candidates": 2, "likelihoods": True, "with_cot": True},
    {"name": "syzygy"},
    {"name": "syzygy", "split": True, "solutions": 3},
    {"name": "thinksum", "choices": ("a", "b c"), "examples": 3},
    {"name": "thinksum", "choices": ("a", "b c"), "examples": 2, "by": "ratio", "per_token": True},
    {"name": "thinksum", "choices": ("a", "b"), "examples": 2, "by": "truth"},
    {"name": "thinksum"},
    {"name": "reflect"},
    {"name": "reflect", "rounds": 2, "every": True, "reviews": True, "first": False},
    {"name": "oversample", "draws": 8, "keep": 3},
    {"name": "hedged"},
    {"name": "x_mbr"},
    {"name": "x_mbr", "candidates": 3, "utility": "chrf", "evidence_weight": 1.0, "greedy": False},
    {"name": "x_mbr", "candidates": 1, "evidence": 0, "utility": "exact"},
    {"name": "prompt_choice", "prompts": ("{prompt} now", "Think: {prompt}"), "by": "likelihood"},
    {"name": "prompt_choice", "prompts": ("{prompt} now", "Think: {prompt}"), "by": "probe"},
    {"name": "prompt_choice", "prompts": ("{prompt} now", "Think: {prompt}"), "labelled": (("Q", 1), ("no", 0))},
    {"name": "ab_mcts", "budget": 5, "scorer": "random"},
    {"name": "rstar", "rollouts": 3, "depth": 2, "votes": 3, "step_tokens": 6},
    {"name": "rstar", "rollouts": 4, "depth": 3, "votes": 2, "steps_wide": 2, "step_tokens": 6, "mutual": False},
    {"name": "stoc_tot", "step_tokens": 8},
    {"name": "stoc_tot", "step_tokens": 8, "select": "draw", "by": "likelihood", "depth": 2},
    {"name": "clash", "entailed": 0.0, "passage_tokens": 8},
    {"name": "clash", "entailed": 0.1, "abstains": "never", "conditions": ("single", "1:2")},
    {"name": "rlot", "max_actions": 3, "parts": 2, "step_tokens": 6},
    {"name": "rlot", "max_actions": 4, "parts": 3, "step_tokens": 6, "scorer": "prm"},
]  # fmt: skip
"""Each strategy, in each of its forms."""


class Script(Wild):
    """Says what a function makes of a request; a stop string that it meets ends what it says.

    Attributes:
        requests: in the order in which they came.
        likely: the log-probs of texts by what they end with.
    """

    def __init__(self, say: Callable[[Request], str], likely: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.say, self.likely = say, dict(likely or {})
        self.requests: list[Request] = []

    async def render(self, messages: Sequence[Turn], **_: Any) -> str:
        if [turn["content"] for turn in messages] == ["Q"]:
            return "Q"
        return "".join(f"<{turn['role']}>{turn['content']}" for turn in messages)

    def _one(self, request: Request, read: int, draws: random.Random) -> Completion:
        self.requests.append(request)
        text, finish, params, stop = self.say(request), "stop", request.params, None
        met = min((mark for mark in params.stop if mark in text), key=text.index, default=None)
        if met is not None:
            text, finish, stop = text[: text.index(met)] + met * params.keep_stop, "stop_string", met
        words = text.split()
        if len(words) > params.max_tokens:
            text, finish, stop = " ".join(words[: params.max_tokens]), "length", None
        tokens = min(params.max_tokens, len(words))
        return Completion(text, finish, read, tokens, sum_logprob=-1.0 * tokens, stop=stop)

    async def score(self, request: ScoreRequest) -> Scored:
        known = [value for text, value in self.likely.items() if (request.prompt + request.completion).endswith(text)]
        if not known:
            raise EngineError("not scripted")
        return Scored(known[0], (known[0],), len((request.prompt + request.completion).split()))


def scripted(
    say: Callable[[Request], str], likely: Mapping[str, float] | None = None, **more: Any
) -> tuple[Setting, Script]:
    """Return an episode's setting with one engine for all roles, and the engine."""
    engine = Script(say, likely)
    at = setting(engine, **{"max_tokens": 400, **more})
    return replace(at, engines=dict.fromkeys(("policy", "critic", "large", "scorer"), engine)), engine


def in_turn(*texts: str) -> Callable[[Request], str]:
    """Return a function that says one text after the other, whatever is asked."""
    left = list(texts)
    return lambda _: left.pop(0)
