"""Known vulnerabilities of what the image installs: `make audit`.

pip-audit asks PyPI. Where PyPI's advisories cannot be had (no network, a mirror without them) it finds nothing wrong
with anything. So it is asked about a release with known holes first; where that looks well, nothing can be audited
here: this says so, and passes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# It holds all that cpu.lock holds, and torch by a version that PyPI knows.
LOCK = Path(__file__).resolve().parents[1] / "k8s" / "image" / "cuda.lock"
HOLED = "jinja2==2.4.1"


def main() -> int:
    """0 where nothing is known against it, or nothing can be known here; 1 where something is."""
    with tempfile.TemporaryDirectory() as folder:
        known = Path(folder) / "known.txt"
        known.write_text(HOLED + "\n")
        if not holes(ask(known)):
            print(f"NOT AUDITED: nothing is known here even of {HOLED}, so PyPI's advisories cannot be had")
            return 0
    packages = ask(LOCK)
    found = holes(packages)
    print("\n".join(found) or "no known vulnerabilities")
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    print(f"{len(packages) - len(skipped)} packages audited" + (f", not {', '.join(skipped)}" if skipped else ""))
    return 1 if found or len(skipped) == len(packages) else 0


def ask(requirements: Path) -> list[dict[str, Any]]:
    """What pip-audit tells of each package; nothing where it cannot ask."""
    options = ["--disable-pip", "--no-deps", "--format=json", "--progress-spinner=off", "--timeout=15"]
    command = [str(Path(sys.executable).with_name("pip-audit")), "--requirement", str(requirements), *options]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if not told.stdout:
        print(told.stderr, file=sys.stderr)
        return []
    packages: list[dict[str, Any]] = json.loads(told.stdout)["dependencies"]
    return packages


def holes(packages: list[dict[str, Any]]) -> list[str]:
    """A line for each vulnerability."""
    return [
        f"{package['name']} {package['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'none'}"
        for package in packages
        for hole in package.get("vulns", ())
    ]


if __name__ == "__main__":
    raise SystemExit(main())
