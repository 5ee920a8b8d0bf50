from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from cluster.storage.base import open_storage
from scripts.write_openapi import described
from serving.api import renders
from serving.api.routes import build_api
from serving.db.engine import Database
from serving.db.leases import Claims
from serving.settings import Settings

HERE = ("127.0.0.1", 5000)
LONG_S = 60.0


@pytest.fixture
def served(storage: Path) -> Iterator[Callable[..., TestClient]]:
    open_clients = []

    def serve(client: tuple[str, int] = HERE, **settings: Any) -> TestClient:
        api = build_api(Settings(storage=str(storage), **settings))
        made = TestClient(api, client=client, raise_server_exceptions=False)
        open_clients.append(made)
        return made.__enter__()

    yield serve
    for client in open_clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(served: Callable[..., TestClient]) -> TestClient:
    return served()


def send(client: TestClient, film: bytes, dancer: str = "ann", **more: Any) -> Response:
    headers = more.pop("headers", {})
    files = {"source": ("dance.mp4", film, "video/mp4")}
    return client.post("/v1/renders", data={"dancer": dancer, **more}, files=files, headers=headers)


def claims_of(client: TestClient) -> Claims:
    database: Database = client.app.state.service.database  # type: ignore[attr-defined]
    return Claims(database)


def problem(response: Response, status: int) -> str:
    """Its slug; every error is one of RFC 9457."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert told["status"] == status and told["title"] and told["detail"]
    return str(told["type"]).removeprefix("urn:dancedist:problem:")


def test_a_film_is_sent_and_queued(client: TestClient, film: bytes, storage: Path) -> None:
    answer = send(client, film)
    assert answer.status_code == 202
    told = answer.json()
    assert answer.headers["location"] == f"/v1/renders/{told['id']}"
    assert "retry-after" in answer.headers
    assert (told["state"], told["dancer"], told["version"]) == ("queued", "dancer-ann", 1)
    assert client.get(answer.headers["location"]).json() == told
    kept = [e.name for e in open_storage(str(storage)).list("renders/")]
    assert len(kept) == 1 and kept[0].startswith("renders/sources/") and kept[0].endswith(".mp4")
    assert open_storage(str(storage)).read(kept[0]) == film
    send(client, film)
    assert len([*open_storage(str(storage)).list("renders/")]) == 1


def test_a_film_without_the_marks_of_now_is_another(
    served: Callable[..., TestClient], film: bytes, tmp_path: Path
) -> None:
    def film_of(answer: Response, client: TestClient) -> str:
        row = client.app.state.service.records.get(answer.json()["id"])  # type: ignore[attr-defined]
        return str(row.fingerprint)

    plain, labelling, signing = served(), served(label=True), served(c2pa_certificates=tmp_path / "chain.pem")
    unmarked = film_of(send(plain, film), plain)
    assert film_of(send(plain, film), plain) == unmarked
    labelled = film_of(send(plain, film, label="true"), plain)
    assert film_of(send(labelling, film), labelling) == labelled
    assert len({unmarked, labelled, film_of(send(signing, film), signing)}) == 3


@pytest.mark.parametrize(("named", "version"), [("ann", 1), ("ann@candidate", 2), ("ann:2", 2), ("ann@champion", 1)])
def test_a_name_means_a_version_from_then_on(client: TestClient, film: bytes, named: str, version: int) -> None:
    assert send(client, film, named).json()["version"] == version


@pytest.mark.parametrize(
    "named", ["nobody", "ann@nothing", "ann:99", "../../etc", "models:/dancer-ann/1", "", "a" * 300]
)
def test_a_dancer_that_is_none_is_not_found(client: TestClient, film: bytes, named: str) -> None:
    assert problem(send(client, film, named), 404) == "dancer-unknown"


def test_without_consent_nobody_is_rendered(served: Callable[..., TestClient], film: bytes) -> None:
    assert problem(send(served(), film, "bob"), 403) == "consent-missing"
    assert send(served(without_consent=True), film, "bob").status_code == 202


def test_the_same_key_is_the_same_render(client: TestClient, film: bytes) -> None:
    key = {"Idempotency-Key": "k1"}
    first, again = send(client, film, headers=key), send(client, film, headers=key)
    assert again.status_code == 202 and again.json()["id"] == first.json()["id"]
    assert send(client, film).json()["id"] != first.json()["id"]
    assert problem(send(client, film, "ann:2", headers=key), 409) == "idempotency-key-reused"
    assert problem(send(client, film, headers={"Idempotency-Key": "k" * 256}), 422) == "request-invalid"


def test_what_is_no_video_is_refused_at_once(client: TestClient) -> None:
    for data in (b"", b"no video", b"\x00" * 5000):
        assert problem(send(client, data), 422) == "video-unreadable"


def test_what_is_too_large_is_refused(served: Callable[..., TestClient], film: bytes) -> None:
    small = served(max_upload_bytes=len(film) - 1)
    assert problem(send(small, film), 413) == "upload-too-large"
    assert problem(send(served(max_frame_pixels=1000), film), 413) == "video-too-large"
    assert problem(send(served(max_duration_s=0.2), film), 413) == "video-too-large"

    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="source"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield bytes(100_000)

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert problem(small.post("/v1/renders", content=endless(), headers=kind), 413) == "upload-too-large"


@pytest.mark.parametrize(
    ("kind", "body", "status", "slug"),
    [
        ("application/json", b"{", 422, "request-invalid"),
        ("application/json", b'{"dancer": "ann"}', 422, "request-invalid"),
        ("application/json", b'{"dancer": "ann", "surprise": 1}', 422, "request-invalid"),
        ("application/json", b'{"dancer": "ann", "source": "file:///etc/passwd"}', 422, "source-refused"),
        ("application/json", b'{"dancer": "ann", "source": "s3://other/dance.mp4"}', 422, "source-refused"),
        ("application/json", b'{"dancer": "ann", "source": "https://example.org/a.mp4"}', 422, "source-refused"),
        ("application/json", b" " * 70_000, 413, "upload-too-large"),
        ("text/plain", b"hello", 415, "media-type-unsupported"),
        ("multipart/form-data", b"hello", 422, "request-invalid"),
        ("multipart/form-data; boundary=x", b"hello", 422, "request-invalid"),
        ("multipart/form-data; boundary=x", b"--x--", 422, "request-invalid"),
    ],
)
def test_what_is_no_request_is_told_so(client: TestClient, kind: str, body: bytes, status: int, slug: str) -> None:
    assert problem(client.post("/v1/renders", content=body, headers={"Content-Type": kind}), status) == slug


def test_webhooks_go_to_hosts_that_are_allowed(served: Callable[..., TestClient], film: bytes) -> None:
    plain, told = served(), served(webhook_secret="s", webhook_hosts=["hooks.example.org"])
    assert problem(send(plain, film, webhook="https://hooks.example.org/x"), 422) == "webhook-refused"
    assert send(told, film, webhook="https://hooks.example.org/x").status_code == 202
    for address in (
        "https://169.254.169.254/",
        "http://hooks.example.org/",
        "https://hooks.example.org@evil.org/",
        "x",
    ):
        assert problem(send(told, film, webhook=address), 422) == "webhook-refused"


def test_the_queue_is_bounded(served: Callable[..., TestClient], film: bytes) -> None:
    client = served(max_queue=2)
    assert [send(client, film).status_code for _ in range(2)] == [202, 202]
    full = send(client, film)
    assert problem(full, 503) == "queue-full" and int(full.headers["retry-after"]) > 0
    mine = served(max_per_key=2)
    assert problem(send(mine, film), 429) == "too-many-renders"


def test_uploads_at_once_are_bounded(
    served: Callable[..., TestClient], film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renders, "_TURN_WITHIN_S", 0.1)
    client = served(max_uploads=1)
    receiving = client.app.state.service.receiving  # type: ignore[attr-defined]
    assert send(client, film).status_code == 202 and not receiving.locked()
    assert problem(send(client, b"no video"), 422) and not receiving.locked()
    receiving._value = 0
    assert problem(send(client, film), 503) == "unavailable"
    receiving.release()
    assert send(client, film).status_code == 202


def test_renders_come_in_pages(client: TestClient, film: bytes) -> None:
    ids = [send(client, film).json()["id"] for _ in range(5)]
    first = client.get("/v1/renders?limit=2").json()
    second = client.get(first["next"]).json()
    third = client.get(second["next"]).json()
    seen = [render["id"] for page in (first, second, third) for render in page["renders"]]
    assert seen == ids[::-1] and third["next"] is None
    assert problem(client.get("/v1/renders?limit=0"), 422) == "request-invalid"
    assert problem(client.get("/v1/renders?before=x"), 422) == "request-invalid"


def test_events_are_told_and_go_on_where_they_were(client: TestClient, film: bytes) -> None:
    render_id = send(client, film).json()["id"]
    taken = claims_of(client).claim(LONG_S)
    assert taken is not None
    claims_of(client).note(taken[0], "stage", {"stage": "poses"}, stage="poses")
    claims_of(client).fail(taken[0], {"type": "t", "title": "t", "status": 422, "detail": "d"})

    def events(after: str | None) -> list[tuple[str, str]]:
        headers = {} if after is None else {"Last-Event-ID": after}
        text = client.get(f"/v1/renders/{render_id}/events", headers=headers).text
        fields = [
            dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n") if block
        ]
        return [(f["id"], f["event"]) for f in fields]

    told = events(None)
    assert [kind for _, kind in told] == ["queued", "started", "stage", "failed"]
    assert events(told[1][0]) == told[2:]
    assert events(told[3][0]) == [] and events("nonsense") == told


def test_a_film_is_fetched_in_parts(client: TestClient, film: bytes, storage: Path) -> None:
    render_id = send(client, film).json()["id"]
    result = f"/v1/renders/{render_id}/result"
    assert problem(client.get(result), 409) == "not-ready"
    taken = claims_of(client).claim(LONG_S)
    assert taken is not None
    (storage / "film.mp4").write_bytes(film)
    about = {"frames": 12, "width": 64, "height": 48, "fps": "25", "duration_s": 0.48, "size_bytes": len(film)}
    told = {**about, "sha256": "0" * 64, "notices": []}
    claims_of(client).publish(taken[0], {"uri": f"{storage}/film.mp4", "film": told})
    assert client.get(f"/v1/renders/{render_id}").json()["result"] == told
    whole = client.get(result)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, film, "video/mp4")
    part = client.get(result, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, film[10:20])
    assert client.get(result, headers={"Range": "bytes=999999999-"}).status_code == 416
    (storage / "film.mp4").unlink()
    assert problem(client.get(result), 410) == "gone"


def test_what_is_cancelled_ends(client: TestClient, film: bytes) -> None:
    here = send(client, film).headers["location"]
    assert client.post(f"{here}/cancel").json()["state"] == "cancelled"
    assert client.post(f"{here}/cancel").json()["state"] == "cancelled"
    assert claims_of(client).claim(LONG_S) is None


def test_what_is_not_there_is_not_found(client: TestClient) -> None:
    nobody = "0" * 32
    for path in (f"/v1/renders/{nobody}", f"/v1/renders/{nobody}/events", f"/v1/renders/{nobody}/result", "/v2"):
        assert problem(client.get(path), 404) == "not-found"
    assert problem(client.get("/v1/renders/..%2F..%2Fetc"), 404) == "not-found"
    assert problem(client.get("/v1/renders/nonsense"), 422) == "request-invalid"
    assert problem(client.delete("/v1/renders"), 405) == "method-not-allowed"


def test_dancers_are_listed_with_their_pictures(client: TestClient) -> None:
    found = {(d["name"], d["version"]): d for d in client.get("/v1/dancers").json()}
    assert {k: (d["aliases"], d["consent"]) for k, d in found.items()} == {
        ("ann", 1): (["champion"], True),
        ("ann", 2): (["candidate"], True),
        ("bob", 1): (["candidate", "champion"], False),
    }
    assert found["ann", 1]["metrics"] == {"body_lpips": 0.25}
    for named, shown in ((("ann", 1), b"portrait"), (("bob", 1), b"sample")):
        picture = client.get(found[named]["sample"])
        assert (picture.content, picture.headers["content-type"]) == (shown, "image/png")
    assert problem(client.get("/v1/dancers/nobody/sample"), 404) == "dancer-unknown"


def test_health_and_figures(client: TestClient, film: bytes, storage: Path) -> None:
    assert client.get("/healthz").text == "ok"
    assert client.get("/readyz").json()["registry"] == "3 versions"
    send(client, film)
    assert 'dancedist_renders_records{state="queued"} 1.0' in client.get("/metrics").text
    client.app.state.service.dancers._storage = str(storage / "elsewhere")  # type: ignore[attr-defined]
    assert client.get("/healthz").status_code == 200


def test_the_committed_description_is_the_services() -> None:
    """After a change: python scripts/write_openapi.py."""
    committed = Path(__file__).resolve().parents[4] / "docs" / "openapi.json"
    assert committed.read_text() == described()


def test_every_reference_in_the_description_leads_somewhere(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    refs = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(description)))
    assert refs <= {*description["components"]["schemas"]}
    kinds = {
        kind
        for methods in description["paths"].values()
        for method in methods.values()
        for status, response in method["responses"].items()
        for kind in response.get("content", {})
        if int(status) >= 400
    }
    assert kinds == {"application/problem+json"}
