"""The web application: routes, limits, the token, what is counted. Needs Starlette."""

import contextlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from sea_jax.errors import SeaError
from sea_jax.serving.answers import Answers, Refused, question
from sea_jax.serving.catalogue import PICTURES
from sea_jax.serving.metrics import Metrics

LARGEST_BODY = 1 << 20  # bytes
SENTENCE = 500  # letters of an error, which may repeat what was asked
PAGE = Path(__file__).parent / "page"
PAGES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
LISTS = ("allow", "categories", "deny", "exclude", "items")  # of GET /recommend
METHODS = ("GET", "HEAD", "POST")


def application(answers: Answers, token: str = "", workers: int = 4, hosts: tuple[str, ...] = ()) -> Starlette:
    """The service as an ASGI application.

    Args:
      answers: what it says.
      token: asked of everybody as "Authorization: Bearer TOKEN", save for /health and the page's own files; "" asks nobody.
      workers: threads that compute; whoever comes while they are busy waits.
      hosts: names that a request may be addressed to, without the port; any if there are none.
    """
    metrics = Metrics(users=len(answers.made.user_ids), items=len(answers.made.item_ids))
    threads = anyio.CapacityLimiter(workers)

    async def computed(make: Callable[[], Any]) -> Any:
        return await anyio.to_thread.run_sync(make, limiter=threads)

    def allowed(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if token and not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {token}".encode()):
            raise Refused(401, "Say who you are: send the header Authorization: Bearer TOKEN.")

    def route(path: str, name: str, endpoint: Callable, method: str = "GET", open_to_all: bool = False) -> Route:
        async def answer(request: Request) -> Response:
            if not open_to_all:
                allowed(request)
            return await endpoint(request)

        return Route(path, answer, methods=[method], name=name)

    def asks(make: Callable[..., dict], *names: str) -> Callable:
        """An endpoint that answers make(part of the path, fields of the address)."""

        async def endpoint(request: Request) -> Response:
            fields = query(request)
            for name in fields:
                if name not in names:
                    raise Refused(
                        400, f"There is no field {name[:80]!r} here; there are: {', '.join(names) or 'none'}."
                    )
            return as_json(await computed(lambda: make(*request.path_params.values(), **fields)))

        return endpoint

    async def get_recommend(request: Request) -> Response:
        asked = question(query(request, several=LISTS))
        return as_json(await computed(lambda: answers.recommend(asked)))

    async def post_recommend(request: Request) -> Response:
        asked = question(parsed(await body(request)))
        return as_json(await computed(lambda: answers.recommend(asked)))

    async def similar(request: Request) -> Response:
        fields = query(request)
        if "item" not in fields or set(fields) - {"item", "k"}:
            raise Refused(400, "Name an item, and perhaps k, as in /similar?item=7&k=5.")
        return as_json(await computed(lambda: answers.similar(**fields)))

    async def picture(request: Request) -> Response:
        file = answers.picture(request.path_params["item"])
        if not file.is_file():  # it was there when the service started
            raise Refused(404, "The picture is gone.")
        return FileResponse(file, media_type=PICTURES[file.suffix.lower()], headers=SAFE | {"cache-control": "private"})

    async def health(request: Request) -> Response:
        return as_json(answers.health())

    async def told(request: Request) -> Response:
        return Response(metrics.text(), headers=SAFE, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def page(request: Request) -> Response:
        file, kind = PAGES[request.url.path]
        return Response((PAGE / file).read_bytes(), headers=SAFE | {"cache-control": "no-cache"}, media_type=kind)

    routes = [
        route("/recommend", "/recommend", get_recommend),
        route("/recommend", "/recommend", post_recommend, "POST"),
        route("/similar", "/similar", similar),
        route("/items", "/items", asks(answers.find_items, "search", "limit")),
        route("/users", "/users", asks(answers.find_users, "search", "limit")),
        route("/items/{item:path}", "/items/ITEM", asks(answers.item)),
        route("/users/{user:path}", "/users/USER", asks(answers.user, "k")),
        route("/pictures/{item:path}", "/pictures/ITEM", picture),
        route("/metrics", "/metrics", told),
        route("/health", "/health", health, open_to_all=True),
        *(route(path, "page", page, open_to_all=True) for path in PAGES),
    ]
    names = {one.endpoint: one.name for one in routes}

    class Watched:
        """Counts each request under its route, status and seconds."""

        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            if scope["type"] != "http":
                return await self.app(scope, receive, send)
            status, began = 500, time.perf_counter()
            if hosts and host_of(scope) not in hosts:
                refusal = as_json({"error": "This service answers on this machine alone, as localhost."}, 400)
                metrics.count("other", "other", 400, 0.0)
                return await refusal(scope, receive, send)

            async def sent(message):
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await self.app(scope, receive, sent)
            finally:
                method = scope["method"] if scope["method"] in METHODS else "other"
                metrics.count(names.get(scope.get("endpoint"), "other"), method, status, time.perf_counter() - began)

    refusals = {Refused: refused, SeaError: unfit, HTTPException: unrouted, ClientDisconnect: unfit, Exception: failed}
    app = Starlette(routes=routes, exception_handlers=refusals)
    app.add_middleware(Watched)
    app.router.redirect_slashes = False
    return app


def host_of(scope: dict) -> str:
    """The name, without the port, that a request is addressed to; "" where it does not say."""
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def as_json(value: dict, status: int = 200, headers: dict | None = None) -> Response:
    """JSON in ASCII, so that no string can spoil it; numbers are finite or it is an error of ours."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(text, status, headers=SAFE | (headers or {}), media_type="application/json")


def query(request: Request, several: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of an address: numbers and truth as such, lists where a field may be repeated or have commas."""
    fields: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        if name in several:
            fields.setdefault(name, []).extend(one for one in text.split(",") if one)
        elif name in fields:
            raise Refused(400, f"{name[:80]} is there twice.")
        elif name in ("k", "limit"):
            fields[name] = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
        elif name in ("exclude_seen", "remove_seen", "explain", "only_new"):
            fields[name] = {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
        elif name == "diversity":
            fields[name] = text
            with contextlib.suppress(ValueError):
                fields[name] = float(text)
        else:
            fields[name] = text
    return fields


async def body(request: Request) -> bytes:
    """The body, as far as it is not too large."""
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > LARGEST_BODY:
            raise Refused(413, f"The body is larger than {LARGEST_BODY} bytes.")
    return bytes(found)


def parsed(data: bytes) -> dict[str, Any]:
    """The object that a body of JSON holds."""

    def none(text):
        raise ValueError(text)

    def once(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name twice")
        return found

    try:
        value = json.loads(data.decode("utf-8"), parse_constant=none, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The body is no JSON (in UTF-8, each name once, numbers finite).") from error
    if not isinstance(value, dict):
        raise Refused(400, 'The body must be a JSON object, such as {"user": 7, "k": 5}.')
    return value


async def refused(request: Request, error: Exception) -> Response:
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else None
    return as_json({"error": str(error)[:SENTENCE]}, error.status, headers)


async def unfit(request: Request, error: Exception) -> Response:
    return as_json({"error": str(error)[:SENTENCE] or "The question was cut short."}, 400)


async def unrouted(request: Request, error: Exception) -> Response:
    sentence = "There is nothing here." if error.status_code == 404 else f"{request.method[:20]} is not answered here."
    return as_json({"error": sentence}, error.status_code, error.headers)


async def failed(request: Request, error: Exception) -> Response:
    return as_json({"error": "The service failed; its log says how."}, 500)
