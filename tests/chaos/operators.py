"""Operators of a user's own for the chaos runs: sampling whose draws can be told apart, verifiers that misbehave."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl

from operators.base import Operator
from operators.engine import Engine
from operators.sample.sampling import Sampling
from operators.verify.exact import VerifyExact
from schemas.datasets import Problem, Sample, Verdict


class MarkedSample(Sampling):
    """Mark every draw in the ``worker`` column: the scripted engine says the same when it is asked the same again, so
    without a mark nobody could see that a committed text was replaced by a second draw of its key."""

    async def draw(
        self,
        problem: Mapping[str, Any],
        prompt: str,
        sample_index: int,
        engine: Engine,
        run_id: str,
        begun: Mapping[str, Any] | None = None,
        cut_below: float | None = None,
    ) -> dict[str, Any]:
        row = await super().draw(problem, prompt, sample_index, engine, run_id, begun, cut_below)
        return {**row, "worker": uuid.uuid4().hex}


class _Verifier(Operator):
    """Base: verifies like ``verify.exact``."""

    version: ClassVar[int] = 1
    scope = "sample"
    inputs = {
        "samples": Sample.select("problem_key", "sample_index", "problem_id", "completion", "status"),
        "problems": Problem.select("problem_key", "answer"),
    }
    output = Verdict


class SlowVerify(_Verifier):
    """Takes its time, so that a worker can be killed in the middle of it."""

    seconds: float = 0.3

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
        time.sleep(self.seconds)
        return VerifyExact().run(samples=samples, problems=problems)


class TroubledVerify(_Verifier):
    """Can't cope with completions that contain ``word``, as long as the file ``switch`` says what it does about them:
    ``hang`` (never returns), ``raise`` or ``die`` (takes its process with it)."""

    word: str
    switch: str

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
        if samples["completion"].str.contains(self.word, literal=True).any():
            self._misbehave()
        return VerifyExact().run(samples=samples, problems=problems)

    def _misbehave(self) -> None:
        try:
            trouble: Literal["hang", "raise", "die"] | str = Path(self.switch).read_text().strip()
        except FileNotFoundError:
            return
        if trouble == "raise":
            raise ValueError(f"no idea what '{self.word}' means")
        if trouble == "die":
            os._exit(1)
        while trouble == "hang":
            time.sleep(3600)
