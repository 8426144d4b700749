"""Transfer of D_rand: how many of its examples fool an architecture, and how well it learns from them.

As ``transfer``, with random target labels in place of the next class's.
"""

from dataclasses import replace

from advfeat.recipes import d_rand

RECIPE = replace(
    d_rand.RECIPE,
    name="transfer_d_rand",
    summary="D_rand, and how many of its examples fool a network like the target model",
    published=None,
    dataset_of="d_rand",
    transfers=True,
    page="transfer",
)
