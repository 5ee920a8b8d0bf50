"""One film with a dancer out of the registry, from and to a disk or S3."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.storage.base import open_storage, split_uri
from cluster.storage.download_cache import fetched_now
from cluster.tracking.registry import fetch_dancer
from dancedist import commands
from dancedist.bundle.bundle import load_bundle
from dancedist.render.film import Film


def render_with(
    dancer_uri: str, source_uri: str, out_uri: str, storage_uri: str, recipe_file: Path | None = None
) -> Film:
    """Render a source's dance; the film is at `out_uri` whole or not at all, marked as synthetic.

    Of the path, what is returned has the name alone.

    Raises DancerUnknown, RegistryUnavailable, TrackingRefused, FileInvalid, StorageMissing, StorageUnavailable, and
    what is wrong with the source.
    """
    store, name = split_uri(out_uri)
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        dancer = fetch_dancer(dancer_uri, Path(scratch) / "dancer", storage_uri)
        source = fetched_now(source_uri, load_bundle(dancer).dancer.recipe.extraction.cache_gb)
        film = commands.render(dancer, source, Path(scratch) / name, recipe_file)
        open_storage(store).upload(film.path, name)
    return replace(film, path=Path(name))
