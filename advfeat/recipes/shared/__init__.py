"""What recipes share: what a recipe is, how images are perturbed, figures of one table."""
