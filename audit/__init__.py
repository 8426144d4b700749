"""What this project depends on: under which licences, and with which known vulnerabilities.

``python -m audit`` renews ``docs/licences.md`` and asks ``pip-audit``.
"""
