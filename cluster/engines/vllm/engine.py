"""vLLM's asynchronous engine in the worker: the production engine.

Each sample is one request with its own seed on a pre-tokenised prompt: vLLM turns a larger ``n`` into that many
requests itself, and its prefix cache computes the prompt once. Results come once, whole (``FINAL_ONLY``). Token
log-probs are reduced to a few numbers per sample here and go no further. Cancelling a request aborts it in vLLM.

The engine core is a process of its own. When it dies (out of memory, a lost rank) every request fails, this worker is
given up with the core's own last words, and the driver starts another.
"""

# pyright: reportMissingImports=false
# vLLM has an environment of its own: the one that types are checked in hasn't got it

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.engines.content import TEXT, Takes, folder_template, shown
from cluster.engines.vllm.arguments import arguments, lora, reasoning_parser
from cluster.engines.vllm.expert_counts import write_expert_counts
from cluster.engines.vllm.last_words import LastWords
from cluster.engines.weights import folder_revision, model_revision
from operators.confidence import TOP, Confidences, Watch, confidences, of_tokens
from operators.engine import (
    Completion,
    Engine,
    EngineDied,
    EngineError,
    EngineInfo,
    Request,
    Scored,
    ScoreRequest,
    alone,
)
from schemas.conversation import Turn
from schemas.engine import EngineSpec, SamplingParams, VllmSpec
from schemas.errors import BadInput, EngineFailed

Floats = NDArray[np.float64]

REMEMBERED = 4096
"""Prompts whose token ids are kept."""

# what vLLM logs goes to standard error (standard output may carry a JSON document), and only what matters
for _name, _value in {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}.items():
    os.environ.setdefault(_name, _value)


class VllmEngine(Engine):
    """See ``schemas.engine.VllmSpec``. Log-probs are of the model's own distribution (``raw_logprobs``)."""

    def __init__(self, spec: VllmSpec) -> None:
        import vllm.version  # takes seconds, and needs a GPU or vLLM's CPU build: only the worker pays
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self.spec = spec
        self.capacity = 2 * spec.slots  # requests of one length end together: a whole batch waits for its turn
        model, revision = self.resolve(spec)
        self.info = EngineInfo(
            model=model,
            revision=revision,
            family="vllm",
            context=spec.context,
            logprobs="raw" if spec.logprobs or spec.confidence else "none",
            version=vllm.version.__version__,
            seeds="nearly",
            stops="told",
        )
        self._vllm: Any = vllm
        self._words = LastWords()
        try:
            with self._words.heard():
                self._engine: Any = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments(spec)))
        except Exception as error:  # vLLM raises plain exceptions of many kinds
            raise EngineFailed(f"vLLM can't serve '{spec.model}': {self._words.reason() or error}") from error
        self._tokenizer: Any = self._engine.get_tokenizer()
        self._takes = Takes(parts=False, template=spec.chat_template or str(self._tokenizer.chat_template or ""))
        self._counting = False
        self._ids: dict[str, list[int]] = {}
        self._params: dict[SamplingParams, Any] = {}
        self._adapter = lora(spec.adapter) if spec.adapter else None
        self._parser, self._as_chat = reasoning_parser(spec, self._tokenizer)

    @staticmethod
    def resolve(spec: EngineSpec) -> tuple[str, str]:
        """Return (model, revision): the content of a folder, or the commit that a name on the hub stands for.

        Raises:
            BadInput: the adapter is no folder.
        """
        assert isinstance(spec, VllmSpec)
        model, revision = model_revision(spec.model, spec.revision)
        if spec.adapter is None:
            return model, revision
        adapter = Path(spec.adapter).expanduser()
        if not (adapter / "adapter_config.json").is_file():
            raise BadInput(f"engine.adapter '{spec.adapter}' is no folder of a LoRA adapter (no adapter_config.json)")
        return model, f"{revision}+{folder_revision(adapter.resolve())}"

    @staticmethod
    def takes(spec: EngineSpec) -> Takes:
        """Return what the chat template has a place for, where it is given or lies in the model's folder."""
        assert isinstance(spec, VllmSpec)
        return Takes(parts=False, template=spec.chat_template or folder_template(Path(spec.model).expanduser()))

    async def _count(self) -> None:
        """Begin to count tokens per expert, once.

        Raises:
            BadInput: the model has no routers that are known.
        """
        if self.spec.expert_counts and not self._counting:
            self._counting = True
            if not (await self._engine.collective_rpc("begin_counting"))[0]:
                self._counting = False
                raise BadInput(f"engine.expert_counts: '{self.spec.model}' has no routers of experts that are known")

    async def render(
        self, messages: Sequence[Turn], *, chat: bool = True, answered: bool = False, tools: Sequence[Turn] = ()
    ) -> str:
        turns = shown(messages, tools, self._takes if chat else TEXT)
        if not chat:
            return "".join(turn["content"] for turn in turns)
        try:
            prompt: str = self._tokenizer.apply_chat_template(
                turns,
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=not answered,
                chat_template=self.spec.chat_template,
            )
        except (ValueError, TypeError) as error:
            raise BadInput(
                f"'{self.spec.model}' has no chat template that fits ({error}): give engine.chat_template, or set "
                "sample.chat=false"
            ) from error
        self._remember(prompt, self._encode(prompt, special=False))  # the template has written them
        return prompt

    async def count_tokens(self, prompt: str) -> int:
        return len(self._prompt_ids(prompt))

    def _prompt_ids(self, prompt: str) -> list[int]:
        if prompt not in self._ids:
            bos: str | None = self._tokenizer.bos_token
            self._remember(prompt, self._encode(prompt, special=not (bos and prompt.startswith(bos))))
        return self._ids[prompt]

    def _remember(self, prompt: str, ids: list[int]) -> None:
        if len(self._ids) >= REMEMBERED:
            del self._ids[next(iter(self._ids))]
        self._ids[prompt] = ids

    def _encode(self, text: str, special: bool) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=special)

    async def generate(self, request: Request) -> list[Completion]:
        if self.spec.task != "generate":
            raise BadInput(f"engine.task={self.spec.task}: this engine gives scores, not completions")
        await self._count()
        if request.n > 1:
            return [answer for [answer] in await asyncio.gather(*map(self.generate, alone(request)))]
        ids = self._prompt_ids(request.prompt)
        if request.prefix:
            ids = ids + self._encode(request.prefix, special=False)
        if not ids:
            raise EngineError(f"request {request.request_id} has an empty prompt")
        wanted = len(ids) + request.params.max_tokens
        if wanted > self.info.context:
            raise EngineError(
                f"request {request.request_id} may need {wanted} tokens, more than the context of {self.info.context}"
            )
        params = copy(self._sampling_params(request.params))
        params.seed = request.seed
        prompt = self._vllm.TokensPrompt(prompt_token_ids=ids)
        name = f"{request.request_id}#{id(request):x}"  # two of one name can be under way: a retry, a judge's vote
        if request.cut_below is not None:
            if not self.spec.confidence:
                raise BadInput("sample.cut needs engine.confidence=true: thresholds are made of confidences")
            params.output_kind = self._vllm.sampling_params.RequestOutputKind.CUMULATIVE
        stream = self._engine.generate(prompt, params, name, lora_request=self._adapter)
        watch = None if request.cut_below is None else Watch(request.window, request.cut_below)
        found = await self._last(stream, request.request_id, watch)
        return [self._completion(found, request.window)]

    async def _last(self, stream: AsyncGenerator[Any, None], name: str, watch: Watch | None = None) -> Any:
        """Return the last output of a request's stream, or the one in which ``watch`` sees an unsure group.

        Raises:
            EngineError: vLLM refused the request, or gave it up.
            EngineDied: the engine core is gone.
        """
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        found: Any = None
        try:
            async for output in stream:
                found = output
                if watch is not None and not output.finished and watch.sees(_top(output.outputs[0], watch.seen)):
                    await stream.aclose()  # which aborts it in vLLM
                    break
        except EngineDeadError as error:
            words = self._words.reason() or "it left no word: killed from outside, perhaps because memory ran out"
            raise EngineDied(f"vLLM's engine core died: {words}") from error
        except EngineGenerateError as error:
            raise EngineError(f"request {name}: {error.__cause__ or error!r}", transient=True) from error
        except (VLLMClientError, ValueError) as error:
            raise EngineError(f"vLLM refused request {name}: {error}") from error
        if found is None:
            raise EngineError(f"vLLM gave nothing for request {name}", transient=True)
        return found

    def _sampling_params(self, params: SamplingParams) -> Any:
        """Return vLLM's parameters of a request but for its seed."""
        key = params.model_copy(update={"json_schema": None})  # a dictionary can't be hashed
        if params.json_schema is None and key in self._params:
            return self._params[key]
        sampling = self._vllm.sampling_params
        guide = {"json": params.json_schema, "regex": params.regex}
        guide = {name: value for name, value in guide.items() if value is not None}
        made = sampling.SamplingParams(
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            min_p=params.min_p,
            max_tokens=params.max_tokens,
            stop=list(params.stop),
            include_stop_str_in_output=params.keep_stop,
            logprobs=TOP if self.spec.confidence else 0 if self.spec.logprobs else None,
            flat_logprobs=True,
            skip_clone=True,
            structured_outputs=sampling.StructuredOutputsParams(**guide) if guide else None,
            output_kind=sampling.RequestOutputKind.FINAL_ONLY,
            skip_special_tokens=self._as_chat is None or self._as_chat.skip_special_tokens,
        )
        if params.json_schema is None:
            self._params[key] = made
        return made

    def _completion(self, found: Any, window: int) -> Completion:
        """Reduce a request's output to one row's worth; log-probs include the end token's or the stop string's."""
        [out] = found.outputs
        reason = out.finish_reason if found.finished else "cut"
        if reason not in ("stop", "length", "cut"):
            raise EngineError(f"vLLM gave request {found.request_id} up ({reason})", transient=True)
        if isinstance(out.stop_reason, str):
            reason = "stop_string"
        total = mean = None
        sure = Confidences(*[None] * 4)  # type: ignore[arg-type]
        if out.logprobs is not None and len(out.token_ids):
            values, starts = np.asarray(out.logprobs.logprobs), np.asarray(out.logprobs.start_indices)
            sampled = values[starts]
            total, mean = float(sampled.sum()), float(sampled.mean())
            if self.spec.confidence:
                sure = confidences(of_tokens(_top(out)), window)
        text, reasoning = out.text, None
        if self._parser is not None:
            reasoning, content = self._parser.extract_reasoning(text, self._as_chat)
            text = content or ""
        return Completion(
            text=text,
            finish_reason=reason,
            stop=out.stop_reason if reason == "stop_string" else None,
            prompt_tokens=len(found.prompt_token_ids),
            completion_tokens=len(out.token_ids),
            cached_prompt_tokens=found.num_cached_tokens or 0,
            reasoning=reasoning,
            sum_logprob=total,
            mean_logprob=mean,
            lowest_group_confidence=sure.lowest,
            tail_confidence=sure.tail,
            bottom_group_confidence=sure.bottom,
            mean_confidence=sure.mean,
        )

    async def score(self, request: ScoreRequest) -> Scored:
        prompt, completion = self._prompt_ids(request.prompt), self._encode(request.completion, special=False)
        ids = prompt + completion
        if len(ids) > self.info.context - (request.kind == "likelihood"):
            raise EngineError(f"request {request.request_id} has {len(ids)} tokens, the context {self.info.context}")
        needed = {"reward": "classify", "steps": "token_classify", "likelihood": "generate"}[request.kind]
        if needed != self.spec.task:
            raise BadInput(f"scores of kind '{request.kind}' need engine.task={needed}; it is {self.spec.task}")
        if request.kind == "likelihood":
            return await self._likelihood(request, ids, len(prompt))
        labels = int(self._engine.model_config.hf_config.num_labels)
        params = self._vllm.PoolingParams(task=needed, use_activation=labels > 1)
        name = f"{request.request_id}#{id(request):x}"
        stream = self._engine.encode(
            self._vllm.TokensPrompt(prompt_token_ids=ids), params, name, lora_request=self._adapter
        )
        found = await self._last(stream, request.request_id)
        values = np.asarray(found.outputs.data.float().numpy(), dtype=np.float64)
        cached = int(getattr(found, "num_cached_tokens", 0) or 0)
        if request.kind == "reward":
            return Scored(float(values.reshape(-1)[-1]), (), len(ids), cached)
        steps = self._steps(request, ids, len(prompt), values.reshape(-1, values.shape[-1]))
        return Scored(min(steps), steps, len(ids), cached)

    def _steps(self, request: ScoreRequest, ids: list[int], begin: int, values: Any) -> tuple[float, ...]:
        """Return the last label's value at each step tag; some process reward models give only these already."""
        tag = self._encode(request.step_tag, special=False)
        if len(tag) != 1:
            raise BadInput(f"step_tag '{request.step_tag}' is {len(tag)} tokens of '{self.spec.model}'; it must be one")
        places = [at for at in range(begin, len(ids)) if ids[at] == tag[0]]
        if not places:
            raise EngineError(f"request {request.request_id}: the completion has no step tag '{request.step_tag}'")
        chosen = values[places] if len(values) == len(ids) else values[-len(places) :]
        return tuple(float(value) for value in chosen[:, -1])

    async def _likelihood(self, request: ScoreRequest, ids: list[int], begin: int) -> Scored:
        sampling = self._vllm.sampling_params
        params = sampling.SamplingParams(
            max_tokens=1,
            prompt_logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=sampling.RequestOutputKind.FINAL_ONLY,
        )
        prompt = self._vllm.TokensPrompt(prompt_token_ids=ids)
        name = f"{request.request_id}#{id(request):x}"
        found = await self._last(
            self._engine.generate(prompt, params, name, lora_request=self._adapter), request.request_id
        )
        logprobs = found.prompt_logprobs
        steps = tuple(float(logprobs.logprobs[logprobs.start_indices[at]]) for at in range(begin, len(ids)))
        return Scored(sum(steps), steps, len(ids))

    async def sleep(self) -> None:
        if self._on_gpu():
            await self._engine.sleep(level=1)

    async def wake(self) -> None:
        if self._on_gpu():
            await self._engine.wake_up()

    def _on_gpu(self) -> bool:
        return not self._vllm.platforms.current_platform.is_cpu()

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            if self.spec.expert_counts and self._counting:
                ranks = await engine.collective_rpc("expert_counts")
                # ranks of a tensor-parallel group route the same tokens
                write_expert_counts(
                    ranks[0], self.info, self.spec.quantization or "", self.spec.job_class, self.spec.expert_counts
                )
            await asyncio.to_thread(engine.shutdown)


def _top(out: Any, first: int = 0) -> Floats:
    """Return the candidates' log-probs of the tokens from ``first`` on: [tokens, candidates]."""
    values, starts = out.logprobs.logprobs, out.logprobs.start_indices
    count = len(out.token_ids)
    if first >= count:
        return np.zeros((0, TOP))
    return np.asarray(values[starts[first] :]).reshape(count - first, -1)[:, 1 : 1 + TOP]
