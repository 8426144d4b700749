"""``python -m audit``: renew the list of licences, then ask for known vulnerabilities."""

import sys

from audit.dependencies import REPOSITORY
from audit.page import licences_page
from audit.vulnerabilities import audit

if __name__ == "__main__":
    (REPOSITORY / "docs/licences.md").write_text(licences_page(), encoding="utf-8")
    sys.exit(audit())
