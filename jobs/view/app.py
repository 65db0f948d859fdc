"""What there is to ask: the page, its files, and a JSON document or a stream for each thing that it shows."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date, datetime
from importlib.resources import files
from typing import Any

import anyio
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jobs.view.acting import acting_routes
from jobs.view.filters import SORTS, Filter, read_filter
from jobs.view.index import Index
from jobs.view.search import search
from jobs.view.shown import Shown
from jobs.view.slots import Places
from schemas.errors import BadInput, GristmillError

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".woff2": "font/woff2",
    ".svg": "image/svg+xml",
}
MOST = 500
"""Samples of a page."""
LIVE_SECONDS = 0.5
"""How often a stream looks whether there is news."""
QUIET_SECONDS = 10.0
"""A stream without news says so, to learn whether anybody is there."""


def page_files() -> dict[str, bytes]:
    """Return the page's files by name."""
    folder = files("jobs.view").joinpath("static")
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()}


def build_app(shown: Shown, control: str | None = None) -> Starlette:
    """Return the application; who may ask it is up to ``Guard``.

    Args:
        control: what the page has to send with whatever it wants done; None where it only reads.
    """
    static = page_files()

    async def file(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in static:
            raise HTTPException(404)
        return Response(static[name], media_type=TYPES.get(name[name.rfind(".") :], "application/octet-stream"))

    def answers(make: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return _json(await run_sync(make, request))

        return endpoint

    def samples(make: Callable[[Request, Any, Index, Places], Any]) -> Callable[[Request], Any]:
        """Make an endpoint about a run's samples; as long as their index is being made, it says how far that is."""

        def answer(request: Request) -> Response:
            of_run = shown.samples(request.path_params["run"])
            if not of_run.ready:
                return _json({"making": of_run.progress}, 202)
            return _json(make(request, of_run, *of_run.open()))

        async def endpoint(request: Request) -> Response:
            return await run_sync(answer, request)

        return endpoint

    async def live(request: Request) -> Response:
        watched = await run_sync(shown.watched, request.path_params["run"])
        return _stream(_news(shown, watched))

    async def searched(request: Request) -> Response:
        asked = dict(request.query_params)

        def found() -> Iterator[dict[str, Any]]:
            try:
                if not of_run.ready:
                    raise BadInput("the index of the samples is being made")
                index, places = of_run.open()
                wanted = read_filter(asked, index, places)
                yield from search(of_run, index, wanted, asked.get("text", ""), asked.get("regex") == "1")
            except GristmillError as error:  # in the stream, since a browser doesn't show its pages others' words
                yield {"hits": [], "searched": 0, "done": True, "error": str(error)}

        of_run = await run_sync(shown.samples, request.path_params["run"])
        return _stream(_in_steps(found()))

    run = "/api/run/{run}"
    routes = [
        Route("/", file),
        Route("/static/{name}", file),
        Route("/api/about", answers(lambda _: {**shown.about(), "control": control})),
        Route("/api/runs", answers(lambda request: shown.runs(dict(request.query_params)))),
        Route("/api/compare", answers(lambda request: shown.compare(request.query_params.get("runs", "")))),
        Route(run, answers(lambda request: shown.document(request.path_params["run"]))),
        Route(f"{run}/live", live),
        Route(f"{run}/failures", answers(lambda request: shown.failures(request.path_params["run"]))),
        Route(f"{run}/policy", answers(lambda request: shown.policy(request.path_params["run"]))),
        Route(f"{run}/experts", answers(lambda request: shown.experts(request.path_params["run"]))),
        Route(f"{run}/problems", samples(lambda request, of_run, *_: of_run.problems(dict(request.query_params)))),
        Route(f"{run}/problem", samples(lambda request, of_run, *_: _found(of_run.problem(_text(request, "key"))))),
        Route(f"{run}/samples", samples(_page)),
        Route(f"{run}/count", samples(_count)),
        Route(f"{run}/names", samples(lambda _, __, index, ___: index.names)),
        Route(f"{run}/search", searched),
        Route(f"{run}/sample/{{slot:int}}", samples(_sample)),
    ]
    if control is not None:
        routes += acting_routes(shown, _json)
    refusals: dict[Any, Any] = {HTTPException: _http, GristmillError: _refuse}
    return Starlette(routes=routes, exception_handlers=refusals)


def _page(request: Request, of_run: Any, index: Index, places: Places) -> dict[str, Any]:
    """Return a page of samples: what the index knows of them, or with ``texts=1`` the beginnings of their texts."""
    asked = dict(request.query_params)
    wanted = read_filter(asked, index, places)
    limit = max(1, min(MOST, _number(asked.get("limit", ""), 100)))
    sort = asked.get("sort", "")
    if sort in SORTS:
        offset = _number(asked.get("offset", ""), 0)
        slots = wanted.sorted_page(index, sort, asked.get("order") != "asc", offset, limit)
    else:
        slots = wanted.page(index, _number(asked.get("after", ""), -1), limit)
    if asked.get("texts") == "1":
        return {"texts": of_run.texts(slots)}
    return {"samples": of_run.lines(slots)}


def _count(request: Request, _: Any, index: Index, places: Places) -> dict[str, int]:
    wanted: Filter = read_filter(dict(request.query_params), index, places)
    return {"count": wanted.count(index)}


def _sample(request: Request, of_run: Any, index: Index, _: Places) -> dict[str, Any]:
    slot = request.path_params["slot"]
    if slot >= index.rows:
        raise HTTPException(404)
    return _found(of_run.sample(slot))


def _found(document: dict[str, Any]) -> dict[str, Any]:
    if not document:
        raise HTTPException(404)
    return document


def _text(request: Request, name: str) -> str:
    return request.query_params.get(name, "")


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else default


async def _news(shown: Shown, watched: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield a run's document whenever it changed."""
    version, quiet = None, 0.0
    while not (shown.closed or watched.closed):
        watched.ask()
        if watched.version != version:
            version, quiet = watched.version, 0.0
            yield await run_sync(shown.live, watched)
        elif quiet >= QUIET_SECONDS:
            quiet = 0.0
            yield {}
        await anyio.sleep(LIVE_SECONDS)
        quiet += LIVE_SECONDS


async def _in_steps(found: Iterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    """Yield what an iterator yields, a step at a time in another thread; whoever goes away ends it at the next step."""
    while (step := await run_sync(next, found, None)) is not None:
        yield step


def _stream(documents: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    async def lines() -> AsyncIterator[bytes]:
        async for document in documents:
            yield b"data: " + dumps(document) + b"\n\n" if document else b": nothing new\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


def _json(document: Any, status: int = 200) -> Response:
    return Response(dumps(document), status, media_type="application/json")


def dumps(document: Any) -> bytes:
    """Return a document as JSON; what isn't a number is null."""
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, default=_plain).encode("utf-8", "replace")
    except ValueError:  # not a number, somewhere: JSON has none
        return json.dumps(_known(document), ensure_ascii=False, default=_plain).encode("utf-8", "replace")


def _known(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _known(one) for name, one in value.items()}
    return [_known(one) for one in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


async def _http(_: Request, error: HTTPException) -> Response:
    return _json({"error": error.detail}, error.status_code)


async def _refuse(_: Request, error: GristmillError) -> Response:
    return _json({"error": str(error)}, 404 if isinstance(error, BadInput) else 500)
