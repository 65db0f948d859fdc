"""SAFFRON-1 (Qiu, Li, Wei, He and Tong 2025): a tree search by tokens, guided by a multifurcation reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.token_search import bill_of, search
from operators.strategies.words import Bill, Result
from operators.token_tree import TreeRequest
from schemas.file_hash import file_hash

KINDS = (".gguf", ".npz")


def _there(value: str) -> str:
    if not value:
        return value
    path = Path(value).expanduser()
    if path.suffix not in KINDS:
        raise ValueError(f"'{value}' is neither a GGUF model (.gguf) nor a head of NumPy arrays (.npz)")
    if not path.is_file():
        raise ValueError(f"there is no file '{value}'")
    return str(path)


class Saffron(Strategy):
    """Keep the ``width`` texts whose next token has the largest predicted reward, a token at a time.

    One pass of a multifurcation reward model predicts the reward of *every* next token, M(s)[t] = R(s, t), where others
    need a pass for each. Every live text offers its ``top_p`` next tokens; of all of them, and of the texts that have
    ended, those of the largest rewards are kept, and at last the best that ended by itself is chosen (of cut ones only
    where none did). Tokens that the reward model never saw are worth ``unseen`` (conservative exploration): they are
    kept only for want of others. An engine does all of it in one call, computing what texts share once.

    Rewards are taken for log-odds (the paper's are log P(safe) - log P(unsafe)); a row's score is the probability.
    Here the reward model is a GGUF model or a head on the policy's own hidden state; the paper's is a LoRA adapter on
    Llama-Guard-3-1B with a bias for each token. Equal rewards go by log-prob, which the paper leaves open.
    """

    version: ClassVar[int] = 1
    by_tokens: ClassVar[bool] = True

    rewards: Annotated[str, AfterValidator(_there)] = ""
    """What predicts rewards; its content is the identity. A GGUF model of the policy's own vocabulary, whose logits
    they are; or an ``.npz`` file with ``weight`` (vocabulary, hidden size) on the policy's last hidden state, and
    ``bias`` and ``seen`` (vocabulary) if need be. Empty: the policy's own log-probs, a control."""
    width: int = Field(default=16, ge=1, le=256)
    """Texts that are kept: B of the paper."""
    top_p: float = Field(default=0.8, gt=0.0, le=1.0)
    """Only the most probable next tokens that together have this probability may be taken."""
    temperature: float | None = Field(default=None, ge=0.0)
    """Before ``top_p``; by default the sampling stage's. At 0 there is one token to take."""
    min_new_tokens: int = Field(default=16, ge=0)
    """A text can't end before it has so many tokens."""
    max_new_tokens: int = Field(default=50, ge=1)
    """Most tokens of a text, as far as the sampling stage allows more."""
    unseen: float = -1024.0
    """The reward of tokens that the reward model never saw in its training."""

    @property
    def rows(self) -> int:
        return self.width

    @property
    def cautions(self) -> tuple[str, ...]:
        if self.rewards:
            return ()
        return ("saffron without `rewards` goes by the policy's own log-prob of the last token: a control, no method",)

    def fingerprint(self) -> dict[str, Any]:
        found = super().fingerprint()
        return found | {"rewards": file_hash(Path(self.rewards))} if self.rewards else found

    def request(self, most: int, temperature: float = 1.0, prompt: str = "", prefix: str = "") -> TreeRequest:
        """Return what the engine is asked for, where the sampling stage allows ``most`` tokens."""
        temperature = temperature if self.temperature is None else self.temperature
        most = min(self.max_new_tokens, most)
        about = (self.rewards, self.width, self.top_p, temperature, self.min_new_tokens, most, self.unseen)
        return TreeRequest(prompt, *about, prefix)

    def worst(self, prompt: int, most: int) -> Bill:
        return bill_of(self.request(most).most(prompt))

    async def play(self, ep: Episode) -> Result:
        found = await search(ep, self.request(ep.params.max_tokens, ep.params.temperature, ep.prompt, ep.setting.lead))
        there = found[0].finish not in ("error", "cap")
        return Result(tuple(found), 0 if there else None, "done" if there else "nothing")
