"""The state that the API's routes share, and the creation of a render from a request."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from cluster.poses.inputs import ListedVideo
from cluster.storage.base import StorageMissing
from cluster.storage.open import open_storage, split_uri
from cluster.tracking.registry import DancerVersion
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import VideoRecipe
from dancedist.video.probe import probe
from serving.api.keys import ApiKeys, Caller
from serving.api.schemas import RenderRequest
from serving.api.uploads import UploadForm
from serving.db.engine import Database
from serving.db.models import RenderRow
from serving.db.records import NewRender, Records
from serving.problems import RequestRejected
from serving.settings import Settings
from serving.workers import paths
from serving.workers.dancers import Dancers
from serving.workers.previews import Previews

# Increase it when the same dancer and source would result in a different film.
RENDER_VERSION = 3
_MAX_IDEMPOTENCY_KEY = 255


class Service:
    """Settings, records, API keys, dancers, storage, and the limit on concurrent uploads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database)
        self.records, self.previews = Records(self.database), Previews(self.database)
        self.keys = ApiKeys(settings.api_keys)
        self.dancers = Dancers(settings.storage, without_consent=settings.without_consent)
        self.store = open_storage(settings.storage)
        self.upload_slots = asyncio.Semaphore(settings.max_uploads)

    async def create_render(
        self, caller: Caller, request: RenderRequest, form: UploadForm | None, idempotency_key: str | None
    ) -> tuple[RenderRow, bool]:
        """Queue a render of the form's file or of a source in a bucket.

        Returns its row and True; or an earlier row and False if the idempotency key was used before.

        Raises RequestRejected, DancerUnknown, RegistryUnavailable, VideoUnreadable, VideoTooLarge, StorageUnavailable,
        StorageMissing, QueueFull, TooManyRenders, RequestDiffers.
        """
        if idempotency_key is not None and not 0 < len(idempotency_key) <= _MAX_IDEMPOTENCY_KEY:
            raise RequestRejected(
                "request-invalid", "is not an idempotency key", expected=f"1 to {_MAX_IDEMPOTENCY_KEY} characters"
            )
        if (form is None or form.file is None) == (request.source is None):
            raise RequestRejected("request-invalid", "needs exactly one source", expected="a file or an s3:// address")
        self._check_webhook(request.webhook)
        version = await asyncio.to_thread(self.dancers.find, request.dancer)
        self.dancers.require_consent(version)
        while True:
            source = await asyncio.to_thread(self._source, request, form)
            new_render = self._new_render(caller, request, version, source, idempotency_key)
            bounds = self.settings.max_queue, self.settings.max_per_key
            check = partial(_require_unchanged, source) if request.source is None else lambda: None
            try:
                return await asyncio.to_thread(self.records.add, new_render, *bounds, check)
            except _SourceRemoved:
                # No render used the upload and retention removed it in the meantime: store it again.
                continue

    def _new_render(
        self,
        caller: Caller,
        request: RenderRequest,
        version: DancerVersion,
        source: ListedVideo,
        idempotency_key: str | None,
    ) -> NewRender:
        dancer = {"name": version.name, "version": version.number, "uri": version.uri}
        request_record = {**request.model_dump(mode="json"), "source": asdict(source)}
        content = (source.uri, source.size_bytes, source.etag)
        # A film with other marks (label, signature) is another film.
        marks = (request.label or self.settings.label, str(self.settings.c2pa_certificates))
        film_fingerprint = fingerprint(
            version.uri, version.tags.get("fingerprint", ""), *content, *marks, RENDER_VERSION
        )
        request_sha256 = sha256(
            json.dumps([request.model_dump(mode="json"), *content], sort_keys=True).encode()
        ).hexdigest()
        return NewRender(
            caller.key_id,
            idempotency_key,
            request_sha256,
            request_record,
            dancer,
            film_fingerprint,
            source.uri,
            request.webhook,
        )

    def _source(self, request: RenderRequest, form: UploadForm | None) -> ListedVideo:
        if form is not None and form.file is not None:
            return self._store_upload(form)
        assert request.source is not None
        store, name = self._allowed_source(request.source)
        entry = open_storage(store).stat(name)
        if entry is None:
            raise StorageMissing("does not exist", file=request.source)
        if entry.size_bytes > self.settings.max_upload_bytes:
            expected = f"at most {self.settings.max_upload_bytes} bytes"
            raise RequestRejected("upload-too-large", "is too large", file=request.source, expected=expected)
        return ListedVideo("source", request.source, entry.size_bytes, entry.etag)

    def _store_upload(self, form: UploadForm) -> ListedVideo:
        """Validate an uploaded file and store it under its content's checksum."""
        assert form.file is not None
        # The sender's file name only provides the suffix; it is never used as a path.
        probe(form.file, self.settings.limits(VideoRecipe()))
        store, name = paths.sources(self.settings.storage), f"{form.sha256}{_suffix(form.file_name)}"
        if store.stat(name) is None:
            store.upload(form.file, name)
        entry = store.stat(name)
        assert entry is not None
        return ListedVideo("source", f"{store.uri}/{name}", entry.size_bytes, entry.etag)

    def _allowed_source(self, uri: str) -> tuple[str, str]:
        parts = urlsplit(uri)
        if parts.scheme != "s3" or parts.netloc not in self.settings.buckets or parts.query or parts.fragment:
            allowed = ", ".join(sorted(self.settings.buckets)) or "none; upload the file"
            raise RequestRejected(
                "source-refused", "is not an allowed source", file=uri, expected=f"buckets: {allowed}"
            )
        return split_uri(uri)

    def _check_webhook(self, address: str | None) -> None:
        if address is None:
            return
        parts = urlsplit(address)
        if self.settings.webhook_secret is None or parts.scheme != "https" or parts.hostname is None:
            raise RequestRejected(
                "webhook-refused",
                "webhooks are not accepted",
                expected="an https:// address, and DANCEDIST_WEBHOOK_SECRET set",
            )
        if parts.hostname not in self.settings.webhook_hosts:
            hosts = ", ".join(sorted(self.settings.webhook_hosts)) or "none"
            raise RequestRejected("webhook-refused", "is not an allowed host", file=address, expected=hosts)


class _SourceRemoved(Exception):
    """The upload was removed or replaced after it was stored."""


def _require_unchanged(source: ListedVideo) -> None:
    store, name = split_uri(source.uri)
    entry = open_storage(store).stat(name)
    if entry is None or entry.etag != source.etag:
        raise _SourceRemoved(source.uri)


def _suffix(file_name: str) -> str:
    suffix = PurePosixPath(file_name).suffix.lower()
    return suffix if suffix[1:].isalnum() and suffix.isascii() and len(suffix) <= 6 else ""
