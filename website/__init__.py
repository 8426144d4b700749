"""Builds the documentation as a site: ``python -m website``."""
