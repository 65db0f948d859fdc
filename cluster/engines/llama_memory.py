"""A model of llama.cpp's, and what it knows of several sequences that share what they have in common (``cyllama``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cyllama.llama import llama_cpp as _bindings
from numpy.typing import NDArray

from operators.engine import EngineError
from schemas.errors import BadInput

Singles = NDArray[np.float32]

llama: Any = _bindings  # it ships no types
llama.disable_logging()

CHUNK = 512
"""Tokens of a prompt that are decoded at once."""
PER_TOKEN = 0
"""llama.cpp's word for hidden states that aren't pooled."""


class _Model(llama.LlamaModel):
    """The binding's own asks a model for its ``n_vocab`` where it reads logits, and has it only in the vocabulary."""

    @property
    def n_vocab(self) -> int:
        return self.get_vocab().n_vocab


class Memory:
    """A model, and what it knows of several sequences, numbered from 0."""

    def __init__(self, path: Path, threads: int, hidden: bool = False) -> None:
        try:
            self.model: Any = _Model(str(path), llama.LlamaModelParams(), False)
        except Exception as error:  # the binding raises plain exceptions of several kinds
            raise BadInput(f"llama.cpp can't load '{path}': {error}") from error
        self.vocabulary: Any = self.model.get_vocab()
        self.computed = 0
        self._threads = threads
        self._hidden = hidden
        self._context: Any = None
        self._batch: Any = None
        self._width = 0

    @property
    def tokens(self) -> list[str]:
        """Its vocabulary."""
        return [self.vocabulary.get_text(token) for token in range(self.vocabulary.n_vocab)]

    def clear(self, tokens: int, width: int) -> None:
        """Forget all sequences; there is room for so many tokens, and for so many sequences at once."""
        self.computed = 0
        if self._context is not None and self._context.n_ctx >= tokens and self._width >= width:
            self._context.kv_cache_clear()
            return
        self.close_context()
        wanted = llama.LlamaContextParams()
        wanted.n_ctx, wanted.n_seq_max, wanted.kv_unified = tokens, width, True
        wanted.n_batch = wanted.n_ubatch = max(CHUNK, width)
        wanted.n_threads = wanted.n_threads_batch = self._threads
        wanted.pooling_type = PER_TOKEN
        try:
            self._context, self._width = llama.LlamaContext(self.model, wanted, False), width
        except (ValueError, RuntimeError, MemoryError) as error:
            raise BadInput(
                f"llama.cpp has no memory for {tokens:,} tokens of {width} texts ({error}); a smaller width or "
                "max_new_tokens of the strategy takes less"
            ) from error
        self._batch = llama.LlamaBatch(n_tokens=max(CHUNK, width), embd=0, n_seq_max=1)

    def read(self, tokens: Sequence[int]) -> tuple[Singles, Singles | None]:
        """Read the beginning of sequence 0; see ``decode``."""
        last = len(tokens) - 1
        self._context.set_embeddings_mode(False)
        for begin in range(0, last, CHUNK):
            self._put([(0, at, tokens[at], False) for at in range(begin, min(begin + CHUNK, last))])
        return self.decode([(0, last, tokens[last])])

    def decode(self, added: Sequence[tuple[int, int, int]]) -> tuple[Singles, Singles | None]:
        """Put one token behind each of several sequences, given by (sequence, position, token).

        Returns:
            The logits of what comes next (sequences, vocabulary), and the last hidden states (sequences, size) where
            they are wanted.
        """
        self._context.set_embeddings_mode(self._hidden)
        self._put([(*one, True) for one in added])
        places = range(len(added))
        # a sequence at a time: other threads wait while lists of floats become an array
        logits = np.stack([np.array(self._context.get_logits_ith(at), np.float32) for at in places])
        if not self._hidden:
            return logits, None
        return logits, np.stack([np.array(self._context.get_embeddings_ith(at), np.float32) for at in places])

    def _put(self, added: Sequence[tuple[int, int, int, bool]]) -> None:
        self._batch.clear()
        for sequence, at, token, tells in added:
            self._batch.add(token, at, [sequence], tells)
        try:
            self._context.decode(self._batch)
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"llama.cpp: {error}") from error
        self.computed += len(added)

    def copy(self, sequence: int, to: int) -> None:
        """Let a sequence that is empty know what another does; nothing is computed, and no memory taken."""
        self._context.memory_seq_cp(sequence, to, -1, -1)

    def drop(self, sequence: int) -> None:
        self._context.memory_seq_rm(sequence, -1, -1)

    def close_context(self) -> None:
        if self._context is not None:
            self._context.close()
        self._context = self._batch = None

    def close(self) -> None:
        self.close_context()
        self.model.close()
