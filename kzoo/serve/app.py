"""The service itself: routes, limits, and errors as one line of JSON.

Each request takes the model that is current and keeps it to its end: a switch of versions touches none.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import kzoo
from kzoo.serve import open_inference, tf_serving
from kzoo.serve.metrics import Metrics
from kzoo.serve.model import Model
from kzoo.serve.refusal import Refusal, shown
from kzoo.serve.versions import Versions

Work = Callable[[Model, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Limits:
    """max_bytes: of a request's body. timeout: seconds until a request must be answered.
    poll: seconds between two looks for a new version.
    """

    max_bytes: int = 32 * 2**20
    timeout: float = 30.0
    poll: float = 1.0


def create_app(versions: Versions, limits: Limits | None = None) -> FastAPI:
    """The service over what `versions` holds. It looks for new versions while it runs."""
    limits = limits or Limits()
    metrics = Metrics(versions.place.name)
    threads = ThreadPoolExecutor(os.cpu_count(), "kzoo-answer")

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(_follow(versions, limits.poll))
        yield
        following.cancel()
        threads.shutdown(cancel_futures=True)

    app = FastAPI(
        title="kzoo",
        version=kzoo.__version__,
        lifespan=running,
        docs_url=None,  # their pages load scripts from elsewhere; /openapi.json says the same
        redoc_url=None,
    )
    app.add_middleware(metrics.measure)

    async def work_on(request: Request, name: str, version: str | None, work: Work) -> Response:
        model = versions.of(name, version)
        what = 408, f"the body did not arrive within {limits.timeout:g} seconds"
        try:
            async with asyncio.timeout(limits.timeout):
                body = await _read(request, limits.max_bytes)
                what = 504, f"no answer within {limits.timeout:g} seconds; send fewer examples at once"
                loop = asyncio.get_running_loop()
                return _reply(await loop.run_in_executor(threads, lambda: _dump(work(model, _load(body)))))
        except TimeoutError:
            return _error(*what)

    # ---- TF Serving --------------------------------------------------------------------------------------------------

    @app.get("/v1/models/{name}")
    async def status(name: str) -> Response:
        versions.of(name)
        return _reply(_dump(tf_serving.status(versions)))

    @app.get("/v1/models/{name}/versions/{version}")
    async def status_of_version(name: str, version: str) -> Response:
        versions.of(name)
        return _reply(_dump(tf_serving.status(versions, version)))

    @app.get("/v1/models/{name}/metadata")
    @app.get("/v1/models/{name}/versions/{version}/metadata")
    async def signatures(name: str, version: str | None = None) -> Response:
        return _reply(_dump(tf_serving.metadata(name, versions.of(name, version))))

    @app.post("/v1/models/{name}:predict")
    @app.post("/v1/models/{name}/versions/{version}:predict")
    async def predict(request: Request, name: str, version: str | None = None) -> Response:
        return await work_on(request, name, version, tf_serving.predict)

    # ---- Open Inference Protocol -------------------------------------------------------------------------------------

    @app.get("/v2")
    async def server() -> Response:
        return _reply(_dump({"name": "kzoo", "version": kzoo.__version__, "extensions": []}))

    @app.get("/v2/health/live")
    async def live() -> Response:
        return _reply(_dump({"live": True}))

    @app.get("/v2/health/ready")
    async def ready() -> Response:
        return _reply(_dump({"ready": True}))  # a service without a model does not start

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{version}")
    async def model_metadata(name: str, version: str | None = None) -> Response:
        return _reply(_dump(open_inference.metadata(name, versions.of(name, version))))

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str | None = None) -> Response:
        versions.of(name, version)
        return _reply(_dump({"name": name, "ready": True}))

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        return await work_on(request, name, version, lambda model, sent: open_inference.infer(name, model, sent))

    # ---- the rest ----------------------------------------------------------------------------------------------------

    @app.get("/metrics")
    async def figures() -> Response:
        return Response(metrics.text(versions.current.version), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return _error(error.status, str(error))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return _error(400, "the client left before its request was whole")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        told = {
            404: f"nothing is at {shown(request.url.path)}; see /openapi.json",
            405: f"{shown(request.url.path)} takes no {request.method}; see /openapi.json",
        }
        return _error(error.status_code, told.get(error.status_code, str(error.detail)))

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return _error(500, "an error of the server; its log says which")  # uvicorn writes the trace there

    return app


async def _follow(versions: Versions, seconds: float) -> None:
    """Load new versions on a thread of their own: requests wait for none."""
    with ThreadPoolExecutor(1, "kzoo-load") as thread:
        while True:
            await asyncio.sleep(seconds)
            try:
                await asyncio.get_running_loop().run_in_executor(thread, versions.refresh)
            except OSError as error:  # the folder cannot be read now
                logging.getLogger("uvicorn.error").warning("%s", error)


async def _read(request: Request, most: int) -> bytes:
    """The body; it is refused before it is in memory, whether or not the client told its length."""
    told, body = request.headers.get("content-length", ""), bytearray()
    too_large = Refusal(413, f"a body of more than {most} bytes; send fewer examples at once")
    if told.isdigit() and int(told) > most:
        raise too_large
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise too_large
    return bytes(body)


def _load(body: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise Refusal(400, f"the body: expected a JSON object. Received: {shown(request)}")
    return request


def _dump(answer: dict[str, Any]) -> bytes:
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _reply(answer: bytes, status: int = 200) -> Response:
    return Response(answer, status, media_type="application/json")


def _error(status: int, message: str) -> Response:
    return _reply(_dump({"error": " ".join(message.split())}), status)
