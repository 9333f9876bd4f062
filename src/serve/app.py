"""The web application around a service: its page, its routes and those that all services share."""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from jinja2 import Environment, PackageLoader, StrictUndefined
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.formparsers import MultiPartParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.serve.service import Service

NO_OBJECT = "send a JSON object with the header 'Content-Type: application/json'"
NO_TOKEN = "send the header 'Authorization: Bearer TOKEN'"


def create_app(service: Service, token: str | None) -> FastAPI:
    """Return the application.

    Args:
        service: answers the requests.
        token: that requests must send, except to the page, /health and the API's description;
            None: none.
    """
    MultiPartParser.spool_max_size = service.max_body + 1  # never to a file

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(service.batcher.run())
        yield
        running.cancel()

    async def authorized(
        given: Annotated[
            HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))
        ],
    ) -> None:
        if not has_token(f"Bearer {given.credentials}" if given else "", token):
            raise HTTPException(401, NO_TOKEN)

    app = FastAPIOffline(title="Atelier", version="1", lifespan=lifespan)
    app.add_middleware(LimitBodies, service=service, token=token)
    secured = [Depends(authorized)]
    app.include_router(service.routes(), dependencies=secured)
    page = _environment().get_template(service.page).render(limits=service.limits)

    @app.exception_handler(RequestValidationError)
    async def explain(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]  # FastAPI's own answer repeats the whole body
        name = ".".join(map(str, first["loc"][1:]))
        has_fields = name and first["type"] != "json_invalid"
        detail = f"{name}: {first['msg']}" if has_fields else NO_OBJECT
        return JSONResponse({"detail": detail}, 422)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def root() -> str:
        return page

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Return ok while the service answers."""
        return {"status": "ok"}

    @app.get("/model", dependencies=secured)
    async def model() -> dict[str, Any]:
        """Return facts about the model and its training."""
        return service.about

    @app.get("/metrics", dependencies=secured)
    async def metrics() -> Response:
        """Return counters and times for Prometheus."""
        return Response(generate_latest(service.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("src.serve", "pages"), autoescape=True, undefined=StrictUndefined
    )


def has_token(authorization: str, token: str | None) -> bool:
    """Return whether the header of a request has the token; True if none is needed."""
    if token is None:
        return True
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), token.encode())


class LimitBodies:
    """Refuse requests without a token, or whose bodies are too large, before they are read.

    All bodies that are being read or answered together hold at most twice the largest one. A body
    must arrive within the timeout.
    """

    def __init__(self, app: ASGIApp, service: Service, token: str | None) -> None:
        self.app, self.service, self.token = app, service, token
        self.held = 0  # bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not has_token(headers.get(b"authorization", b"").decode("latin-1"), self.token):
            await JSONResponse({"detail": NO_TOKEN}, 401)(scope, receive, send)
            return
        text = headers.get(b"content-length", b"")
        most, length = self.service.max_body, int(text) if text.isdigit() else None
        if length is None or length > most:
            self.service.refused.labels("too large").inc()
            answer = JSONResponse(
                {"detail": "the request body is too large, or its Content-Length is missing"}, 413
            )
            await answer(scope, receive, send)
            return
        if self.held + length > 2 * most:
            self.service.refused.labels("queue full").inc()
            answer = JSONResponse(
                {"detail": "too many requests: try again later"}, 429, {"Retry-After": "1"}
            )
            await answer(scope, receive, send)
            return
        self.held += length
        try:
            await self.app(scope, self._limited(receive, length), send)
        finally:
            self.held -= length

    def _limited(self, receive: Receive, length: int) -> Receive:
        """Return `receive` with limits for the whole body: the timeout, and its length in bytes.

        It raises HTTPException 503 if the body takes longer, and 413 if it is larger.
        """
        seconds = self.service.limits.timeout
        end: float | None = asyncio.get_running_loop().time() + seconds

        async def limited() -> Message:
            nonlocal end, length
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                self.service.refused.labels("timeout").inc()
                detail = f"the request did not arrive within {seconds:g} seconds"
                raise HTTPException(503, detail) from None
            length -= len(message.get("body", b""))
            if length < 0:
                self.service.refused.labels("too large").inc()
                raise HTTPException(413, "the request is larger than its content-length")
            if not message.get("more_body"):
                end = None  # later messages say that the client has gone
            return message

        return limited
