"""``python -m tests.drift``: write down what operators say whose version is new.

An operator that says something else under the same version is refused: raise its ``version``. ``--rewrite`` writes all
files anew, for when the questions have changed (``cases.py``, ``inputs/``, ``tools.py``) and the operators haven't.
"""

from __future__ import annotations

import sys

from operators import OPERATORS, operator_class
from tests.drift.goldens import current, difference, keep, kept


def main(rewrite: bool) -> int:
    """Write what is new; return how many operators were refused."""
    refused = 0
    for name in OPERATORS:
        version, known = operator_class(name).version, kept(name)
        try:
            now = current(name)
        except Exception as error:
            refused += 1
            print(f"{name}: its questions in tests/drift/cases.py don't suit it: {type(error).__name__}: {error}")
            continue
        found = None if known is None else difference(known, now)
        if known is None or (found is not None and rewrite):
            keep(name, now)
            print(f"{name}: written for version {version}")
        elif found is not None:
            refused += 1
            print(f"{name}: version {version} says something else than it did ({found}); raise its version")
    return refused


if __name__ == "__main__":
    sys.exit(min(1, main("--rewrite" in sys.argv[1:])))
