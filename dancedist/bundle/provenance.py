"""Marks on synthetic video: container metadata and a C2PA signature."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dancedist import __version__
from dancedist.bundle.record import Dancer
from dancedist.errors import DancedistError

# IPTC's digital source type for media made by a trained model.
_SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


class SigningFailed(DancedistError):
    """A video could not be signed with this key."""

    slug = "signing-failed"


@dataclass(frozen=True)
class SigningKey:
    """PEM files: the certificate chain, leaf first, and its private key; `algorithm` as C2PA names it (es256, ...)."""

    certificates: Path
    key: Path
    algorithm: str = "es256"


def film_metadata(dancer: Dancer) -> dict[str, str]:
    """Container metadata of a rendered video: that it is synthetic, and which dancer rendered it."""
    return {
        "title": f"{dancer.name} (synthetic)",
        "comment": "Synthetic media: rendered by dancedist, not filmed.",
        "description": f"dancedist {__version__}, dancer {dancer.name}, weights sha256 {dancer.weights_sha256[:16]}",
    }


def sign_film(film: Path, dancer: Dancer, key: SigningKey) -> None:
    """Sign an MP4 in place with a C2PA manifest that declares it as made by a trained model.

    Requires the package c2pa-python. Raises SigningFailed.
    """
    import c2pa

    action = {"action": "c2pa.created", "digitalSourceType": _SYNTHETIC}
    manifest = {
        "claim_generator_info": [{"name": "dancedist", "version": __version__}],
        "title": film_metadata(dancer)["title"],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }
    try:
        info = c2pa.C2paSignerInfo(key.algorithm.encode(), key.certificates.read_bytes(), key.key.read_bytes(), None)
        with (
            TemporaryDirectory(dir=film.parent, prefix=".") as scratch,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(json.dumps(manifest)) as builder,
        ):
            builder.sign_file(film, Path(scratch) / film.name, signer)
            (Path(scratch) / film.name).replace(film)
    except (c2pa.C2paError, OSError, ValueError) as error:
        raise SigningFailed("could not be signed", file=film.name, expected=key.algorithm, got=str(error)) from error
