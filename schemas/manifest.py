"""Manifests: what a run was told, what it read and what it left, as JSON beside the data."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from schemas.orders import Answered
from schemas.prices import MICRO

RunState = Literal["running", "done", "failed", "incomplete", "interrupted", "budget reached"]


class EngineRecord(BaseModel):
    """The engine a sampling stage used (see operators.engine.EngineInfo)."""

    model: str
    revision: str
    family: str
    context: int
    logprobs: str
    version: str = ""
    seeds: str = ""
    stops: str = ""


class ReplicaRecord(BaseModel):
    """One engine of one stage, by its worker's own timeline.

    Attributes:
        first, last: unix seconds of its first request and its last answer.
        busy_seconds: time in between with at least one request in the engine.
        deaths: how often it had to be started again.
    """

    number: int
    node: str = ""
    first: float = 0.0
    last: float = 0.0
    busy_seconds: float = 0.0
    requests: int = 0
    completion_tokens: int = 0
    deaths: int = 0

    @computed_field
    @property
    def busy_share(self) -> float:
        """Share of the time between the first request and the last answer in which the engine had work."""
        return min(1.0, self.busy_seconds / (self.last - self.first)) if self.last > self.first else 1.0

    @computed_field
    @property
    def tokens_per_second(self) -> float:
        """Completion tokens a second between the first request and the last answer."""
        return self.completion_tokens / (self.last - self.first) if self.last > self.first else 0.0


class PoolRecord(BaseModel):
    """What the replicas of one engine did in a run."""

    engine: EngineRecord | None = None
    gpus_per_replica: float = 0.0
    replicas: list[ReplicaRecord] = []
    busy_seconds: float = 0.0
    """Sum over workers of the time they worked on it."""

    @property
    def gpu_seconds(self) -> float:
        """What its replicas held GPUs for, from the first request to the last answer of each."""
        return sum(max(0.0, replica.last - replica.first) for replica in self.replicas) * self.gpus_per_replica


class RoleRecord(PoolRecord):
    """What one engine of a stage did in a run. It has replicas of its own where it takes GPUs.

    Attributes:
        passes: texts that it scored.
        prompt_tokens: the cached ones included.
    """

    calls: int = 0
    passes: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0


class StageRecord(PoolRecord):
    """One stage of one run: where its dataset is and what was done for it."""

    model_config = ConfigDict(extra="ignore")

    name: str
    operator: str
    dataset: str
    """Name of the contract's dataset: problems, samples, verdicts, scores, answers, sft, measures..."""
    kind: Literal["store", "snapshot"]
    path: str
    """Relative to the root: a Delta table (store) or a folder of Parquet parts (snapshot)."""
    view_id: str
    inputs: dict[str, str] = {}
    """Input name -> stage name."""
    planned: int = 0
    """Rows (stores) or problems (snapshots) that the view asks for."""
    reused: int = 0
    """Of these, how many were there before the run."""
    computed: int = 0
    """Rows or problems this run made."""
    failed: int = 0
    """Rows with ``status = error``."""
    quarantined: int = 0
    """Rows left out because the work on them kept failing; see ``quarantine.jsonl`` in the run's folder."""
    skipped: int = 0
    """Samples left out because their prompt leaves no room for an answer (``sample.too_long=skip``)."""
    accepted: int = 0
    """Correct verdicts this run made."""
    unparseable: int = 0
    """Verdicts that found no answer."""
    truncated: int = 0
    """Samples that were cut at max_tokens."""
    queued: int = 0
    """Rows that are in an engine or with a worker now, or wait there; 0 once the run has ended."""
    seconds: float = 0.0
    """Wall time between the first and the last piece of work."""
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    """Tokens of this run's calls to the stage's engine; prompt tokens include the cached ones."""
    estimated: int = 0
    """Answers of this run whose tokens the engine didn't tell, or told what can't be: counted at their worst case."""
    overrun: str = ""
    """What its engine takes beyond what is asked of it, for people; empty where it keeps to it."""
    calls: int = 0
    """Calls to its engines in this run, where it asks about samples or plays episodes; texts that were scored are
    ``passes``."""
    passes: int = 0
    roles: dict[str, RoleRecord] = {}
    """What the engine of each role took, where a strategy asks several engines."""
    policy: str | None = None
    """Who decided how many samples each problem got; None where all got the same."""
    complete: bool = False
    view: str | None = None
    """File of the view, relative to the root (stores only): problem_key, first, count."""

    def add_calls(
        self, role: str, calls: int, passes: int, prompt_tokens: int, cached_prompt_tokens: int, completion_tokens: int
    ) -> None:
        """Count what one role's calls took."""
        took = {
            "calls": calls,
            "passes": passes,
            "prompt_tokens": prompt_tokens,
            "cached_prompt_tokens": cached_prompt_tokens,
            "completion_tokens": completion_tokens,
        }
        for record in (self, *([self.roles[role]] if role in self.roles else [])):
            for name, value in took.items():
                setattr(record, name, getattr(record, name) + value)

    def role(self, name: str) -> PoolRecord:
        """Return the record of one of its engines; of its own where the name is empty."""
        return self if not name else self.roles.setdefault(name, RoleRecord())

    @property
    def pools(self) -> dict[str, PoolRecord]:
        """Role -> record of all its engines; the name of its own is empty."""
        return {"": self, **self.roles}

    @property
    def all_gpu_seconds(self) -> float:
        """``gpu_seconds`` of all its engines together."""
        return sum(pool.gpu_seconds for pool in self.pools.values())


class Spending(BaseModel):
    """What a run's account had spent in the end, earlier runs on it included.

    Attributes:
        orphaned_tokens: of this run's, charged at their worst case because nothing came back.
    """

    account: str
    samples: int = 0
    tokens: int = 0
    microdollars: int = 0
    gpu_hours: float = 0.0
    orphaned_samples: int = 0
    orphaned_tokens: int = 0
    caps: dict[str, float] = {}

    @property
    def share(self) -> float:
        """Share of the tightest cap that is spent; 0 without caps."""
        spent = {
            "samples": self.samples,
            "tokens": self.tokens,
            "dollars": self.microdollars / MICRO,
            "gpu_hours": self.gpu_hours,
        }
        return max((spent[name] / cap for name, cap in self.caps.items() if name in spent), default=0.0)


class Posterior(BaseModel):
    """What a run learned about how hard its problems are: success rates come from a Beta(a, b) (maximum likelihood).

    Attributes:
        model: whose samples were judged.
        samples, correct: over all problems.
    """

    model: str
    a: float
    b: float
    problems: int
    samples: int
    correct: int


class RunManifest(BaseModel):
    """One execution of a pipeline. Written at the start (``running``) and at the end; data first, record last."""

    model_config = ConfigDict(extra="ignore")

    run_id: str
    pipeline: str
    state: RunState
    started: datetime
    finished: datetime | None = None
    command: str = ""
    """The command that makes this run again."""
    runner: str = ""
    job: str | None = None
    """The submission or the night that it belongs to."""
    config: dict[str, Any] = {}
    """The resolved configuration, every default filled in."""
    versions: dict[str, str] = {}
    stages: list[StageRecord] = []

    @property
    def replicas(self) -> list[tuple[str, ReplicaRecord]]:
        """All replicas, each with the stage (and the role) that it is for."""
        pools = [(stage.name, role, pool) for stage in self.stages for role, pool in stage.pools.items()]
        return [(f"{name}/{role}" if role else name, one) for name, role, pool in pools for one in pool.replicas]

    problem_view: str = ""
    n_problems: int = 0
    notes: list[str] = []
    """What the source of the problems had to tell: rows without an answer, turns that aren't shown, ..."""
    account: str | None = None
    """What its spending is added up under, where it had a budget."""
    prices: dict[str, dict[str, float | None]] = {}
    """The price of each sampling stage's engine, where it is known."""
    spending: Spending | None = None
    gate_failed: bool = False
    """Whether it ended because its first samples didn't show what they had to."""
    waits_for: str | None = None
    """Why it doesn't get on, while that is so."""
    paused: Answered | None = None
    """The order by which it stands still, while it does."""
    orders: list[Answered] = []
    """What it was told while it went on, and what it answered."""
    posteriors: dict[str, Posterior] = {}
    """How likely samples are to be correct, for each stage that gives verdicts, once some sample was."""
    retired: datetime | None = None
    """When its logs and snapshots were freed (``gristmill gc``)."""
    error: str | None = None
    report: str | None = None


class SnapshotManifest(BaseModel):
    """Makes a snapshot whole: written last, under the view it was computed from."""

    view_id: str
    stage: str
    operator: dict[str, Any]
    inputs: dict[str, str]
    schema_version: int
    gristmill: str
    contract: str
    parts: dict[str, int]
    """File name -> rows."""
    rows: int
    created: datetime
