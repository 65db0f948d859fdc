"""The policies by name, with their settings: what ``sample.policy`` and ``gristmill simulate --policy`` take.

Policies need NumPy and SciPy, which take a while and 40 MB to load, so each is imported where it begins.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import BeforeValidator, Field, TypeAdapter, field_validator, model_validator

from schemas.errors import BadInput
from schemas.later import np
from schemas.settings import Settings

if TYPE_CHECKING:
    from operators.policies.policy import Policy, Setting

Goal = Literal["coverage", "yield", "accuracy"]
"""At least one accepted sample of each problem; ``target`` of them; the right answer by majority."""


class PolicySpec(Settings, ABC):
    """Base of all policies' settings."""

    uninformed: ClassVar[str] = ""
    """Why it has no use of what is known of problems beforehand."""

    @model_validator(mode="before")
    @classmethod
    def _takes(cls, said: object) -> object:
        """Refuse what is known beforehand where nothing would come of it."""
        given = cast("dict[str, Any]", said) if cls.uninformed and isinstance(said, dict) else {}
        told = [name for name in Informed.model_fields if given.get(name)]
        if told:
            name = cls.model_fields["name"].default
            raise ValueError(f"{', '.join(told)} would change nothing: {name} {cls.uninformed}")
        return cast(object, said)

    @property
    def votes(self) -> bool:
        """Whether it looks at answers, and not at whether they were accepted."""
        return False

    def limit(self, n: int) -> int:
        """Return how many samples a problem may get, if a sampling stage gives it ``n`` at most."""
        return n

    def as_logged(self) -> dict[str, Any]:
        """Return what a run's log says of the policy."""
        return self.model_dump(mode="json")

    @abstractmethod
    def begin(self, setting: Setting) -> Policy:
        """Return the policy in its first state."""


class Informed(PolicySpec):
    """Base of policies that have a distribution of each problem's difficulty, learned while they sample; what is known
    of problems beforehand is its prior, and how much that is worth is learned, too (``operators.measure.difficulty``).
    """

    before: str | tuple[str, ...] | None = None
    """A table with problem_id, n and c of the same problems by something similar (another model; several where it has a
    column 'model'), or an earlier run, or several such. Their other problems say how hard such problems are."""
    features: str | None = None
    """``problems``: what these say themselves (prompt, task type, what their metadata has of levels, sources and
    numbers); or a table with problem_id and whatever is known of each problem: numbers, levels, embeddings."""
    nights: tuple[str, ...] = ()
    """Runs of other problems of the same kind, such as the nights before. Each has its own parameters of difficulty;
    what they have in common is where this run begins."""

    added: ClassVar[tuple[str, ...]] = ("features", "nights")
    """Settings that its first version didn't have."""

    def as_logged(self) -> dict[str, Any]:
        """Return what a run's log says of the policy: what later versions added only where it is used."""
        unused = {name for name in self.added if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=unused)


class UniformSpec(PolicySpec):
    """The same for every problem."""

    name: Literal["uniform"] = "uniform"
    """Which policy this is."""
    uninformed = "gives every problem the same, however hard it is"

    def begin(self, setting: Setting) -> Policy:
        from operators.policies.counting import Uniform

        return Uniform(setting)


class Targeted(PolicySpec):
    """Base of policies that want so many accepted samples of each problem."""

    target: int = Field(default=1, ge=1, le=10**9)
    """Accepted samples after which a problem gets no more: 1 for coverage, more for training data."""


class UntilCorrectSpec(Targeted):
    """Stop a problem after ``target`` accepted samples."""

    name: Literal["until_correct"] = "until_correct"
    """Which policy this is."""
    uninformed = (
        "serves whoever has the fewest samples, so it has no distribution of difficulty that could begin with "
        "them; 'marginal' is until_correct with one"
    )

    def begin(self, setting: Setting) -> Policy:
        from operators.policies.counting import UntilCorrect

        return UntilCorrect(setting, self.target)


class GreedySpec(Informed, Targeted):
    """Serve the largest mean of a beta posterior first: the plain way, for comparison."""

    name: Literal["greedy"] = "greedy"
    """Which policy this is."""
    added = ("before", "features", "nights")

    def begin(self, setting: Setting) -> Policy:
        from operators.policies.greedy import Greedy

        return Greedy(setting, self.target)


class MarginalSpec(Informed, Targeted):
    """Serve first where one more sample is expected to gain most for its cost.

    Where nothing is known beforehand it does what until_correct does.
    """

    name: Literal["marginal"] = "marginal"
    """Which policy this is."""
    least: float = Field(default=0.0, ge=0.0)
    """Stop a problem where another sample is expected to gain less than this (accepted samples per unit of cost)."""

    def begin(self, setting: Setting) -> Policy:
        from operators.policies.marginal import Marginal

        return Marginal(setting, self.target, self.least)


class ConsistencySpec(PolicySpec):
    """Stop voting where the leader can be trusted; needs no verifier."""

    name: Literal["consistency"] = "consistency"
    """Which policy this is."""
    uninformed = (
        "votes and hears of no verdicts, so what they tell of success could not be learned; its prior is of how "
        "answers spread ('shapes')"
    )
    rule: Literal["bayesian", "adaptive", "early_stopping"] = "bayesian"
    """When to stop: by the chance that the leader is the most frequent answer, given how answers spread over problems
    (``bayesian``); by its chance against the second alone (``adaptive``); after a window of equal answers
    (``early_stopping``)."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """How sure ``bayesian`` and ``adaptive`` must be of the leading answer before they stop."""
    window: int = Field(default=4, ge=2, le=10**9)
    """How many samples in a row ``early_stopping`` wants to agree before it stops."""
    shapes: tuple[tuple[float, ...], ...] = ()
    """Sorted answer frequencies that problems may have, for ``bayesian``; a broad library where there are none."""

    @field_validator("shapes")
    @classmethod
    def _frequencies(cls, value: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        if any(not shape or min(shape) < 0 or not 0 < sum(shape) < math.inf for shape in value):
            raise ValueError("each shape has frequencies of 0 or more, one of them above 0")
        return value

    @property
    def votes(self) -> bool:
        return True

    def begin(self, setting: Setting) -> Policy:
        from operators.policies.consistency import AdaptiveConsistency, BayesianStopping, EarlyStopping
        from operators.policies.shapes import Shapes

        if self.rule == "adaptive":
            return AdaptiveConsistency(setting, self.confidence)
        if self.rule == "early_stopping":
            return EarlyStopping(setting, self.window)
        return BayesianStopping(setting, 1.0 - self.confidence, Shapes.of(self.shapes) if self.shapes else None)


class PetsSpec(PolicySpec):
    """Vote under a common budget: the sample that tells most about a leader is next."""

    name: Literal["pets"] = "pets"
    """Which policy this is."""
    uninformed = (
        "votes and hears of no verdicts, so what they tell of success could not be learned; its prior is of how "
        "answers spread"
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """How probable it must be that the leading answer is the majority before its problem gets no more samples."""

    @property
    def votes(self) -> bool:
        return True

    def begin(self, setting: Setting) -> Policy:
        from operators.policies.pets import Pets

        return Pets(setting, self.confidence)


class WithFlawsSpec(Informed):
    """Resample with a verifier that errs, as long as a draw is worth it."""

    name: Literal["with_flaws"] = "with_flaws"
    """Which policy this is."""
    completeness: float = Field(default=1.0, gt=0.0, le=1.0)
    """P(accepted | right) of the verifier."""
    soundness: float = Field(default=1.0, gt=0.0, le=1.0)
    """P(rejected | wrong) of the verifier; ``measure.verifier_audit`` estimates both."""
    value_correct: float = Field(default=1.0, gt=0.0)
    """The worth of an accepted answer that is right, in the unit of a sample's cost."""
    value_wrong: float = Field(default=-1.0, le=0.0)
    """The worth of an accepted answer that is wrong; below 0 it does harm."""
    types: tuple[tuple[float, float], ...] = ()
    """(p_t, r_t) of each type of problem; learned where there are none."""

    @model_validator(mode="after")
    def _sums(self) -> WithFlawsSpec:
        if self.types and abs(sum(prior for prior, _ in self.types) - 1.0) > 1e-6:
            raise ValueError("the first numbers of 'types' are probabilities and must sum to 1")
        if any(not (0.0 <= prior <= 1.0 and 0.0 <= rate <= 1.0) for prior, rate in self.types):
            raise ValueError("'types' are pairs of probabilities, from 0 to 1")
        return self

    def begin(self, setting: Setting) -> Policy:
        from operators.policies.with_flaws import WithFlaws

        types = np.array(self.types) if self.types else None
        return WithFlaws(setting, self.completeness, self.soundness, self.value_correct, self.value_wrong, types)


class ComputeOptimalSpec(Informed, Targeted):
    """Choose among sampling configurations by difficulty, after a calibration.

    In a pipeline every sampling stage with this policy is an arm (``pipelines.arms``).
    """

    name: Literal["compute_optimal"] = "compute_optimal"
    """Which policy this is."""
    added = ("before", "features", "nights")
    arms: int = Field(default=2, ge=2)
    """How many arms there are."""
    calibration: int = Field(default=16, ge=1)
    """Samples of every arm that each problem gets first; of a strategy, episodes."""
    arm_cost: tuple[float, ...] = ()
    """What a sample of each arm costs relative to the others; where empty, what those of the calibration took: all
    calls of an episode, in dollars where every price is known, else in tokens."""

    def limit(self, n: int) -> int:
        """What other arms were calibrated with comes on top of the chosen one's."""
        return n + self.calibration * (self.arms - 1)

    @field_validator("arm_cost")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(cost <= 0 for cost in value):
            raise ValueError("costs must be positive")
        return value

    def begin(self, setting: Setting) -> Policy:
        from operators.policies.compute_optimal import ComputeOptimal

        costs = np.array(self.arm_cost) if self.arm_cost else None
        return ComputeOptimal(setting, self.arms, self.calibration, self.target, costs)


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_Spec = Annotated[
    UniformSpec
    | UntilCorrectSpec
    | GreedySpec
    | MarginalSpec
    | ConsistencySpec
    | PetsSpec
    | WithFlawsSpec
    | ComputeOptimalSpec,
    Field(discriminator="name"),
]
AnyPolicy = Annotated[_Spec, BeforeValidator(_named, json_schema_input_type=str | _Spec)]
"""A field that any policy can fill: ``marginal``, ``{"name": "marginal", "least": 0.01}``."""
SPECS: dict[str, type[PolicySpec]] = {
    "uniform": UniformSpec,
    "until_correct": UntilCorrectSpec,
    "greedy": GreedySpec,
    "marginal": MarginalSpec,
    "consistency": ConsistencySpec,
    "pets": PetsSpec,
    "with_flaws": WithFlawsSpec,
    "compute_optimal": ComputeOptimalSpec,
}
POLICIES = tuple(SPECS)


def policy_spec(settings: dict[str, Any]) -> AnyPolicy:
    """Return a policy's settings from plain values.

    Raises:
        pydantic.ValidationError: what doesn't fit.
        BadInput: no such policy.
    """
    if settings.get("name") not in POLICIES:
        raise BadInput(f"there is no policy '{settings.get('name')}'; there are {', '.join(POLICIES)}")
    spec: AnyPolicy = TypeAdapter(AnyPolicy).validate_python(settings)
    return spec
