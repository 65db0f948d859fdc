"""What the page may do with ``--control``: tell a run something, and annotate a verdict. Everything else only reads.

``guard`` lets a POST by only with the page's own header and from its own origin. A body is small JSON, and each field
of it is looked at before anything is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from anyio.to_thread import run_sync
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cluster.records.annotations import annotate, annotations_of
from cluster.records.orders import author, give, new_order
from jobs.looking.labels import audit, next_labels
from jobs.view.shown import Shown
from jobs.view.watched import Watched
from schemas.errors import BadInput, GristmillError, RunIncomplete
from schemas.orders import Action

MOST_BYTES = 64 * 1024
"""Of a body."""
ANSWER_SECONDS = 20.0
"""How long the page waits for a run's answer."""
MOST_NEXT = 200
KEYS = ("problem_key", "sample_index")


class Told(BaseModel):
    """An order, as the page sends it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    action: Action
    values: dict[str, str | int | float | bool | None] = Field(default={}, max_length=20)
    problem: str = Field(default="", max_length=1_000)
    reason: str = Field(default="", max_length=1_000)


class Marked(BaseModel):
    """An annotation, as the page sends it (``cluster.records.annotations.Said``, which looks at the values)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    problem_key: str
    sample_index: int
    is_correct: bool | None
    note: str = ""
    stratum: str | None = None
    stratum_size: int | None = None


def acting_routes(shown: Shown, answer: Callable[..., Response]) -> list[Route]:
    """Return the routes.

    Args:
        answer: makes a response of a document, and a status.
    """

    def reads(make: Callable[[Request, Watched], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return answer(await run_sync(lambda: make(request, shown.watched(request.path_params["run"]))))

        return endpoint

    def acts(kind: type[BaseModel], act: Callable[[Watched, Any], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            wanted = await _body(request, kind)
            watched = await run_sync(shown.watched, request.path_params["run"])
            try:
                return answer(await run_sync(act, watched, wanted))
            except BadInput as error:
                return answer({"error": str(error)}, 409)
            except RunIncomplete as error:
                return answer({"error": str(error)}, 504)

        return endpoint

    run = "/api/run/{run}"
    return [
        Route(f"{run}/annotation", reads(lambda request, watched: what_was_said(watched, request.query_params))),
        Route(f"{run}/audit", reads(lambda _, watched: audit_of(watched))),
        Route(f"{run}/next", reads(lambda request, watched: following(watched, request.query_params.get("count", "")))),
        Route(f"{run}/order", acts(Told, order), methods=["POST"]),
        Route(f"{run}/annotate", acts(Marked, mark), methods=["POST"]),
    ]


async def _body(request: Request, kind: type[BaseModel]) -> BaseModel:
    """Return what was sent.

    Raises:
        HTTPException: it isn't JSON, too long, or not what is taken.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send JSON")
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MOST_BYTES:
            raise HTTPException(413, "that is too long")
    try:
        return kind.model_validate(json.loads(data))
    except ValidationError as error:
        first = error.errors()[0]
        raise HTTPException(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "that isn't JSON") from error


def order(watched: Watched, told: Told) -> dict[str, Any]:
    """Tell a run something, and wait for its answer."""
    given = new_order(told.action, f"{author()}, on the page", told.reason, dict(told.values), told.problem)
    return give(watched.root, watched.run_id, given, ANSWER_SECONDS).model_dump(mode="json")


def mark(watched: Watched, said: Marked) -> dict[str, Any]:
    """Write an annotation down."""
    row = annotate(watched.root, watched.manifest, [{**said.model_dump(), "author": author()}]).row(0, named=True)
    return {name: row[name] for name in (*KEYS, "is_correct", "note", "author", "time")}


def what_was_said(watched: Watched, asked: Mapping[str, str]) -> dict[str, Any]:
    """Return what was said of one verdict last; null where nothing was, or it was taken back."""
    key, index = (asked.get(name, "") for name in KEYS)
    if not (index.isascii() and index.isdigit() and len(index) < 11):
        raise BadInput("say which sample: problem_key=KEY&sample_index=N")
    columns = (*KEYS, "is_correct", "accepted", "note", "author", "time")
    rows = annotations_of(watched.root, watched.manifest, (key, int(index))).select(columns).to_dicts()
    return {"problem_key": key, "sample_index": int(index), "said": rows[0] if rows else None}


def audit_of(watched: Watched) -> dict[str, Any]:
    """Return what an audit makes of what was said."""
    try:
        return audit(watched.root, watched.manifest)
    except GristmillError as error:
        return {"annotated": 0, "labels": 0, "rows": [], "agree": 0, "why": str(error)}


def following(watched: Watched, count: str) -> dict[str, Any]:
    """Return the samples whose annotation would tell most, each with its place in the index."""
    wanted = min(MOST_NEXT, int(count)) if count.isascii() and count.isdigit() and 0 < len(count) < 6 else 20
    try:
        rows = next_labels(watched.root, watched.manifest, max(1, wanted))
    except BadInput as error:
        return {"next": [], "why": str(error)}
    _, places = watched.open()
    columns = ("problem_key", "sample_index", "problem_id", "accepted", "stratum", "stratum_size")
    found = rows.select(columns).to_dicts()
    return {"next": [{**row, "slot": places.slot(row["problem_key"], row["sample_index"])} for row in found], "why": ""}
