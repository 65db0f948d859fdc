"""transformers in the worker: reward models, process rewards and likelihoods where vLLM isn't, or doesn't know them.

Texts are scored in batches of similar length: those that wait are sorted by their tokens, and the longest are taken
together, so that little is padding. Each text is computed whole; a prompt that many texts share is vLLM's strength.
"""

# pyright: reportMissingImports=false
# transformers and torch are an extra: the environment that types are checked in hasn't got them

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as _transformers
from numpy.typing import NDArray

from cluster.engines.content import TEXT, Takes, folder_template, shown
from cluster.engines.weights import model_revision
from operators.engine import Completion, Engine, EngineError, EngineInfo, Request, Scored, ScoreRequest
from schemas.conversation import Turn
from schemas.engine import EngineSpec, TransformersSpec
from schemas.errors import BadInput, EngineFailed

Floats = NDArray[np.float64]
transformers: Any = _transformers

_CLASSES = {
    "likelihood": "AutoModelForCausalLM",
    "classify": "AutoModelForSequenceClassification",
    "token_classify": "AutoModelForTokenClassification",
}
_TASKS = {"reward": "classify", "steps": "token_classify", "likelihood": "likelihood"}


@dataclass(order=True)
class _Waiting:
    """A text that waits for its batch; the order is that of lengths."""

    length: int
    ids: list[int] = field(compare=False)
    done: asyncio.Future[Floats] = field(compare=False)


class TransformersEngine(Engine):
    """See ``schemas.engine.TransformersSpec``. Draws no samples."""

    def __init__(self, spec: TransformersSpec) -> None:
        self.spec = spec
        self.capacity = 8 * spec.batch
        model, revision = self.resolve(spec)
        self._device = spec.device or ("cuda" if torch.cuda.is_available() else "cpu")
        folder = str(Path(spec.model).expanduser())
        where = {"revision": spec.revision or None} if not Path(folder).is_dir() else {}
        try:
            tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, **where)
            kind: Any = getattr(transformers, _CLASSES[spec.task])
            loaded: Any = kind.from_pretrained(folder, dtype=spec.dtype, **where)
        except (OSError, ValueError) as error:
            raise EngineFailed(f"transformers can't load '{spec.model}' for task={spec.task}: {error}") from error
        self._tokenizer = tokenizer
        self._takes = Takes(parts=False, template=spec.chat_template or str(tokenizer.chat_template or ""))
        self._model: Any = loaded.eval().to(self._device)
        self.info = EngineInfo(
            model=model,
            revision=revision,
            family="transformers",
            context=spec.context,
            logprobs="raw",
            version=transformers.__version__,
        )
        self._queue: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    @staticmethod
    def resolve(spec: EngineSpec) -> tuple[str, str]:
        """Return (model, revision): the content of a folder, or the commit that a name on the hub stands for."""
        assert isinstance(spec, TransformersSpec)
        return model_revision(spec.model, spec.revision)

    @staticmethod
    def takes(spec: EngineSpec) -> Takes:
        """Return what the chat template has a place for, where it is given or lies in the model's folder."""
        assert isinstance(spec, TransformersSpec)
        return Takes(parts=False, template=spec.chat_template or folder_template(Path(spec.model).expanduser()))

    async def render(
        self, messages: Sequence[Turn], *, chat: bool = True, answered: bool = False, tools: Sequence[Turn] = ()
    ) -> str:
        turns = shown(messages, tools, self._takes if chat else TEXT)
        if not chat:
            return "".join(turn["content"] for turn in turns)
        try:
            return self._tokenizer.apply_chat_template(
                turns,
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=not answered,
                chat_template=self.spec.chat_template,
            )
        except (ValueError, TypeError) as error:
            raise BadInput(
                f"'{self.spec.model}' has no chat template that fits ({error}): give engine.chat_template, or set "
                "chat=false"
            ) from error

    async def count_tokens(self, prompt: str) -> int:
        return len(self._prompt_ids(prompt))

    def _prompt_ids(self, prompt: str) -> list[int]:
        bos: str | None = self._tokenizer.bos_token
        return self._encode(prompt, special=not (bos and prompt.startswith(bos)))

    def _encode(self, text: str, special: bool) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=special)

    async def generate(self, request: Request) -> list[Completion]:
        raise BadInput("engine 'transformers' gives scores, not completions; sample with vllm or llama_cpp")

    async def score(self, request: ScoreRequest) -> Scored:
        if _TASKS[request.kind] != self.spec.task:
            raise BadInput(
                f"scores of kind '{request.kind}' need engine.task={_TASKS[request.kind]}; it is {self.spec.task}"
            )
        prompt = self._prompt_ids(request.prompt)
        ids = prompt + self._encode(request.completion, special=False)
        if len(ids) > self.info.context:
            raise EngineError(f"request {request.request_id} has {len(ids)} tokens, the context {self.info.context}")
        if not ids or (request.kind == "likelihood" and not prompt):
            raise EngineError(f"request {request.request_id} has an empty prompt")
        places: list[int] = []
        if request.kind == "steps":
            tag = self._encode(request.step_tag, special=False)
            if len(tag) != 1:
                raise BadInput(
                    f"step_tag '{request.step_tag}' is {len(tag)} tokens of '{self.spec.model}'; it must be one"
                )
            places = [at for at in range(len(prompt), len(ids)) if ids[at] == tag[0]]
            if not places:
                raise EngineError(f"request {request.request_id}: the completion has no step tag '{request.step_tag}'")
        values = await self._values(ids)
        if request.kind == "reward":
            return Scored(float(values[-1]), (), len(ids))
        steps = tuple(values[places].tolist() if places else values[len(prompt) - 1 :].tolist())
        return Scored(min(steps) if places else sum(steps), steps, len(ids))

    async def _values(self, ids: list[int]) -> Floats:
        """Return a text's values once its batch was computed."""
        waiting = _Waiting(len(ids), ids, asyncio.get_running_loop().create_future())
        bisect.insort(self._queue, waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await waiting.done

    async def _work(self) -> None:
        """Compute batch by batch while there is something to do."""
        await asyncio.sleep(0)  # those that are asked for in the same moment wait together
        while self._queue:
            batch, self._queue = self._queue[-self.spec.batch :], self._queue[: -self.spec.batch]
            batch = [one for one in batch if not one.done.cancelled()]
            try:
                found = await asyncio.to_thread(self._compute, [one.ids for one in batch])
            except Exception as error:  # torch's own kinds are many
                for one in batch:
                    if not one.done.cancelled():
                        one.done.set_exception(EngineError(f"transformers failed: {error}"))
                continue
            for one, values in zip(batch, found, strict=True):
                if not one.done.cancelled():
                    one.done.set_result(values)

    def _compute(self, texts: list[list[int]]) -> list[Floats]:
        """Return of each text: [labels' value] of a classifier, [tokens] of a token classifier, [tokens - 1] log-probs.

        A value is the logit of the only label, or the last label's probability.
        """
        if not texts:
            return []
        longest = max(map(len, texts))
        padding = self._padding(texts)
        padded = torch.tensor([ids + [padding] * (longest - len(ids)) for ids in texts], device=self._device)
        lengths = torch.tensor([len(ids) for ids in texts], device=self._device)
        mask = torch.arange(longest, device=self._device)[None] < lengths[:, None]
        self._model.config.pad_token_id = padding  # by which classifiers find the last token
        with torch.inference_mode():
            logits = self._model(input_ids=padded, attention_mask=mask.long()).logits.float()
            if self.spec.task == "likelihood":
                log_probs = torch.log_softmax(logits[:, :-1], dim=-1)
                values = log_probs.gather(2, padded[:, 1:, None])[..., 0]
                return [values[row, : len(ids) - 1].double().cpu().numpy() for row, ids in enumerate(texts)]
            values = logits[..., -1] if logits.shape[-1] == 1 else torch.softmax(logits, dim=-1)[..., -1]
            if self.spec.task == "classify":
                return [np.atleast_1d(value) for value in values.double().cpu().numpy()]
            return [values[row, : len(ids)].double().cpu().numpy() for row, ids in enumerate(texts)]

    def _padding(self, texts: list[list[int]]) -> int:
        """Return a token that none of the texts has, so that padding can't be taken for text."""
        used = set().union(*texts)
        wanted: int | None = self._tokenizer.pad_token_id
        if wanted is not None and wanted not in used:
            return wanted
        return next(token for token in range(len(self._tokenizer)) if token not in used)

    async def close(self) -> None:
        self._model = None
