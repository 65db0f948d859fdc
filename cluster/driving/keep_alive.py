"""Keeping a run alive: its leases are renewed and its heartbeat is written in a thread of its own.

The driver's loop may wait for a storage that is away, or for a worker that is slow to end; none of that lets a lease
lapse. A process that is stopped or dead renews nothing, so others still see that it is gone.
"""

from __future__ import annotations

import threading

from cluster.driving.claims import Claims
from cluster.records.recorder import RunRecorder


class KeepAlive:
    """A context: renews from entering to leaving, four times in the length of a lease.

    Args:
        seconds: the length of a lease.
    """

    def __init__(self, claims: Claims, recorder: RunRecorder, seconds: float) -> None:
        self.claims = claims
        self.recorder = recorder
        self.seconds = seconds
        self._end = threading.Event()
        self._beating = False
        self._beat = threading.Lock()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._renew_forever, name="gristmill-keep-alive", daemon=True)

    def __enter__(self) -> KeepAlive:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()

    def start_beating(self) -> None:
        """From now on, say that the run is alive (its manifest is there)."""
        with self._beat:
            self.recorder.beat(self.seconds)
            self._beating = True

    def stop_beating(self) -> None:
        """Write no heartbeat any more (the run is about to end)."""
        with self._beat:
            self._beating = False

    def check(self) -> None:
        """Raise what ended the renewing, if something did; take up again what lapsed. The driver's loop calls it.

        Raises:
            LeaseLost: another run took over.
            StorageUnavailable, StorageFull: the leases couldn't be written.
        """
        if self._error is not None:
            raise self._error
        self.claims.reclaim()

    def _renew_forever(self) -> None:
        while not self._end.wait(self.seconds / 4):
            try:
                self.claims.renew()
                with self._beat:
                    if self._beating:
                        self.recorder.beat(self.seconds)
            except Exception as error:  # told to the loop, which ends the run in good order
                self._error = error
                return
