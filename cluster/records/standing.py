"""Standing orders: what a run was told and what holds for whoever goes on with it, too.

A run that was killed is started again as another run, which knows nothing of the first. So what stands of its orders
(that it is paused, and settings that were changed) lies under a name that both know: ``orders/NAME.json``, NAME being
of the pipeline, the night or submission, and the stores that are sampled. It is gone once a run of that name is done or
was cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from cluster.storage.documents import read_document
from cluster.storage.root import Root
from schemas.identity import digest
from schemas.manifest import RunManifest
from schemas.orders import Answered

FOLDER = "orders"
REMEDY = "What stood in it holds no more: give the orders again, and delete the file"


class Changed(BaseModel):
    """A setting that was changed while a run went on.

    Attributes:
        before: what the run's command said: where another command says something else now, that holds.
        order: by which it was changed.
    """

    value: Any
    before: Any
    order: Answered


class Standing(BaseModel):
    """What stands.

    Attributes:
        run_id: the run that was told last.
    """

    run_id: str = ""
    paused: Answered | None = None
    settings: dict[str, Changed] = {}


class StandingOrders:
    """The file of one line of runs."""

    def __init__(self, root: Root, manifest: RunManifest, folders: Iterable[str]) -> None:
        """Args:
        folders: of the stores that are sampled.
        """
        self.root = root
        name = digest([manifest.pipeline, manifest.job or "", *sorted(set(folders))])[:24]
        self._place = (FOLDER, f"{name}.json")
        self._there = False

    def read(self) -> Standing:
        """Return what stands; nothing where the file is damaged, which is told of."""
        self._there = self.root.exists(*self._place)
        found = read_document(self.root, Standing, REMEDY, *self._place) if self._there else None
        return found or Standing()

    def write(self, standing: Standing) -> None:
        """Write what stands; no file where nothing does."""
        if standing.paused is None and not standing.settings:
            self.forget()
            return
        self.root.write_bytes(standing.model_dump_json(indent=2).encode(), *self._place)
        self._there = True

    def forget(self) -> None:
        """Let nothing stand any more."""
        if self._there:
            self.root.remove(*self._place)
            self._there = False
