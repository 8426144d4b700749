"""torchvision's networks with stems and heads for small images: 3x3, stride 1, no pooling before the blocks.

torchvision is slow to import, so each function imports what it builds.
"""

from torch import nn


def vgg16_bn(channels: int, classes: int) -> nn.Module:
    """Build torchvision's VGG-16 with batch norm, and one linear layer instead of three.

    Poolings keep the odd last row and column, so that 28 pixels a side survive all five; 32 pixels
    are halved evenly either way. Initial convolutions are drawn as torchvision draws them.
    """
    from torchvision.models.vgg import cfgs, make_layers

    features: nn.Sequential = make_layers(cfgs["D"], batch_norm=True)
    features[0] = nn.Conv2d(channels, 64, 3, padding=1)
    for layer in features:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


_INCEPTION_STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""Stages 3 to 5 of GoogLeNet; a row holds #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj."""


def inception(channels: int, classes: int) -> nn.Module:
    """Build the nine Inception modules of GoogLeNet (C. Szegedy et al. 2015, table 1) behind a 3x3 stem.

    The modules are torchvision's, with batch norm. There are no auxiliary heads and no dropout, and
    the poolings before the modules are left out.
    """
    from torchvision.models.googlenet import BasicConv2d, Inception

    inputs = 192
    layers: list[nn.Module] = [BasicConv2d(channels, inputs, kernel_size=3, padding=1)]
    for stage in _INCEPTION_STAGES:
        if stage is not _INCEPTION_STAGES[0]:
            layers.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
        for one, three_reduce, three, five_reduce, five, pool in stage:
            layers.append(Inception(inputs, one, three_reduce, three, five_reduce, five, pool))
            inputs = one + three + five + pool
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def densenet(channels: int, classes: int) -> nn.Module:
    """Build torchvision's DenseNet as DenseNet-BC-100, k = 12 (G. Huang et al. 2017) for small images.

    Its blocks normalize first, so nothing stands between the 3x3 stem and the first block.
    """
    from torchvision.models import DenseNet

    network: nn.Module = DenseNet(
        growth_rate=12,
        block_config=(16, 16, 16),
        num_init_features=24,
        bn_size=4,
        drop_rate=0,
        num_classes=classes,
    )
    features = network.get_submodule("features")
    features.conv0 = nn.Conv2d(channels, 24, 3, padding=1, bias=False)
    del features.norm0, features.relu0, features.pool0
    return network
