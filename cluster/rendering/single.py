"""Render one film with a dancer from the registry, from and to a disk or S3."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.storage.download_cache import fetch_current
from cluster.storage.open import open_storage, split_uri
from cluster.tracking.registry import fetch_dancer
from dancedist import commands
from dancedist.bundle.bundle import load_bundle
from dancedist.render.film import Film


def render_film(
    dancer_uri: str, source_uri: str, out_uri: str, storage_uri: str, recipe_file: Path | None = None
) -> Film:
    """Render a source's dance and write the film to `out_uri` atomically, marked as synthetic.

    The path of the returned film is its name only.

    Raises DancerUnknown, RegistryUnavailable, TrackingRefused, FileInvalid, StorageMissing, StorageUnavailable, and
    the errors of dancedist.commands.render about the source.
    """
    store, name = split_uri(out_uri)
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        dancer = fetch_dancer(dancer_uri, Path(scratch) / "dancer", storage_uri)
        source = fetch_current(source_uri, load_bundle(dancer).dancer.recipe.extraction.cache_gb)
        film = commands.render(dancer, source, Path(scratch) / name, recipe_file)
        open_storage(store).upload(film.path, name)
    return replace(film, path=Path(name))
