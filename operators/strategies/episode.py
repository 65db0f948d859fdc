"""An episode: one run of a strategy for one problem, which asks its engines by groups of calls.

A group's calls are issued together and awaited together; nothing is decided before the whole group is there. Every call
has a path (branch, group, slot) and a seed of its own, so what is asked never depends on timing. Answers that the
journal has are given without asking.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import xxhash

from operators.engine import Engine, EngineError, Request, Scored, ScoreRequest
from operators.strategies.calls import Call, digest_of
from operators.strategies.replies import call_of, refused, said_of, score_of
from operators.strategies.setting import Caps, Setting
from operators.strategies.words import POLICY, Ask, Bill, Said, refuse_twins
from schemas.conversation import Turn
from schemas.engine import SamplingParams
from schemas.identity import sample_seed
from schemas.later import asyncio

Outcome = TypeVar("Outcome")
SCORE_PATH = "s/"
"""Scores are kept by what is scored: the same text is scored once in an episode, whatever branch asks."""


class Episode:
    """What a strategy has in its hands. Nothing else may be used.

    Attributes:
        bill: what the calls so far took; in a branch, what was taken at the fork and its own since.
        notes: numbers for the episode's facts.
        values: what the scorer said of the text up to a call, by the call's path.
        capped: whether a group wasn't issued, because a cap would have been passed.
    """

    def __init__(self, setting: Setting, caps: Caps | None = None, branch: str = "") -> None:
        self.setting = setting
        self.branch = branch
        self.bill = Bill()
        self.notes: dict[str, float] = {}
        self.values: dict[str, float] = {}
        self.capped = False
        self._caps = caps or Caps()
        self._group = 0
        self.memo: dict[str, float | None] = {}
        """What scorers made of several answers, by what was scored."""
        self._anew = False
        """Whether an answer is other than it was when the calls of later groups were made: these are asked anew."""
        self._scoring: dict[str, asyncio.Future[Call]] = {}
        self._billed: dict[str, Bill] = {}
        """What was scored, and is in the bill."""
        self._wrote: dict[str, Bill] = {}
        """Of completions, by who wrote them (``_payee``)."""
        self._read: dict[str, str] = {}
        """Who scored, by what was scored."""
        self._prompt_tokens: dict[tuple[str, str], int] = {}

    @property
    def problem(self) -> Mapping[str, Any]:
        return self.setting.problem

    @property
    def index(self) -> int:
        """The episode's number."""
        return self.setting.index

    @property
    def seed(self) -> int:
        return self.setting.seed

    @property
    def params(self) -> SamplingParams:
        """The sampling stage's parameters."""
        return self.setting.params

    @property
    def prompt(self) -> str:
        """The problem's prompt, rendered for the policy."""
        return self.setting.prompt

    def engine(self, role: str) -> Engine:
        """Return who plays a role: the policy where nobody else was given."""
        return self.setting.engines.get(role) or self.setting.engines[POLICY]

    @property
    def by_role(self) -> dict[str, Bill]:
        """The whole episode's bill by whose engine was paid: a role that nobody else was given for is the policy's."""
        found = dict(self._wrote)
        for key, bill in self._billed.items():
            payee = self._read[key]
            found[payee] = found.get(payee, Bill()) + bill
        return found

    def _payee(self, role: str) -> str:
        return role if self.setting.engines.get(role) else POLICY

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The conversation that asks the problem."""
        return self.setting.turns

    async def render(self, messages: Sequence[Turn], role: str = POLICY, tools: Sequence[Turn] = ()) -> str:
        """Return the prompt of a conversation; nothing is asked.

        Args:
            tools: those that the model may call, as OpenAI describes them.
        """
        return await self.engine(role).render(messages, chat=self.setting.chat, tools=tools)

    def uniform(self, name: str) -> float:
        """Return a number in [0, 1) that depends on the episode, the branch and the name alone."""
        return (xxhash.xxh3_64_intdigest(f"{self.seed}/{self.branch}{name}".encode()) >> 11) * 2.0**-53

    def note(self, **numbers: float) -> None:
        """Add to the numbers that the episode's facts have; the same name twice is summed."""
        for name, value in numbers.items():
            self.notes[name] = self.notes.get(name, 0) + value

    # -- completions -----------------------------------------------------------------------------------------------

    async def generate(
        self, asks: Sequence[Ask], slots: Sequence[int] | None = None, again: Sequence[str] | None = None
    ) -> list[Said]:
        """Ask for completions as one group; return them in the order asked, ``n`` of each.

        Where a cap of the episode would be passed nothing is asked, and all that is said is ``finish="cap"``.

        Args:
            slots: of the asks in the group; by default their places.
            again: the paths of calls that repeat calls of an earlier group (``Said.call`` and more); such a group takes
                no number.

        Raises:
            EngineError: a fault that may pass; the episode is played again later.
            BadInput: the same would be asked twice at temperature 0.
        """
        refuse_twins(asks, self.params.temperature)
        paths = again or [f"{self.branch}{self._group}.{slot}" for slot in slots or range(len(asks))]
        self._group += again is None
        anew = self._anew
        if not await self._affords(asks):
            return [Said("", "cap") for ask in asks for _ in range(ask.n)]
        calls = [self._generated(path, ask, anew) for path, ask in zip(paths, asks, strict=True)]
        return [said for answers in await _all(calls) for said in answers]

    async def _affords(self, asks: Sequence[Ask]) -> bool:
        worst = Bill(len(asks))
        for ask in asks if self._caps.tokens is not None else ():
            prompt = await self.tokens_of(ask.prompt or self.prompt, ask.role)
            prompt += ask.prefix_tokens or (await self.tokens_of(ask.prefix, ask.role) if ask.prefix else 0)
            worst += Bill(0, ask.n * prompt, 0, ask.n * (ask.max_tokens or self.params.max_tokens))
        return self.allows(worst)

    def allows(self, worst: Bill) -> bool:
        """Whether the episode's caps allow calls that take so much at most; that they didn't is kept (``capped``)."""
        then, caps = self.bill + worst, self._caps
        pairs = ((caps.calls, then.calls), (caps.tokens, then.tokens), (caps.scores, then.passes))
        fits = all(cap is None or most <= cap for cap, most in pairs)
        self.capped |= not fits
        return fits

    async def tokens_of(self, prompt: str, role: str = POLICY) -> int:
        """Return how many tokens a text has."""
        if (role, prompt) not in self._prompt_tokens:
            self._prompt_tokens[role, prompt] = await self.engine(role).count_tokens(prompt)
        return self._prompt_tokens[role, prompt]

    async def _generated(self, path: str, ask: Ask, anew: bool) -> list[Said]:
        request = self._request(path, ask)
        asked = digest_of(
            ask.role, "generate", request.prompt, request.prefix, request.params.model_dump(mode="json"), ask.n,
            request.seed,
        )  # fmt: skip

        async def answered() -> list[Call]:
            try:
                calls = [call_of(one) for one in await self.engine(ask.role).generate(request)]
            except EngineError as error:
                if error.transient:
                    raise
                calls = [refused(str(error)) for _ in range(ask.n)]
            return [
                replace(
                    call,
                    call=path if ask.n == 1 else f"{path}:{child}",
                    parent_call=ask.parent,
                    role=ask.role,
                    seed=request.seed,
                    prompt_hash=digest_of(request.prompt),
                    prefix_length=len(request.prefix),
                    lead=self._lead(ask),
                )
                for child, call in enumerate(calls)
            ]

        calls = await self.once(path, asked, answered, anew)
        took = Bill(
            1,
            sum(call.prompt_tokens for call in calls),
            sum(call.cached_prompt_tokens for call in calls),
            sum(call.completion_tokens for call in calls),
        )
        self.pay(took, ask.role)
        return [said_of(call) for call in calls]

    def pay(self, took: Bill, role: str = POLICY) -> None:
        """Put what a call took in the bill."""
        payee = self._payee(role)
        self.bill += took
        self._wrote[payee] = self._wrote.get(payee, Bill()) + took

    def begin_group(self) -> tuple[str, bool]:
        """Return the path of the one call of a group, and whether it is to be asked anew."""
        path, anew = f"{self.branch}{self._group}.0", self._anew
        self._group += 1
        return path, anew

    async def once(
        self, path: str, asked: str, answer: Callable[[], Awaitable[list[Call]]], anew: bool = False
    ) -> list[Call]:
        """Return the answers that the journal has to a call; else those of ``answer``, which are kept.

        Args:
            asked: the digest of what is asked.
            anew: whatever the journal has.
        """
        calls, attempt = self._known(path, asked, anew)
        if calls is None:
            calls = [replace(one, attempt=attempt, branch=self.branch, digest=asked) for one in await answer()]
            self.setting.journal.note(calls)
        return calls

    def name_of(self, path: str) -> str:
        """Return what a call is called in requests and errors."""
        return f"{self.problem['problem_key']}/{self.index}/{path}"

    def _request(self, path: str, ask: Ask) -> Request:
        own = ask.prompt is None
        changes: dict[str, Any] = {"stop": ask.stop, "json_schema": ask.json_schema, "regex": ask.regex}
        changes["keep_stop"] = bool(ask.stop) and ask.keep_stop
        changes["max_tokens"] = max(1, ask.max_tokens or self.params.max_tokens)
        changes |= {} if ask.temperature is None else {"temperature": ask.temperature}
        changes |= {} if ask.top_p is None else {"top_p": ask.top_p}
        return Request(
            ask.prompt if ask.prompt is not None else self.prompt,
            self.params.model_copy(update=changes),
            sample_seed(self.seed, path, 0),
            ask.n,
            self.name_of(path),
            self.problem["problem_id"],
            (self.setting.lead if own else "") + ask.prefix,
        )

    def _lead(self, ask: Ask) -> str:
        """Return the text between the parent's and what is written now."""
        if ask.parent is None:
            return ask.prefix
        parents = self.setting.journal.find(ask.parent.partition(":")[0])
        before = next((call for call in parents if call.call == ask.parent), None)
        if before is None:
            return ask.prefix
        at = ask.prefix.rfind(before.text)
        return ask.prefix if at < 0 else ask.prefix[at + len(before.text) :]

    def _known(self, path: str, asked: str, anew: bool) -> tuple[list[Call] | None, int]:
        """Return the answers that the journal has, or None and the attempt that is to be made."""
        found = self.setting.journal.find(path)
        if not found:
            return None, 0
        if found[0].digest == asked and not anew:
            return found, found[0].attempt
        self._anew = True
        return None, found[0].attempt + 1

    # -- scores ----------------------------------------------------------------------------------------------------

    async def score(self, requests: Sequence[ScoreRequest], role: str = POLICY) -> list[Scored | None]:
        """Return the scores of texts, asked as one group; None where a text is refused, or a cap doesn't allow it.

        The same text is scored once in an episode.

        Raises:
            EngineError: a fault that may pass; the episode is played again later.
        """
        keys = [digest_of(role, one.kind, one.prompt, one.completion, one.step_tag) for one in requests]
        fresh = {key: one for key, one in zip(keys, requests, strict=True) if key not in self._billed}
        allowed = await self._affords_scores(fresh.values(), role)
        asked = {key: one for key, one in zip(keys, requests, strict=True) if allowed or key in self._billed}
        calls = dict(zip(asked, await _all([self._scored(one, role, key) for key, one in asked.items()]), strict=True))
        for key in fresh.keys() & calls.keys():
            self._billed[key] = Bill(passes=1, scorer_tokens=calls[key].prompt_tokens)
            self.bill += self._billed[key]
            self._read[key] = self._payee(role)
        return [score_of(calls[key]) if key in calls else None for key in keys]

    async def _affords_scores(self, requests: Collection[ScoreRequest], role: str) -> bool:
        counted = requests if self._caps.tokens is not None else ()
        read = [await self.tokens_of(one.prompt + one.completion, role) for one in counted]
        return self.allows(Bill(passes=len(requests), scorer_tokens=sum(read)))

    async def _scored(self, request: ScoreRequest, role: str, asked: str) -> Call:
        """Return the call that scored a text; branches that ask for the same one share it."""
        if asked not in self._scoring:
            self._scoring[asked] = asyncio.ensure_future(self._asked_for_score(request, role, asked))
        return await self._scoring[asked]

    async def _asked_for_score(self, request: ScoreRequest, role: str, asked: str) -> Call:
        path, kind = f"{SCORE_PATH}{asked}", "likelihood" if request.kind == "likelihood" else "score"
        call = Call(path, 0, None, "", role, kind, asked, None, digest_of(request.prompt), "", len(request.completion))

        async def answered() -> list[Call]:
            try:
                scored = await self.engine(role).score(replace(request, request_id=self.name_of(path)))
            except EngineError as error:
                if error.transient:
                    raise
                return [replace(call, status="error", error=str(error))]
            told = {"prompt_tokens": scored.prompt_tokens, "cached_prompt_tokens": scored.cached_prompt_tokens}
            return [replace(call, value=scored.score, values=scored.steps, **told)]

        return (await self.once(path, asked, answered))[0]

    async def likelihood(
        self, pairs: Sequence[tuple[str, str]], role: str = POLICY
    ) -> list[tuple[float, tuple[float, ...]] | None]:
        """Return, of each (prompt, text), the sum of the text's log-probs and each token's; None where refused."""
        found = await self.score([ScoreRequest(prompt, text, "likelihood") for prompt, text in pairs], role)
        return [None if one is None else (one.score, one.steps) for one in found]

    # -- tools -----------------------------------------------------------------------------------------------------

    async def act(self, kind: str, asked: Sequence[Any], do: Callable[[int], str]) -> list[str]:
        """Do what no engine does, as one group, one after the other in a thread; return what each brought.

        What the journal has isn't done again.

        Args:
            kind: one of ``schemas.episodes.CALL_KINDS``.
            asked: what tells each apart, as JSON values; also those that came before it, where these matter.
            do: does the one of a place. What it raises ends the episode.
        """
        group, anew = self._group, self._anew
        self._group += 1
        said: list[str] = []
        for slot, one in enumerate(asked):
            path, digest = f"{self.branch}{group}.{slot}", digest_of(kind, one)

            async def done(path: str = path, slot: int = slot) -> list[Call]:
                text = await asyncio.to_thread(do, slot)
                return [Call(path, 0, None, "", kind, kind, "", text=text, finish="stop")]

            said.append((await self.once(path, digest, done, anew))[0].text)
        return said

    # -- branches --------------------------------------------------------------------------------------------------

    async def together(self, branches: Mapping[str, Callable[[Episode], Awaitable[Outcome]]]) -> dict[str, Outcome]:
        """Play branches side by side, each with call counters of its own; return their results by name.

        What is left of the episode's caps is split evenly among them.
        """
        before = self.bill
        caps = self._caps.share(before, max(1, len(branches)))
        forks = {name: Episode(self.setting, caps, f"{self.branch}{name}/") for name in branches}
        for fork in forks.values():
            fork.bill, fork.notes, fork._anew = before, self.notes, self._anew
            fork.values, fork._wrote, fork._read = self.values, self._wrote, self._read
            fork._scoring, fork._billed, fork.memo = self._scoring, dict(self._billed), dict(self.memo)
        found = await _all([play(forks[name]) for name, play in branches.items()])
        known = set(self._billed)
        for fork in forks.values():
            own = {key: bill for key, bill in fork._billed.items() if key not in known}
            self.bill += fork.bill - before - sum(own.values(), Bill())
            self._billed |= own
            self.capped |= fork.capped
            self._anew |= fork._anew
        self.bill += sum((bill for key, bill in self._billed.items() if key not in known), Bill())
        return dict(zip(branches, found, strict=True))


async def _all(coroutines: Sequence[Awaitable[Outcome]]) -> list[Outcome]:
    """Await all; the first fault ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
