"""Known vulnerabilities of the pinned packages, as ``pip-audit`` finds them."""

import json
import subprocess
import sys

from audit.dependencies import REPOSITORY

FOUND, NOT_ASKED = 1, 2
"""Exit codes: something is vulnerable; there is no saying, because nobody answered."""


def audit() -> int:
    """Ask for every pin of ``constraints.txt``, print what is found in lines, and return an exit code."""
    command = [sys.executable, "-m", "pip_audit", "--strict", "--disable-pip", "--no-deps", "--format=json"]
    done = subprocess.run(
        [*command, "--progress-spinner=off", f"--requirement={REPOSITORY / 'constraints.txt'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        print(f"audit: nobody can say what is vulnerable ({said}); try where PyPI answers", file=sys.stderr)
        return NOT_ASKED
    found = [(package, flaw) for package in packages for flaw in package["vulns"]]
    for package, flaw in found:
        fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {flaw['id']}, mended in {fixed}")
    print(f"audit: {len(packages)} packages, {len(found)} known vulnerabilities")
    return FOUND if found else 0
