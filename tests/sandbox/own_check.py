"""A check that runs what a model wrote."""

from __future__ import annotations


def runs(completion: str, answer: str) -> tuple[str, bool]:
    found: dict[str, object] = {}
    exec(completion, found)
    print("True")
    return str(found["x"]), str(found["x"]) == answer
