"""Imported by a fork server alone: it yields to the engine, and it doesn't outlive the process that started it.

Verification shares the machine with engines that must never wait, so its processes run at low priority. And a fork
server's own rule for ending (the other end of a pipe was closed) fails while a worker, which inherits the pipe, hangs;
so it looks whether its parent is still there. Its workers have asked the kernel to end with it.
"""

from __future__ import annotations

import os
import threading
import time

from cluster.tools.cores import give_way

SECONDS_BETWEEN_LOOKS = 1.0


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


give_way()
threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
