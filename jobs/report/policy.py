"""What a page of ours may do in a browser, as its Content-Security-Policy: run its own script, and nothing else.

Every page that we write says so in its head, before anything that holds a run's data. A page opened from a file has no
server to say it.
"""

from __future__ import annotations

import base64
import hashlib

NOTHING_BUT = "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'"
"""No network, no frames, no forms. Styles may stand in elements, as widths of bars do; they can load nothing."""


def policy(*scripts: str) -> str:
    """Return the policy of a page.

    Args:
        scripts: the texts between ``<script>`` and ``</script>`` that may run, to the letter.
    """
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"{NOTHING_BUT}; script-src {allowed}" if allowed else NOTHING_BUT
