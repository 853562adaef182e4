"""The pages for people: `/`, the interactive documentation at `/docs`, and the problem types.

Everything comes from this process, made once at the start: no network, no template engine, and a
Content-Security-Policy that lets nothing else in. Swagger UI is in ``static/swagger-ui``.
"""

import gzip
import html
import inspect
import re
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Final

import orjson
from aiohttp import web

from ains.errors import AinsError, NotFound, problem_types
from ains.http.handler import Routes
from ains.http.openapi import build_document

__all__ = ["Page", "docs_routes", "page"]

# Swagger UI sets style attributes, and its icons are data: images.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_NO_GZIP: Final = re.compile(r"gzip\s*;\s*q=0(\.0*)?\s*(,|$)")
_SMALL: Final = 1000
_ASSETS: Final = {
    "catalog.css": "text/css",
    "catalog.js": "text/javascript",
    "docs.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "page.css": "text/css",
    "swagger-ui/swagger-ui-bundle.js": "text/javascript",
    "swagger-ui/swagger-ui.css": "text/css",
}


class Page:
    """A body that never changes: with an ETag, compressed once."""

    def __init__(self, body: bytes, media_type: str, *, compressed: bytes | None = None) -> None:
        """``compressed`` is ``body`` with gzip, when that is at hand."""
        if compressed is None and len(body) >= _SMALL:
            compressed = gzip.compress(body, mtime=0)
        self._body = body
        self._compressed = compressed
        self._etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
        text = media_type.startswith("text/")
        self._headers = {
            "Content-Type": f"{media_type}; charset=utf-8" if text else media_type,
            "ETag": self._etag,
            "Cache-Control": "no-cache",  # kept, but asked for again: an upgrade shows at once
            "Vary": "Accept-Encoding",
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }

    def respond(self, request: web.Request) -> web.Response:
        """Answer 304 when the client has it, else with the body in an encoding that it takes."""
        known = request.headers.get("If-None-Match")
        if known and (known == "*" or self._etag in known):
            return web.Response(status=304, headers=self._headers)
        accepted = request.headers.get("Accept-Encoding", "").lower()
        if self._compressed and "gzip" in accepted and not _NO_GZIP.search(accepted):
            headers = {**self._headers, "Content-Encoding": "gzip"}
            return web.Response(body=self._compressed, headers=headers)
        return web.Response(body=self._body, headers=self._headers)


@cache
def _asset(name: str) -> Page:
    root = files("ains.http") / "static"
    packed = root.joinpath(f"{name}.gz")
    if packed.is_file():
        compressed = packed.read_bytes()
        return Page(gzip.decompress(compressed), _ASSETS[name], compressed=compressed)
    return Page(root.joinpath(name).read_bytes(), _ASSETS[name])


@cache
def _frame() -> str:
    return (files("ains.http") / "static" / "page.html").read_text("utf-8")


def docs_routes(groups: Iterable[Routes], version: str) -> Routes:
    """Return the routes of all pages; ``groups`` are the routes to document, ``version`` AINS's."""
    static = files("ains.http") / "static"
    routes = Routes("Documentation")
    document = Page(orjson.dumps(build_document(groups, version)), "application/json")
    swagger = Page(static.joinpath("docs.html").read_bytes(), "text/html")
    home_text = static.joinpath("home.html").read_text("utf-8").replace("{version}", version)
    home = page("AINS", home_text)
    types = list(problem_types())
    overview = page("Problems", _overview(types))
    problems = {cls.slug: page(cls.title, _explain(cls)) for cls in types}

    @routes.get("/", hidden=True)
    async def index(request: web.Request) -> web.Response:
        return home.respond(request)

    @routes.get("/docs", hidden=True)
    async def docs(request: web.Request) -> web.Response:
        return swagger.respond(request)

    @routes.get("/openapi.json", hidden=True)
    async def openapi(request: web.Request) -> web.Response:
        return document.respond(request)

    @routes.get("/docs/assets/{name:.+}", hidden=True)
    async def asset(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _ASSETS:
            raise NotFound.of("asset", name)
        return _asset(name).respond(request)

    @routes.get("/docs/problems", hidden=True)
    async def problem_list(request: web.Request) -> web.Response:
        return overview.respond(request)

    @routes.get("/docs/problems/{slug}", hidden=True)
    async def problem(request: web.Request, slug: str) -> web.Response:
        if slug not in problems:
            raise NotFound.of("problem type", slug)
        return problems[slug].respond(request)

    return routes


def page(title: str, content: str) -> Page:
    """A page in AINS's frame; ``content`` is HTML, ``title`` is not."""
    frame = _frame()
    filled = frame.replace("{title}", html.escape(title)).replace("{content}", content)
    return Page(filled.encode(), "text/html")


def _overview(types: Iterable[type[AinsError]]) -> str:
    rows = (
        f'<tr><td>{cls.status}</td><td><a href="{cls.type_uri()}">{html.escape(cls.title)}</a></td>'
        f"<td>{_marked_up(cls.summary())}</td></tr>"
        for cls in sorted(types, key=lambda cls: cls.status)
    )
    return (
        "<h1>Problems</h1><p>Every error is answered as <code>application/problem+json</code> "
        "(RFC 9457). Its <code>type</code> is the address of one of these pages.</p>"
        "<table><thead><tr><th>Status</th><th>Problem</th><th>Meaning</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _explain(cls: type[AinsError]) -> str:
    paragraphs = (inspect.getdoc(cls) or "").split("\n\n")
    text = "".join(f"<p>{_marked_up(paragraph)}</p>" for paragraph in paragraphs)
    return (
        '<p class="path"><a href="/docs/problems">Problems</a></p>'
        f"<h1>{html.escape(cls.title)}</h1>"
        f"<p>Status <strong>{cls.status}</strong> · type <code>{cls.type_uri()}</code></p>{text}"
    )


def _marked_up(text: str) -> str:
    return re.sub(r"``(.+?)``", r"<code>\1</code>", html.escape(" ".join(text.split())))
