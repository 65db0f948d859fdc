"""Searches by tokens: what an engine is asked for in one call, and what it found.

Such a search chooses among all next tokens after every single one, by rewards that are predicted for each of them. That
is worth its while only where the model's logits and its memory of what it has read are at hand, so it is carried out
inside an engine (``Engine.grow_tree``), and asked for, paid, kept and told as one call.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TreeRequest:
    """Ask for a search behind a rendered prompt (``operators.strategies.saffron`` says what it does).

    Attributes:
        rewards: what predicts the reward of each next token: the path of a GGUF model, whose logits they are, or of an
            ``.npz`` file, a head on the model's own last hidden state; empty: the model's own log-probs.
        width: sequences that are kept.
        top_p, temperature: which next tokens are looked at, of the model's own distribution; at temperature 0 the most
            probable one alone.
        min_tokens: a text may not end before it has so many.
        max_tokens: most tokens of a text.
        unseen: the reward of tokens that weren't seen when rewards were learnt.
        prefix: the beginning of the completion, which is continued and not given back.
        request_id: names the request in errors.
    """

    prompt: str
    rewards: str
    width: int
    top_p: float
    temperature: float
    min_tokens: int
    max_tokens: int
    unseen: float
    prefix: str = ""
    request_id: str = ""

    @property
    def has_scorer(self) -> bool:
        """Whether a model of its own predicts rewards, which reads everything for itself."""
        return self.rewards.endswith(".gguf")

    def most(self, prompt: int) -> Took:
        """Return the most that the search takes, behind so many tokens."""
        continued = self.width * (self.max_tokens - 1)
        read = prompt + continued if self.has_scorer else 0
        return Took(prompt, self.width * self.max_tokens, 1 + continued, read, prompt + continued)


@dataclass(frozen=True)
class Took:
    """What a search took, in tokens.

    Attributes:
        read: of the prompt.
        written: that were kept for a round or longer, whatever became of them; those that end a text included.
        passes: predictions of the rewards of all next tokens: one for the prompt, one for each token continued.
        scorer_read: by a model that predicts rewards.
        computed: that went through the model: the prompt's, once, and each token that was continued.
    """

    read: int
    written: int
    passes: int
    scorer_read: int
    computed: int


@dataclass(frozen=True)
class Grown:
    """One text that a search found.

    Attributes:
        finish: ``stop``: the model ended it; ``length``: it has as many tokens as are allowed.
        tokens: the one that ends it included.
        reward: that was predicted for its last token.
        sum_logprob: of its tokens under the model's own distribution, in nats.
    """

    text: str
    finish: str
    tokens: int
    reward: float
    sum_logprob: float


@dataclass(frozen=True)
class Tree:
    """What a search found.

    Attributes:
        finals: at least one, at most ``TreeRequest.width``; those that ended by themselves first, then by reward.
    """

    finals: tuple[Grown, ...]
    took: Took
