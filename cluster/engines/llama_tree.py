"""llama.cpp without its server: logits and hidden states of next tokens, for searches by tokens (package ``cyllama``).

The server that ``LlamaCppEngine`` speaks to gives no logits, and computes a text again whenever its hidden states are
asked for. Here llama.cpp's own calls are made: the sequences of a search share the memory of what they have in common
(the prompt is computed once, and so is each token that several go on from), and each round decodes one token of all of
them in one batch. One search is carried out at a time, with all threads.
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from cluster.engines.llama_memory import Memory, Singles
from cluster.engines.never_sent import NeverSent
from cluster.engines.token_tree import Next, grow
from operators.engine import EngineError
from operators.token_tree import Tree, TreeRequest
from schemas.errors import BadInput


class Head:
    """A head on the last hidden state: ``weight`` (vocabulary, size), ``bias`` and ``seen`` (vocabulary)."""

    def __init__(self, path: Path, vocabulary: int, size: int) -> None:
        try:
            with np.load(path, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
        except (OSError, ValueError, TypeError, EOFError, BadZipFile, zlib.error) as error:
            raise BadInput(f"'{path}' isn't a file of NumPy arrays: {error}") from error
        shapes = {"weight": (vocabulary, size), "bias": (vocabulary,), "seen": (vocabulary,)}
        for name, array in arrays.items():
            if name not in shapes or array.shape != shapes[name]:
                raise BadInput(f"'{path}' has '{name}' {array.shape}; for this model it takes {shapes}")
        if "weight" not in arrays:
            raise BadInput(f"'{path}' has no 'weight'; for this model it takes {shapes}")
        odd = [name for name, array in arrays.items() if array.dtype.kind not in "fiub" or not np.isfinite(array).all()]
        if odd:
            raise BadInput(f"'{path}' has numbers in '{odd[0]}' that aren't finite; what may not be taken isn't 'seen'")
        self._weight = arrays["weight"].astype(np.float32)
        self._bias = arrays.get("bias", np.zeros(vocabulary)).astype(np.float32)
        self._unseen = ~arrays.get("seen", np.ones(vocabulary)).astype(bool)

    def rewards(self, hidden: Singles) -> Singles:
        """Return the rewards of all next tokens, given hidden states (sequences, size)."""
        found = hidden @ self._weight.T + self._bias
        found[:, self._unseen] = np.nan
        return found


class LlamaTrees:
    """A model that searches by tokens, with one file of rewards at a time; see ``TokenModel``. Not for two threads.

    Args:
        context: tokens that a prompt and a completion may have together.
        spell: says what tokens are in letters, as they stand in a text. The binding's own way tidies blanks before
            marks, so that a text would be another one than its tokens.
    """

    def __init__(self, path: Path, context: int, threads: int, spell: Callable[[Sequence[int]], str]) -> None:
        self._path, self._context, self._threads = path, context, threads
        self._spell = spell
        self._rewards: str | None = None
        self._policy: Memory | None = None
        self._scorer: Memory | None = None
        self._head: Head | None = None
        self._slots: list[int] = []
        self._lengths: list[int] = []

    def grow(self, request: TreeRequest, stopped: Callable[[], bool] = lambda: False) -> Tree:
        """Carry out a search (``cluster.engines.token_tree``).

        Raises:
            BadInput: a file can't be read, or isn't one for this model.
            EngineError: the prompt leaves no room for ``max_tokens``.
        """
        self._open(request.rewards)
        return grow(self, request, stopped)

    def _open(self, rewards: str) -> None:
        if rewards == self._rewards:
            return
        self.close()
        path = Path(rewards)
        self._policy = Memory(self._path, self._threads, hidden=path.suffix == ".npz")
        vocabulary = self._policy.vocabulary
        self.ends = [token for token in range(vocabulary.n_vocab) if vocabulary.is_eog(token)]
        if path.suffix == ".npz":
            self._head = Head(path, vocabulary.n_vocab, self._policy.model.n_embd)
        elif rewards:
            self._scorer = Memory(path, self._threads)
            if self._scorer.tokens != self._policy.tokens:
                raise BadInput(f"'{path}' has another vocabulary than '{self._path}': it can't reward its tokens")
        self._rewards = rewards

    @property
    def _memories(self) -> list[Memory]:
        return [memory for memory in (self._policy, self._scorer) if memory is not None]

    @property
    def computed(self) -> int:
        return 0 if self._policy is None else self._policy.computed

    @property
    def scorer_read(self) -> int:
        return 0 if self._scorer is None else self._scorer.computed

    def begin(self, request: TreeRequest) -> tuple[int, Next]:
        assert self._policy is not None
        tokens = self._policy.vocabulary.tokenize(request.prompt + request.prefix, True, True)
        if not tokens:
            raise EngineError(f"request {request.request_id} has an empty prompt")
        if (total := len(tokens) + request.max_tokens) > self._context:
            raise EngineError(f"request {request.request_id} may have {total} tokens, the context has {self._context}")
        for memory in self._memories:
            memory.clear(request.most(len(tokens)).computed, request.width)
        self._slots, self._lengths = [0], [len(tokens)]
        return len(tokens), self._next([memory.read(tokens) for memory in self._memories])

    def go_on(self, grown: Sequence[tuple[int, int]]) -> Next:
        slots = self._moved([place for place, _ in grown])
        lengths = [self._lengths[place] for place, _ in grown]
        added = [(slot, at, token) for slot, at, (_, token) in zip(slots, lengths, grown, strict=True)]
        self._slots, self._lengths = slots, [at + 1 for at in lengths]
        return self._next([memory.decode(added) for memory in self._memories])

    def _moved(self, places: Sequence[int]) -> list[int]:
        """Return a slot for each sequence that goes on from one of the last ones: the first one in that one's own."""
        for place in set(range(len(self._slots))) - set(places):
            for memory in self._memories:
                memory.drop(self._slots[place])
        free = iter(sorted(set(range(len(places) + len(self._slots))) - {self._slots[place] for place in places}))
        slots, taken = list[int](), set[int]()
        for place in places:
            slot = self._slots[place]
            if place in taken:
                slot = next(free)
                for memory in self._memories:
                    memory.copy(self._slots[place], slot)
            taken.add(place)
            slots.append(slot)
        return slots

    def _next(self, told: Sequence[tuple[Singles, Singles | None]]) -> Next:
        """Return what the policy, and a model of rewards where there is one, say of the next tokens."""
        (logits, hidden), *others = told
        if others:
            return Next(logits, others[0][0])
        if self._head is not None and hidden is not None:
            return Next(logits, self._head.rewards(hidden))
        most = logits.max(axis=1, keepdims=True)
        return Next(logits, logits - most - np.log(np.exp(logits - most).sum(axis=1, keepdims=True)))

    def text(self, tokens: Sequence[int]) -> str:
        return self._spell(tokens)

    def close(self) -> None:
        """Free the models."""
        for memory in self._memories:
            memory.close()
        self._rewards = self._policy = self._scorer = self._head = None


class TreeThread:
    """Searches of one model, as an event loop asks for them: one after the other, in a thread of their own."""

    def __init__(self, trees: LlamaTrees) -> None:
        self._trees = trees
        self._thread = ThreadPoolExecutor(1, "token-tree")

    async def grow(self, request: TreeRequest) -> Tree:
        """See ``LlamaTrees.grow``; a search that nobody waits for any more ends with its round.

        Raises:
            NeverSent: it was given up before its turn came.
        """
        begun, given_up = threading.Event(), threading.Event()

        def search() -> Tree:
            begun.set()
            return self._trees.grow(request, given_up.is_set)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, search)
        except asyncio.CancelledError:
            if begun.is_set():
                raise
            raise NeverSent from None
        finally:
            given_up.set()

    async def close(self) -> None:
        """Free the model, once the search under way has ended."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._trees.close)
        self._thread.shutdown(wait=False)
