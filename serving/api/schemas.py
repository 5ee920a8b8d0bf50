"""Schemas of the HTTP interface's requests and responses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.db.models import RenderRow
from serving.problems import Problem

State = Literal["queued", "running", "done", "failed", "cancelled"]


class RenderRequest(BaseModel):
    """A request for a render of a source in a bucket; to upload a source, send a form with the same fields."""

    model_config = ConfigDict(extra="forbid")

    dancer: str = Field(max_length=500, description="NAME (its champion), NAME@ALIAS or NAME:VERSION")
    source: str | None = Field(None, max_length=2000, description="s3://bucket/name of a video in an allowed bucket")
    label: bool = Field(False, description="write on every frame that it is synthetic")
    webhook: str | None = Field(None, max_length=2000, description="https:// address to call when the render has ended")


class Progress(BaseModel):
    """Progress of a render; frames count the current stage."""

    stage: str | None
    frames_done: int
    frames_total: int


class ChunkView(BaseModel):
    """A rendered chunk: frames [start, stop), after `warm_up` frames that were rendered and dropped."""

    number: int
    start: int
    stop: int
    warm_up: int
    faded: bool
    seconds: float


class SeamView(BaseModel):
    """A seam between two chunks, measured inside the dancer's box.

    `psnr_db` compares `frame` as both chunks rendered it; `change_db` compares it with the frame before it.
    """

    frame: int
    psnr_db: float
    change_db: float
    faded: bool


class ResultView(BaseModel):
    """The rendered film."""

    frames: int
    width: int
    height: int
    fps: str
    duration_s: float
    size_bytes: int
    sha256: str
    notices: list[str]


class RenderView(BaseModel):
    """State, progress and result of a render."""

    id: str
    state: State
    dancer: str
    version: int
    created: datetime
    ended: datetime | None
    attempt: int
    progress: Progress
    chunks: list[ChunkView]
    seams: list[SeamView]
    timings_s: dict[str, float]
    problem: Problem | None
    result: ResultView | None
    links: dict[str, str]


class RenderPage(BaseModel):
    """A page of renders, newest first; `next` is the address of the next page, with older ones."""

    renders: list[RenderView]
    next: str | None


def render_view(row: RenderRow, chunks: dict[int, dict[str, Any]]) -> RenderView:
    """Convert a row of the records, and its chunks by number, to the response."""
    path = f"/v1/renders/{row.id}"
    stored = [{k: v for k, v in c.items() if k in ChunkView.model_fields} for c in chunks.values()]
    return RenderView(
        id=row.id,
        state=row.state,
        dancer=row.dancer["name"],
        version=row.dancer["version"],
        created=_time(row.created_s),
        ended=None if row.ended_s is None else _time(row.ended_s),
        attempt=row.attempt,
        progress=Progress(stage=row.stage, frames_done=row.frames_done, frames_total=row.frames_total),
        chunks=[ChunkView.model_validate(c) for c in stored],
        seams=[SeamView.model_validate(c["seam"]) for c in chunks.values() if c.get("seam")],
        timings_s=row.timings_s or {},
        problem=None if row.problem is None else Problem.model_validate(row.problem),
        result=None if row.result is None else ResultView.model_validate(row.result["film"]),
        links={
            "self": path,
            "events": f"{path}/events",
            "cancel": f"{path}/cancel",
            **({"result": f"{path}/result"} if row.state == "done" else {}),
        },
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
