"""Rendered prompts of a chat: a JSON list of messages, or a JSON object with ``messages`` and ``tools``."""

from __future__ import annotations

import json
from typing import Any


def members(prompt: str) -> str:
    """Return a prompt as members of a JSON object, without its braces."""
    return f'"messages": {prompt}' if prompt.startswith("[") else prompt[1:-1]


def chat(prompt: str, answer: str) -> dict[str, Any]:
    """Return a prompt with one more turn, the assistant's, unless that says nothing."""
    asked: dict[str, Any] = json.loads(f"{{{members(prompt)}}}")
    if answer:
        asked["messages"].append({"role": "assistant", "content": answer})
    return asked
