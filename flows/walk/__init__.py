"""The walk over a plan: which stage is computed when, on Ray, and what follows when one fails."""
