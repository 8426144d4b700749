"""Encoded pictures -> arrays, by as many processes as pay; quick to import, as each of them does."""
