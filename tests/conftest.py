"""What holds for all tests: no example has a deadline, and the longest files come first."""

from __future__ import annotations

import logging
import os
import secrets
import sys

import pytest
from hypothesis import HealthCheck, settings

LONGEST = (
    "test_submit.py",
    "test_placement.py",
    "test_conformance.py",
    "test_hostile_calls.py",
    "test_storage.py",
    "test_desk.py",
    "test_durability_model.py",
    "test_failures.py",
    "test_episodes.py",
    "test_hostile.py",
    "test_kills.py",
    "test_verify_data.py",
    "test_spending.py",
    "test_engine_stages.py",
    "test_s3.py",
    "test_universal.py",
    "test_verify_code.py",
    "test_tools.py",
    "test_interruptions.py",
    "test_wheel.py",
    "test_nightly.py",
)
"""Files in the order in which they are given to processes that are free; the others follow as they are found."""

# How long an example takes tells how busy the machine is.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")

# Tests start hundreds of processes, and each would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Ray.init turns tokens on for the whole process that calls it: clusters that were begun without one would be cut off.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if "tests.engines" not in sys.modules:
        return
    from tests.engines import close_shared

    logging.disable()  # what an engine says as it ends would stand behind pytest's last line
    close_shared()
    if (capture := session.config.pluginmanager.getplugin("capturemanager")) is not None:
        capture.read_global_capture()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
