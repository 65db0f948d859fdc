"""What the tests of vLLM share: engines take half a minute to start. They are collected only where vLLM is:
``make test-vllm`` makes that environment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from tests import engines
from tests.engines import Running, shared
from tests.with_vllm.models import CLASSIFIER, PROCESS, make_all
from tests.with_vllm.vllm_cpu import on_cpu

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")


@contextlib.contextmanager
def running(**changes: Any) -> Iterator[Running]:
    with engines.running(on_cpu(**changes)) as found:
        yield found


@pytest.fixture(scope="session", autouse=True)
def models() -> None:
    make_all()


@pytest.fixture(scope="session")
def smollm2(models: None) -> Iterator[Running]:
    """SmolLM2 in vLLM, with everything it can tell of a sample."""
    with shared(on_cpu(confidence=True)) as found:
        yield found


@pytest.fixture(scope="session")
def classifier(models: None) -> Iterator[Running]:
    with running(model=str(CLASSIFIER), task="classify") as found:
        yield found


@pytest.fixture(scope="session")
def process_rewards(models: None) -> Iterator[Running]:
    with running(model=str(PROCESS), task="token_classify") as found:
        yield found
