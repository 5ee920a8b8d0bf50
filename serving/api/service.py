"""What the API's routes have in common, and how a request becomes a render."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from cluster.poses.inputs import Listed
from cluster.storage.base import StorageMissing, open_storage, split_uri
from cluster.tracking.registry import Version
from dancedist.recipe import VideoRecipe, fingerprint
from dancedist.video.probe import probe
from serving.api.errors import Refused
from serving.api.keys import Caller, Keys
from serving.api.schemas import RenderRequest
from serving.api.uploads import Form
from serving.db.engine import Database
from serving.db.models import RenderRow
from serving.db.records import Asked, Records
from serving.settings import Settings
from serving.workers import paths
from serving.workers.dancers import Dancers
from serving.workers.previews import Frames

# Changes when the same dancer and source would give another film.
RENDER_VERSION = 3
_MAX_KEY = 255


class Service:
    """Settings, records, keys and dancers; and the places of what belongs to a render."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database)
        self.records, self.frames = Records(self.database), Frames(self.database)
        self.keys = Keys(settings.api_keys)
        self.dancers = Dancers(settings.storage, without_consent=settings.without_consent)
        self.store = open_storage(settings.storage)
        self.receiving = asyncio.Semaphore(settings.max_uploads)

    async def ask(
        self, caller: Caller, request: RenderRequest, form: Form | None, again: str | None
    ) -> tuple[RenderRow, bool]:
        """Queue a render of the form's file, or of a source in a bucket; False for one that was asked for before.

        Raises Refused, DancerUnknown, RegistryUnavailable, VideoUnreadable, VideoTooLarge, StorageUnavailable,
        StorageMissing, QueueFull, TooManyRenders, RequestDiffers.
        """
        if again is not None and not 0 < len(again) <= _MAX_KEY:
            raise Refused("request-invalid", "is no idempotency key", expected=f"1 to {_MAX_KEY} characters")
        if (form is None or form.file is None) == (request.source is None):
            raise Refused("request-invalid", "needs one source", expected="a file or an s3:// address")
        self._check_webhook(request.webhook)
        version = await asyncio.to_thread(self.dancers.find, request.dancer)
        self.dancers.require_consent(version)
        while True:
            source = await asyncio.to_thread(self._source, request, form)
            asked = self._asked(caller, request, version, source, again)
            bounds = self.settings.max_queue, self.settings.max_per_key
            check = partial(_require, source) if request.source is None else lambda: None
            try:
                return await asyncio.to_thread(self.records.add, asked, *bounds, check)
            except _SourceGone:
                # Nobody had it any more, and it was removed just now: it is stored again.
                continue

    def _asked(
        self, caller: Caller, request: RenderRequest, version: Version, source: Listed, again: str | None
    ) -> Asked:
        dancer = {"name": version.name, "version": version.number, "uri": version.uri}
        kept = {**request.model_dump(mode="json"), "source": asdict(source)}
        content = (source.uri, source.size_bytes, source.etag)
        # A film without the marks that are asked for now is another film.
        marks = (request.label or self.settings.label, str(self.settings.c2pa_certificates))
        of_film = fingerprint(version.uri, version.tags.get("fingerprint", ""), *content, *marks, RENDER_VERSION)
        digest = sha256(json.dumps([request.model_dump(mode="json"), *content], sort_keys=True).encode()).hexdigest()
        return Asked(caller.key_id, again, digest, kept, dancer, of_film, source.uri, request.webhook)

    def _source(self, request: RenderRequest, form: Form | None) -> Listed:
        if form is not None and form.file is not None:
            return self._kept(form)
        assert request.source is not None
        store, name = self._allowed(request.source)
        found = open_storage(store).stat(name)
        if found is None:
            raise StorageMissing("is not there", file=request.source)
        if found.size_bytes > self.settings.max_upload_bytes:
            expected = f"{self.settings.max_upload_bytes} bytes at most"
            raise Refused("upload-too-large", "is too large", file=request.source, expected=expected)
        return Listed("source", request.source, found.size_bytes, found.etag)

    def _kept(self, form: Form) -> Listed:
        """Look at an uploaded file, and store it under its content's checksum."""
        assert form.file is not None
        # Its sender's name for it is told, and leads nowhere.
        probe(form.file, self.settings.limits(VideoRecipe()))
        store, name = paths.sources(self.settings.storage), f"{form.sha256}{_suffix(form.file_name)}"
        if store.stat(name) is None:
            store.upload(form.file, name)
        found = store.stat(name)
        assert found is not None
        return Listed("source", f"{store.uri}/{name}", found.size_bytes, found.etag)

    def _allowed(self, uri: str) -> tuple[str, str]:
        parts = urlsplit(uri)
        if parts.scheme != "s3" or parts.netloc not in self.settings.buckets or parts.query or parts.fragment:
            allowed = ", ".join(sorted(self.settings.buckets)) or "none; send the file"
            raise Refused("source-refused", "is no source that may be named", file=uri, expected=f"buckets: {allowed}")
        return split_uri(uri)

    def _check_webhook(self, address: str | None) -> None:
        if address is None:
            return
        parts = urlsplit(address)
        if self.settings.webhook_secret is None or parts.scheme != "https" or parts.hostname is None:
            raise Refused(
                "webhook-refused", "webhooks are not taken here", expected="https://, and a secret to sign them"
            )
        if parts.hostname not in self.settings.webhook_hosts:
            hosts = ", ".join(sorted(self.settings.webhook_hosts)) or "none"
            raise Refused("webhook-refused", "is no host that may be called", file=address, expected=hosts)


class _SourceGone(Exception):
    """An upload that is not there any more."""


def _require(source: Listed) -> None:
    store, name = split_uri(source.uri)
    found = open_storage(store).stat(name)
    if found is None or found.etag != source.etag:
        raise _SourceGone(source.uri)


def _suffix(file_name: str) -> str:
    suffix = PurePosixPath(file_name).suffix.lower()
    return suffix if suffix[1:].isalnum() and suffix.isascii() and len(suffix) <= 6 else ""
