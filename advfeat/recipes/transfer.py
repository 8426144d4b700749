"""Transfer: how many of D_det's examples fool an architecture, and how well it learns from them.

Ilyas et al. 2019, section 3.3 and figure 3: architectures that learn more from another network's
adversarial examples are those that fall for them more often. One accuracy cannot show that: the claim of
a row is that of the data set it learns from. Whether architectures that fall for more learn more is judged
in grids over architectures (``advfeat grid transfer``), whose report has a verdict on the correlation.
"""

from dataclasses import replace

from advfeat.recipes import d_det

RECIPE = replace(
    d_det.RECIPE,
    name="transfer",
    summary="D_det, and how many of its examples fool a network like the target model",
    paper="Ilyas et al. 2019, figure 3",
    published=None,  # figure 3 is a scatter plot over five architectures
    dataset_of="d_det",
    transfers=True,
)
