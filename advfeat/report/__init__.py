"""Evaluations -> rows -> a table in the terminal and one HTML file."""
