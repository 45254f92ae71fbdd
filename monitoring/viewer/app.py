"""Serve the page and the data of its views over HTTP. All routes are read-only."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import msgspec
from fastapi import FastAPI, Request
from starlette.middleware import Middleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from data.video_file import VideoError
from monitoring.frame_sheets import FrameReader, Sheet, evaluated_request, group_request
from monitoring.viewer import ranking_view, videos_view
from monitoring.viewer.catalogue import Catalogue
from monitoring.viewer.curves_view import curves, overview, spread
from monitoring.viewer.fleet_view import fleet
from monitoring.viewer.guard import Guard
from monitoring.viewer.viewed_run import NotRecorded

STATIC = Path(__file__).with_name("static")
_IMAGES_KEPT = {"Cache-Control": "private, max-age=300"}


def create_app(catalogue: Catalogue, token: str | None = None, loopback: bool = True) -> FastAPI:
    """Build the viewer as an ASGI app.

    `token`, if given, must be sent with every request. `loopback` says whether the server listens on a
    loopback address only.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.frames = FrameReader()
        yield
        app.state.frames.close()

    app = FastAPI(
        openapi_url=None,
        lifespan=lifespan,
        middleware=[Middleware(Guard, token=token, loopback=loopback)],
        exception_handlers={NotRecorded: _not_found, VideoError: _not_found},
    )
    app.mount("/static", StaticFiles(directory=STATIC))
    plotly = _plotly()

    @app.get("/")
    def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/plotly.min.js")
    def plotly_script() -> Response:
        return FileResponse(plotly, headers={"Cache-Control": "private, max-age=86400"})

    @app.get("/api/runs")
    def runs() -> Response:
        return _json([overview(name, run) for name, run in catalogue.runs().items()])

    _add_data_routes(app, catalogue)
    _add_frame_routes(app, catalogue)
    return app


def _add_data_routes(app: FastAPI, catalogue: Catalogue) -> None:
    of_a_run: dict[str, Callable[[Any], dict[str, Any]]] = {
        "curves": curves,
        "spread": spread,
        "updates": videos_view.updates,
        "evaluations": ranking_view.evaluations,
        "fleet": fleet,
    }

    @app.get("/api/groups")
    def groups(run: str, update: int) -> Response:
        return _json(videos_view.groups_of(catalogue[run], update))

    @app.get("/api/group")
    def group(run: str, offset: int) -> Response:
        return _json(videos_view.group(catalogue[run], offset))

    @app.get("/api/history")
    def history(run: str, video: str) -> Response:
        return _json(videos_view.history(catalogue[run], video))

    @app.get("/api/ranking")
    def ranking_of(run: str, version: int, split: str) -> Response:
        return _json(ranking_view.ranking(catalogue[run], version, split))

    @app.get("/api/clip")
    def clip(run: str, split: str, video: str) -> Response:
        return _json(ranking_view.clip(catalogue[run], split, video))

    @app.get("/api/{view}")
    def view(view: str, run: str) -> Response:
        if view not in of_a_run:
            raise NotRecorded(f"there is no view '{view}'")
        return _json(of_a_run[view](catalogue[run]))


def _add_frame_routes(app: FastAPI, catalogue: Catalogue) -> None:
    @app.get("/frames/group")
    def group_frames(
        request: Request, run: str, offset: int, copy: Literal["clean", "perturbed"] = "clean"
    ) -> Response:
        frames: FrameReader = request.app.state.frames
        return _picture(frames.sheet(group_request(catalogue[run], offset, copy)))

    @app.get("/frames/clip")
    def clip_frames(request: Request, run: str, version: int, split: str, video: str) -> Response:
        frames: FrameReader = request.app.state.frames
        return _picture(frames.sheet(evaluated_request(catalogue[run], version, split, video)))


def _json(data: Any) -> Response:
    return Response(
        msgspec.json.encode(data), media_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _picture(sheet: Sheet) -> Response:
    info = msgspec.json.encode(sheet.to_json()).decode()
    return Response(sheet.png, media_type="image/png", headers=_IMAGES_KEPT | {"X-Frames": info})


async def _not_found(request: Request, error: Exception) -> Response:
    response = _json({"error": str(error)})
    response.status_code = 404
    return response


def _plotly() -> Path:
    """The path of the JavaScript file in the installed plotly package."""
    spec = find_spec("plotly")
    assert spec is not None, "plotly is one of the project's dependencies"
    assert spec.origin is not None
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"
