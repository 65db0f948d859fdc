"""A store: append-only facts about samples, one Delta table, never two values for one key.

Workers write parts; the driver commits them in groups. Three rules keep every key's first value:

* *One writer*: a run takes a store's lease before it writes. Taking it is a commit that raises the store's epoch.
* *Fencing*: all commits carry the next number of one Delta application transaction, so of two writers that didn't see
  each other's work the second one's commit fails by protocol. It then looks at the epoch: a writer that slept past its
  lease finds a higher one and can never commit again.
* *First commit wins*: keys that are already there are cut from what is committed.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any

from deltalake import Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from cluster.storage.contents import WRITER, Contents
from cluster.storage.delta import append_entry
from cluster.storage.delta_log import sync_log
from cluster.storage.lease import LEASE_SECONDS, Lease, publish_lease, read_lease, watch
from cluster.storage.numbering import Numbering
from cluster.storage.parts import Part, write_part
from cluster.storage.patience import is_away
from cluster.storage.ranges import Ranges, RangeSet, restrict
from cluster.storage.root import Root
from cluster.storage.slices import scan_files
from schemas.contract import Contract
from schemas.errors import GristmillError, LeaseLost, StoreBusy

EPOCH = "gristmill.epoch"
"""The Delta application id whose transaction number is the epoch: how often the writer has changed."""
ATTEMPTS = 20


class Store(Contents):
    """A store as one writer sees it: its contents, the lease that it takes on them, and what it commits."""

    def __init__(
        self,
        root: Root,
        folder: str,
        contract: type[Contract],
        fingerprint: dict[str, Any],
        numbering: Numbering | None = None,
    ) -> None:
        super().__init__(root, folder, contract, fingerprint, numbering)
        self.lease: Lease | None = None
        self._lease_seconds = LEASE_SECONDS

    # -- the lease -----------------------------------------------------------------------------------------------

    def acquire(self, run_id: str, seconds: float = LEASE_SECONDS) -> None:
        """Become the store's one writer.

        Raises:
            StoreBusy: another run is.
        """
        self.create()
        assert self._table is not None
        self._lease_seconds = seconds
        for _ in range(ATTEMPTS):
            self.refresh()
            epoch = self._last_number(EPOCH)
            current = watch(lambda epoch=epoch: self._settled_lease(epoch, seconds))
            if current is not None and current.alive():
                raise StoreBusy(
                    f"store {self.folder} is being written by {current.describe()}. Wait for it (--if-busy wait), use "
                    "what is there (--if-busy read), or end that run first"
                )
            if self._try_commit([], epoch + 1):
                self.refresh()
                if self._last_number(EPOCH) == epoch + 1:  # else it slept, and another took over
                    self.lease = Lease.of(run_id, epoch + 1, seconds)
                    publish_lease(self.root, self.folder, self.lease)
                    return
        raise StoreBusy(f"store {self.folder}: other runs took it {ATTEMPTS} times in a row; try again later")

    def _settled_lease(self, epoch: int, seconds: float) -> Lease | None:
        """Return the lease file; where the log is ahead of it, its writer is given a moment to publish."""
        until = time.monotonic() + min(2.0, seconds / 4)
        while True:
            current = read_lease(self.root, self.folder)
            if epoch == (current.epoch if current else 0) or time.monotonic() > until:
                return current
            time.sleep(0.1)

    def renew(self) -> bool:
        """Hold the lease for longer; False where it has lapsed, or isn't held: then see ``reclaim``.

        Any thread may call it, while another commits: it touches nothing but the lease.
        """
        lease = self.lease
        if lease is None or not lease.held():
            return False
        self.lease = Lease.of(lease.run_id, lease.epoch, self._lease_seconds)
        publish_lease(self.root, self.folder, self.lease)
        return True

    def reclaim(self) -> None:
        """Take a lease up again that lapsed (was the machine asleep?), if nobody else wanted it meanwhile.

        Raises:
            LeaseLost: another run took over.
        """
        if self.lease is not None and not self.lease.held():
            self.refresh()
            self._check_epoch()
            self.lease = Lease.of(self.lease.run_id, self.lease.epoch, self._lease_seconds)
            publish_lease(self.root, self.folder, self.lease)

    def release(self) -> None:
        """Let others write. A lease that lapsed is looked at first: it may be another's by now.

        Raises:
            LeaseLost: it is.
        """
        if self.lease is not None:
            if not self.lease.held():
                self.refresh()
                self._check_epoch()
            lease, self.lease = self.lease, None
            publish_lease(self.root, self.folder, lease.model_copy(update={"released": True}))

    def _check_epoch(self) -> None:
        assert self.lease is not None
        epoch = self._last_number(EPOCH)
        if epoch == self.lease.epoch:
            return
        mine, self.lease = self.lease, None
        current = read_lease(self.root, self.folder)
        raise LeaseLost(
            f"store {self.folder}: run {mine.run_id} didn't renew its lease in time (was the machine asleep?), and "
            f"{current.describe() if current else 'another run'} took over. This run stops; nothing that was committed "
            "is lost, and the same command goes on once the other is done"
        )

    # -- writing -------------------------------------------------------------------------------------------------

    def commit(self, parts: list[Part]) -> list[Part]:
        """Commit parts as one transaction; return what was committed of them.

        Keys that are already in the store are dropped first: a part that overlaps is written again without them.

        Raises:
            LeaseLost: another run took over; nothing was committed.
            StorageUnavailable, StorageFull: nothing was committed.
        """
        self._check_lease()
        for _ in range(ATTEMPTS):
            parts = self._without_held(parts)
            if not parts:
                return []
            if self._commit_files(parts, ()):
                return parts
        raise GristmillError(f"store '{self.folder}': {ATTEMPTS} commits in a row were overtaken; try again later")

    def replace(self, old: Iterable[str], new: Part) -> bool:
        """Put one file with the same rows in the place of ``old``; False if one of them is gone already.

        Raises:
            LeaseLost: another run took over; nothing was committed.
        """
        self._check_lease()
        names = list(old)
        for _ in range(ATTEMPTS):
            if not all(name in self.files for name in names):
                return False
            if self._commit_files([new], names):
                return True
        return False

    def drop(self, names: Collection[str], instead: Collection[Part] = ()) -> bool:
        """Take files and their rows out of the table, in one commit; ``instead`` has those of their rows that stay.

        The files stay on disk until they are vacuumed. Keys that no file has any more are missing from now on. False if
        one of the files is gone already.

        Raises:
            LeaseLost: another run took over; nothing was committed.
        """
        self._check_lease()
        for _ in range(ATTEMPTS):
            if not all(name in self.files for name in names):
                return False
            if self._commit_files(list(instead), names, keeps_rows=False):
                return True
        return False

    def _check_lease(self) -> None:
        """Before each commit: the lease is ours, or it lapsed and nobody wanted it."""
        if self.lease is None:
            raise LeaseLost(f"store {self.folder}: this run doesn't hold its lease, so it can't commit")
        if not self.lease.held():
            self.reclaim()

    def _commit_files(self, parts: list[Part], gone: Collection[str], *, keeps_rows: bool = True) -> bool:
        """Commit additions and removals; ``keeps_rows`` says that the rows of what is removed are in ``parts``."""
        now = int(time.time() * 1000)
        changed = not (gone and keeps_rows)
        actions: list[AddAction | RemoveAction] = [
            AddAction(part.name, part.size, {}, now, changed, part.stats) for part in parts
        ]
        actions += [RemoveAction(name, changed, now, self.sizes.get(name), {}) for name in gone]
        done = self._try_commit(actions)
        if not done:
            self.refresh()
            self._check_epoch()
            # it went through, only the answer was lost
            done = all(part.name in self.files for part in parts) and not any(name in self.files for name in gone)
        else:
            left = self._forget(gone)
            self.sizes.update((part.name, part.size) for part in parts)
            self.rows.update((part.name, part.rows) for part in parts)
            if gone and keeps_rows:
                self._take_in({part.name: left.merged() for part in parts})
            else:
                self._take_in({part.name: self.numbering.ranges(part.ranges) for part in parts})
            if not keeps_rows:
                self._let_go(left)
        return done

    def _try_commit(self, actions: list[AddAction | RemoveAction], epoch: int | None = None) -> bool:
        """Commit, numbered; False where another writer's commit came first, or may have been this one's."""
        assert self._table is not None
        table = self._table
        numbers = [Transaction(WRITER, self._sequence + 1)]
        if epoch is not None:
            numbers.append(Transaction(EPOCH, epoch))
        before = table.version()

        def commit() -> None:
            append_entry(self.root, self.folder, table, actions, numbers, self.contract)

        try:
            if self.root.is_local:
                self._patiently(commit, "committing to")
            else:
                commit()
        except CommitFailedError:
            return False
        except (DeltaError, OSError) as error:
            if self.root.is_local or not is_away(error):
                raise
            # the storage may have taken the commit and lost the answer: wait until the log can be read, then look
            self._patiently(table.update_incremental, "reading the log of")
            return False
        self._patiently(table.update_incremental, "reading the log of")
        self._patiently(lambda: sync_log(self.root, self.folder, before, table.version()), "committing to")
        self._sequence += 1
        if epoch is None and table.version() > before + 1:
            self._check_epoch()  # asleep right after the commit, so that another's takeover is known and not noticed
        return True

    def _without_held(self, parts: list[Part]) -> list[Part]:
        """Cut from each part the keys that the store, or an earlier part of this commit, already has.

        Where keys repeat, more rows of one are no second value.
        """
        if self.contract.repeats:
            return [part for part in parts if part.rows and part.name not in self.files]
        kept: list[Part] = []
        seen = RangeSet()
        for part in parts:
            ranges = self.numbering.ranges(part.ranges)
            fresh = seen.missing(self.held.missing(ranges))
            if fresh.total < part.rows:
                part = self._rewrite(part, fresh)
            if part.rows:
                kept.append(part)
            seen.add(ranges)
        return kept

    def _rewrite(self, part: Part, wanted: Ranges) -> Part:
        if not wanted:
            return Part(part.name, 0, 0, "{}")
        rows = scan_files(self.root, self.root.uri(self.folder, part.name), self.contract)
        keyed = self.numbering.keyed(wanted)
        table = self._patiently(lambda: restrict(rows, keyed).collect(), "reading a part of")
        return write_part(self.root, self.folder, table, self.contract, self.folder)
