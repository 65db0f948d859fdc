"""A run in a thread, for tests that tell it something while it goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.driving.driver import run_pipeline
from cluster.records.orders import give, new_order
from cluster.records.reader import find_run
from cluster.records.run import RunResult
from cluster.runners.runner import Runner
from cluster.storage.root import Root
from pipelines.graph import Pipeline
from schemas.job import RunSettings
from schemas.manifest import RunManifest
from schemas.orders import Action, Answered


class Going:
    """One run; use as a context manager. Its end is waited for, whatever the test does."""

    def __init__(self, runner: Runner, pipeline: Pipeline, root: Path | str, settings: RunSettings) -> None:
        self.root = Root.at(root)
        self.runner = runner
        self.said: list[str] = []
        self.result: RunResult | None = None
        self.error: BaseException | None = None
        self.manifest: RunManifest | None = None
        self.live: dict[str, int] = {}
        self.die = False
        """Whether it shall end as if by two signals."""
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(pipeline, settings), daemon=True)

    def _run(self, pipeline: Pipeline, settings: RunSettings) -> None:
        try:
            self.result = run_pipeline(pipeline, self.runner, self.root.url, settings, self)
        except BaseException as error:
            self.error = error
        finally:
            with self._news:
                self._news.notify_all()

    def __enter__(self) -> Going:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.die = self.die or kind is not None
        self._thread.join(timeout=120)
        self.runner.close()
        assert not self._thread.is_alive(), "the run didn't end"

    def update(self, manifest: RunManifest, live: dict[str, int]) -> None:
        with self._news:
            self.manifest, self.live = manifest.model_copy(deep=True), live
            self._news.notify_all()
        if self.die:
            self.die = False
            raise KeyboardInterrupt

    def say(self, text: str) -> None:
        self.said.append(text)

    def when(self, condition: Callable[[RunManifest], Any], seconds: float = 60.0) -> RunManifest:
        """Wait until something is so; return the manifest."""
        until = time.monotonic() + seconds
        with self._news:
            while self.manifest is None or not condition(self.manifest):
                assert self._thread.is_alive() or self.manifest is None, f"it ended before: {self.error}"
                assert time.monotonic() < until, f"never so; said: {self.said}"
                self._news.wait(0.2)
            return self.manifest

    @property
    def run_id(self) -> str:
        return self.when(lambda manifest: manifest.stages).run_id

    def told(self, action: Action, values: dict[str, Any] | None = None, problem: str = "", why: str = "") -> Answered:
        """Give an order and return the answer."""
        order = new_order(action, "anna", why, values, problem)
        return give(self.root, self.run_id, order, 60.0)

    def end(self) -> RunManifest:
        """Wait for its end; return its manifest as it was written."""
        self._thread.join(timeout=120)
        assert self.manifest is not None
        return find_run(self.root, self.manifest.run_id)


def computed(manifest: RunManifest, stage: str = "sample") -> int:
    return next(record.computed for record in manifest.stages if record.name == stage)
