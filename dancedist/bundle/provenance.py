"""Marks on synthetic video."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dancedist import __version__
from dancedist.bundle.bundle import Dancer
from dancedist.errors import DancedistError

# IPTC's word for what a trained model made.
_SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


class SigningFailed(DancedistError):
    """A film that could not be signed with this key."""

    slug = "signing-failed"


@dataclass(frozen=True)
class SigningKey:
    """PEM files: the certificate chain, leaf first, and its private key; `algorithm` as C2PA names it (es256, ...)."""

    certificates: Path
    key: Path
    algorithm: str = "es256"


def film_metadata(dancer: Dancer) -> dict[str, str]:
    """What every rendered film carries in its container: that it is synthetic, and what made it."""
    return {
        "title": f"{dancer.name} (synthetic)",
        "comment": "Synthetic media: rendered by dancedist, not filmed.",
        "description": f"dancedist {__version__}, dancer {dancer.name}, weights sha256 {dancer.weights_sha256[:16]}",
    }


def sign_film(film: Path, dancer: Dancer, key: SigningKey) -> None:
    """Put a C2PA manifest into an MP4, in place: that a trained model made it. Raises SigningFailed.

    Needs the package c2pa-python.
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
