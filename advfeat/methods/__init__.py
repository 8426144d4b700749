"""The papers' methods that recipes use: what computes, apart from what a recipe says of itself."""
