"""The figures of table 1 of Ilyas et al. 2019, of learning from adversarial examples."""

from advfeat.recipes.shared.recipe import Published

_SOURCE = "Ilyas et al. 2019, table 1"


def table_1(test_accuracy: float) -> Published:
    """Return a figure of CIFAR-10."""
    return Published(
        test_accuracy,
        "CIFAR-10, ResNet-50, L2 eps 0.5, 100 steps",
        _SOURCE,
        settings={
            "data.source": "cifar10",
            "data.train_size": None,
            "source.model": "resnet50",
            "target.model": "resnet50",
            "attack.norm": "l2",
            "attack.eps": 0.5,
            "attack.steps": 100,
        },
    )


def table_1_restricted_imagenet(test_accuracy: float) -> Published:
    """Return a figure of Restricted ImageNet; eps and steps of it are not verified."""
    return Published(
        test_accuracy,
        "Restricted ImageNet, L2",
        _SOURCE,
        settings={"data.source": "restricted-imagenet", "data.train_size": None, "attack.norm": "l2"},
    )
