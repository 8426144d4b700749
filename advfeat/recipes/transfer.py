"""Transfer: how many of D_det's or D_rand's examples fool an architecture, and how well it learns from them.

Ilyas et al. 2019, section 3.3 and figure 3: architectures that learn more from another network's
adversarial examples are those that fall for them more often. One accuracy cannot show that: the claim of
a row is that of the data set it learns from. Whether architectures that fall for more learn more is judged
in grids over architectures (``advfeat grid transfer``), whose report has a verdict on the correlation.
"""

from dataclasses import replace

from advfeat.recipes.d_det import D_DET
from advfeat.recipes.d_rand import D_RAND

TRANSFER = replace(
    D_DET,
    name="transfer",
    summary="D_det, and how many of its examples fool a network like the target model",
    published=None,  # figure 3 is a scatter plot over five architectures
    dataset_of="d_det",
    transfers=True,
)
TRANSFER_D_RAND = replace(
    D_RAND,
    name="transfer_d_rand",
    summary="D_rand, and how many of its examples fool a network like the target model",
    published=None,
    dataset_of="d_rand",
    transfers=True,
)
