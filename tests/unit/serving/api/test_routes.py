from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from cluster.storage.open import open_storage
from serving.api import renders
from serving.api.routes import build_api
from serving.db.engine import Database
from serving.db.leases import Leases
from serving.settings import Settings

HERE = ("127.0.0.1", 5000)
LONG_S = 60.0


@pytest.fixture
def served(storage: Path) -> Iterator[Callable[..., TestClient]]:
    open_clients = []

    def serve(client: tuple[str, int] = HERE, **settings: Any) -> TestClient:
        api = build_api(Settings(storage=str(storage), **settings))
        opened = TestClient(api, client=client, raise_server_exceptions=False)
        open_clients.append(opened)
        return opened.__enter__()

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


def leases_of(client: TestClient) -> Leases:
    database: Database = client.app.state.service.database  # type: ignore[attr-defined]
    return Leases(database)


def problem(response: Response, status: int) -> str:
    """The slug of an error response, which must be a problem of RFC 9457."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status and body["title"] and body["detail"]
    return str(body["type"]).removeprefix("urn:dancedist:problem:")


def test_an_upload_is_stored_once_and_queued(client: TestClient, film: bytes, storage: Path) -> None:
    answer = send(client, film)
    assert answer.status_code == 202
    render = answer.json()
    assert answer.headers["location"] == f"/v1/renders/{render['id']}"
    assert "retry-after" in answer.headers
    assert (render["state"], render["dancer"], render["version"]) == ("queued", "dancer-ann", 1)
    assert client.get(answer.headers["location"]).json() == render
    stored = [e.name for e in open_storage(str(storage)).list("renders/")]
    assert len(stored) == 1 and stored[0].startswith("renders/sources/") and stored[0].endswith(".mp4")
    assert open_storage(str(storage)).read(stored[0]) == film
    send(client, film)
    assert len([*open_storage(str(storage)).list("renders/")]) == 1


def test_label_and_signature_change_the_fingerprint(
    served: Callable[..., TestClient], film: bytes, tmp_path: Path
) -> None:
    def fingerprint_of(answer: Response, client: TestClient) -> str:
        row = client.app.state.service.records.get(answer.json()["id"])  # type: ignore[attr-defined]
        return str(row.fingerprint)

    plain, labelling, signing = served(), served(label=True), served(c2pa_certificates=tmp_path / "chain.pem")
    unmarked = fingerprint_of(send(plain, film), plain)
    assert fingerprint_of(send(plain, film), plain) == unmarked
    labelled = fingerprint_of(send(plain, film, label="true"), plain)
    assert fingerprint_of(send(labelling, film), labelling) == labelled
    assert len({unmarked, labelled, fingerprint_of(send(signing, film), signing)}) == 3


@pytest.mark.parametrize(("named", "version"), [("ann", 1), ("ann@candidate", 2), ("ann:2", 2), ("ann@champion", 1)])
def test_a_name_is_resolved_to_a_version(client: TestClient, film: bytes, named: str, version: int) -> None:
    assert send(client, film, named).json()["version"] == version


@pytest.mark.parametrize(
    "named", ["nobody", "ann@nothing", "ann:99", "../../etc", "models:/dancer-ann/1", "", "a" * 300]
)
def test_an_unknown_dancer_is_not_found(client: TestClient, film: bytes, named: str) -> None:
    assert problem(send(client, film, named), 404) == "dancer-unknown"


def test_a_dancer_without_consent_is_refused(served: Callable[..., TestClient], film: bytes) -> None:
    assert problem(send(served(), film, "bob"), 403) == "consent-missing"
    assert send(served(without_consent=True), film, "bob").status_code == 202


def test_the_same_idempotency_key_returns_the_same_render(client: TestClient, film: bytes) -> None:
    key = {"Idempotency-Key": "k1"}
    first, again = send(client, film, headers=key), send(client, film, headers=key)
    assert again.status_code == 202 and again.json()["id"] == first.json()["id"]
    assert send(client, film).json()["id"] != first.json()["id"]
    assert problem(send(client, film, "ann:2", headers=key), 409) == "idempotency-key-reused"
    assert problem(send(client, film, headers={"Idempotency-Key": "k" * 256}), 422) == "request-invalid"


def test_an_upload_that_is_not_a_video_is_refused(client: TestClient) -> None:
    for data in (b"", b"no video", b"\x00" * 5000):
        assert problem(send(client, data), 422) == "video-unreadable"


def test_a_source_over_the_limits_is_refused(served: Callable[..., TestClient], film: bytes) -> None:
    small = served(max_upload_bytes=len(film) - 1)
    assert problem(send(small, film), 413) == "upload-too-large"
    assert problem(send(served(max_frame_pixels=1000), film), 413) == "video-too-large"
    assert problem(send(served(max_duration_s=0.2), film), 413) == "video-too-large"

    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="source"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield bytes(100_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert problem(small.post("/v1/renders", content=endless(), headers=headers), 413) == "upload-too-large"


@pytest.mark.parametrize(
    ("content_type", "body", "status", "slug"),
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
def test_a_malformed_request_is_refused(
    client: TestClient, content_type: str, body: bytes, status: int, slug: str
) -> None:
    assert problem(client.post("/v1/renders", content=body, headers={"Content-Type": content_type}), status) == slug


def test_webhooks_must_go_to_allowed_hosts(served: Callable[..., TestClient], film: bytes) -> None:
    plain, calling = served(), served(webhook_secret="s", webhook_hosts=["hooks.example.org"])
    assert problem(send(plain, film, webhook="https://hooks.example.org/x"), 422) == "webhook-refused"
    assert send(calling, film, webhook="https://hooks.example.org/x").status_code == 202
    for address in (
        "https://169.254.169.254/",
        "http://hooks.example.org/",
        "https://hooks.example.org@evil.org/",
        "x",
    ):
        assert problem(send(calling, film, webhook=address), 422) == "webhook-refused"


def test_the_queue_is_bounded(served: Callable[..., TestClient], film: bytes) -> None:
    client = served(max_queue=2)
    assert [send(client, film).status_code for _ in range(2)] == [202, 202]
    full = send(client, film)
    assert problem(full, 503) == "queue-full" and int(full.headers["retry-after"]) > 0
    limited = served(max_per_key=2)
    assert problem(send(limited, film), 429) == "too-many-renders"


def test_concurrent_uploads_are_bounded(
    served: Callable[..., TestClient], film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renders, "_UPLOAD_SLOT_WITHIN_S", 0.1)
    client = served(max_uploads=1)
    slots = client.app.state.service.upload_slots  # type: ignore[attr-defined]
    assert send(client, film).status_code == 202 and not slots.locked()
    assert problem(send(client, b"no video"), 422) and not slots.locked()
    slots._value = 0
    assert problem(send(client, film), 503) == "unavailable"
    slots.release()
    assert send(client, film).status_code == 202


def test_renders_are_listed_in_pages(client: TestClient, film: bytes) -> None:
    ids = [send(client, film).json()["id"] for _ in range(5)]
    first = client.get("/v1/renders?limit=2").json()
    second = client.get(first["next"]).json()
    third = client.get(second["next"]).json()
    listed = [render["id"] for page in (first, second, third) for render in page["renders"]]
    assert listed == ids[::-1] and third["next"] is None
    assert problem(client.get("/v1/renders?limit=0"), 422) == "request-invalid"
    assert problem(client.get("/v1/renders?before=x"), 422) == "request-invalid"


def test_events_continue_after_the_last_event_id(client: TestClient, film: bytes) -> None:
    render_id = send(client, film).json()["id"]
    acquired = leases_of(client).acquire(LONG_S)
    assert acquired is not None
    leases_of(client).update(acquired[0], "stage", {"stage": "poses"}, stage="poses")
    leases_of(client).fail(acquired[0], {"type": "t", "title": "t", "status": 422, "detail": "d"})

    def events(after: str | None) -> list[tuple[str, str]]:
        headers = {} if after is None else {"Last-Event-ID": after}
        text = client.get(f"/v1/renders/{render_id}/events", headers=headers).text
        fields = [
            dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n") if block
        ]
        return [(f["id"], f["event"]) for f in fields]

    everything = events(None)
    assert [kind for _, kind in everything] == ["queued", "started", "stage", "failed"]
    assert events(everything[1][0]) == everything[2:]
    assert events(everything[3][0]) == [] and events("nonsense") == everything


def test_a_film_is_downloaded_in_parts(client: TestClient, film: bytes, storage: Path) -> None:
    render_id = send(client, film).json()["id"]
    result = f"/v1/renders/{render_id}/result"
    assert problem(client.get(result), 409) == "not-ready"
    acquired = leases_of(client).acquire(LONG_S)
    assert acquired is not None
    (storage / "film.mp4").write_bytes(film)
    film_record = {"frames": 12, "width": 64, "height": 48, "fps": "25", "duration_s": 0.48, "size_bytes": len(film)}
    film_record |= {"sha256": "0" * 64, "notices": []}
    leases_of(client).publish(acquired[0], {"uri": f"{storage}/film.mp4", "film": film_record})
    assert client.get(f"/v1/renders/{render_id}").json()["result"] == film_record
    full = client.get(result)
    assert (full.status_code, full.content, full.headers["content-type"]) == (200, film, "video/mp4")
    part = client.get(result, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, film[10:20])
    assert client.get(result, headers={"Range": "bytes=999999999-"}).status_code == 416
    (storage / "film.mp4").unlink()
    assert problem(client.get(result), 410) == "gone"


def test_a_cancelled_render_ends(client: TestClient, film: bytes) -> None:
    location = send(client, film).headers["location"]
    assert client.post(f"{location}/cancel").json()["state"] == "cancelled"
    assert client.post(f"{location}/cancel").json()["state"] == "cancelled"
    assert leases_of(client).acquire(LONG_S) is None


def test_unknown_paths_and_renders_are_not_found(client: TestClient) -> None:
    unknown = "0" * 32
    for path in (f"/v1/renders/{unknown}", f"/v1/renders/{unknown}/events", f"/v1/renders/{unknown}/result", "/v2"):
        assert problem(client.get(path), 404) == "not-found"
    assert problem(client.get("/v1/renders/..%2F..%2Fetc"), 404) == "not-found"
    assert problem(client.get("/v1/renders/nonsense"), 422) == "request-invalid"
    assert problem(client.delete("/v1/renders"), 405) == "method-not-allowed"


def test_dancers_are_listed_with_their_pictures(client: TestClient) -> None:
    dancers = {(d["name"], d["version"]): d for d in client.get("/v1/dancers").json()}
    assert {k: (d["aliases"], d["consent"]) for k, d in dancers.items()} == {
        ("ann", 1): (["champion"], True),
        ("ann", 2): (["candidate"], True),
        ("bob", 1): (["candidate", "champion"], False),
    }
    assert dancers["ann", 1]["metrics"] == {"body_lpips": 0.25}
    for named, content in ((("ann", 1), b"portrait"), (("bob", 1), b"sample")):
        picture = client.get(dancers[named]["sample"])
        assert (picture.content, picture.headers["content-type"]) == (content, "image/png")
    assert problem(client.get("/v1/dancers/nobody/sample"), 404) == "dancer-unknown"


def test_health_and_metrics(client: TestClient, film: bytes, storage: Path) -> None:
    assert client.get("/healthz").text == "ok"
    assert client.get("/readyz").json()["registry"] == "3 versions"
    send(client, film)
    assert 'dancedist_renders_records{state="queued"} 1.0' in client.get("/metrics").text
    client.app.state.service.dancers._storage = str(storage / "elsewhere")  # type: ignore[attr-defined]
    assert client.get("/healthz").status_code == 200
