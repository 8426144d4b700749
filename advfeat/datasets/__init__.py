"""Data sets: their rows as they are made and stored, their cards, and what they were made from."""
