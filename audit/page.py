"""The list of licences, in Markdown."""

from collections.abc import Mapping
from importlib.metadata import Distribution

from audit.dependencies import for_development, for_use
from audit.licences import licence, needs_reason, reason

_HEAD = """\
# Licences of dependencies

advfeat is under the [Apache License 2.0](../LICENSE). It needs what others have written, in the versions of
`constraints.txt`, and passes on none of it. This is what those packages say of themselves. `make audit`
writes the list anew.
"""
_ALONE = """
## Accepted for a reason

Licences that bind what is linked with a package, that are no free ones, or that a package does not state.

| package | licence | why it is accepted |
|---|---|---|
"""


def licences_page() -> str:
    """Return the page of all installed dependencies."""
    users, developers = for_use(), for_development()
    text = _HEAD
    text += "\n## What runs with advfeat\n\nWith all extras for users.\n\n" + _table(users)
    text += "\n## What tests, documents and measures it\n\n" + _table(developers)
    return (
        text
        + _ALONE
        + "".join(
            f"| {name} | {stated or 'not stated'} | {reason(name) or 'not known yet'} |\n"
            for name, package in (users | developers).items()
            if needs_reason(stated := licence(package))
        )
    )


def _table(packages: Mapping[str, Distribution]) -> str:
    rows = "".join(f"| {name} | {licence(package) or 'not stated'} |\n" for name, package in packages.items())
    return f"| package | licence |\n|---|---|\n{rows}"
