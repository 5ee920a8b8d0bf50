"""Audit the packages that the image installs for known vulnerabilities: `make audit`.

pip-audit queries PyPI. Without PyPI's advisories (no network, a mirror without them) it reports no vulnerability for
anything. So a release with known vulnerabilities is audited first. If none are reported for it, nothing can be audited
here: the script says so and passes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# It has all packages of cpu.lock, and torch in a version that PyPI knows.
LOCK = Path(__file__).resolve().parents[1] / "k8s" / "image" / "cuda.lock"
VULNERABLE = "jinja2==2.4.1"


def main() -> int:
    """Return 0 if no vulnerability is known or none can be known here, 1 otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "vulnerable.txt"
        probe.write_text(VULNERABLE + "\n")
        if not vulnerabilities(run_pip_audit(probe)):
            print(f"NOT AUDITED: no vulnerability is reported for {VULNERABLE}, so PyPI's advisories are unavailable")
            return 0
    packages = run_pip_audit(LOCK)
    lines = vulnerabilities(packages)
    print("\n".join(lines) or "no known vulnerabilities")
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    print(f"{len(packages) - len(skipped)} packages audited" + (f", not {', '.join(skipped)}" if skipped else ""))
    return 1 if lines or len(skipped) == len(packages) else 0


def run_pip_audit(requirements: Path) -> list[dict[str, Any]]:
    """Return pip-audit's entry for each package; empty if it cannot query PyPI."""
    options = ["--disable-pip", "--no-deps", "--format=json", "--progress-spinner=off", "--timeout=15"]
    command = [str(Path(sys.executable).with_name("pip-audit")), "--requirement", str(requirements), *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if not result.stdout:
        print(result.stderr, file=sys.stderr)
        return []
    packages: list[dict[str, Any]] = json.loads(result.stdout)["dependencies"]
    return packages


def vulnerabilities(packages: list[dict[str, Any]]) -> list[str]:
    """Format one line per vulnerability."""
    return [
        f"{package['name']} {package['version']}: {entry['id']}, fixed in {', '.join(entry['fix_versions']) or 'none'}"
        for package in packages
        for entry in package.get("vulns", ())
    ]


if __name__ == "__main__":
    raise SystemExit(main())
