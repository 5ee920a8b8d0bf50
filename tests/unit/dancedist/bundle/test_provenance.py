from __future__ import annotations

import datetime as dt
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey as PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dancedist.bundle.provenance import SigningFailed, SigningKey, film_metadata, sign_film
from dancedist.recipe.schema import Recipe, VideoRecipe
from dancedist.render.label import put_label
from dancedist.video.encode import write_film
from dancedist.video.probe import probe
from tests.unit.dancedist.bundle.test_bundle import make_bundle

Issued = tuple[x509.Certificate, PrivateKey]
c2pa = pytest.importorskip("c2pa", reason="needs c2pa-python")


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    """A leaf certificate for signing and its authority: C2PA does not accept self-signed certificates."""
    authority, authority_key = certificate("authority")
    leaf, leaf_key = certificate("leaf", (authority, authority_key))
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (tmp_path / "chain.pem").write_bytes(leaf.public_bytes(pem) + authority.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return SigningKey(tmp_path / "chain.pem", tmp_path / "key.pem")


def test_a_signed_video_is_declared_synthetic(tmp_path: Path, tiny_recipe: Recipe, key: SigningKey) -> None:
    dancer = make_bundle(tmp_path / "ann", tiny_recipe)
    frames = np.zeros((9, 48, 64, 3), np.uint8)
    path = tmp_path / "film.mp4"
    write_film(path, frames, Fraction(25), crf=20, x264_preset="ultrafast", metadata=film_metadata(dancer))
    sign_film(path, dancer, key)
    assert probe(path, VideoRecipe()).frames == 9
    with c2pa.Reader(str(path)) as reader:
        assert reader.get_validation_state() == "Valid"
        store = json.loads(reader.json())
    manifest = store["manifests"][store["active_manifest"]]
    actions = [a for a in manifest["assertions"] if a["label"].startswith("c2pa.actions")]
    assert actions[0]["data"]["actions"][0]["digitalSourceType"].endswith("trainedAlgorithmicMedia")
    signed = path.read_bytes()
    at = signed.index(b"mdat") + 40
    (tmp_path / "altered.mp4").write_bytes(signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :])
    with c2pa.Reader(str(tmp_path / "altered.mp4")) as reader:
        assert reader.get_validation_state() == "Invalid"


def test_an_invalid_key_leaves_the_video_unchanged(tmp_path: Path, tiny_recipe: Recipe, key: SigningKey) -> None:
    dancer = make_bundle(tmp_path / "ann", tiny_recipe)
    path = tmp_path / "film.mp4"
    write_film(path, np.zeros((2, 48, 64, 3), np.uint8), Fraction(25), crf=20, x264_preset="ultrafast")
    before = path.read_bytes()
    key.key.write_text("nothing")
    for bad in (key, SigningKey(tmp_path / "no", tmp_path / "no")):
        with pytest.raises(SigningFailed):
            sign_film(path, dancer, bad)
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.glob("*.mp4")} == {"film.mp4"}


@pytest.mark.parametrize("size", [(1080, 1920), (64, 48), (12, 9)])
def test_the_label_is_visible(size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), 200, np.uint8)
    put_label(frame)
    changed = (frame != 200).any(axis=-1)
    assert changed.any() and changed[-1, 0]
    rows, columns = np.nonzero(changed)
    if size[0] > 100:
        assert frame.max() == 255 and rows.min() > 0.9 * size[0] and columns.max() < 0.5 * size[1]


def certificate(name: str, issuer: Issued | None = None) -> Issued:
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    attributes = [(NameOID.COMMON_NAME, name), (NameOID.ORGANIZATION_NAME, "test")]
    subject = x509.Name([x509.NameAttribute(*attribute) for attribute in attributes])
    signer, authority = (issuer[1] if issuer else key), issuer is None
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=9))
        .add_extension(x509.BasicConstraints(authority, None), True)
        .add_extension(x509.KeyUsage(True, key_cert_sign=authority, crl_sign=authority, **usage), True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
    return builder.sign(signer, hashes.SHA256()), key
