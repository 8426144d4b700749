"""The measures by which a target model is evaluated on the test images, one file each."""

from advfeat.evaluation.accuracy import accuracy_by_class, expected_calibration_error
from advfeat.evaluation.agreement import Agreement, agreement
from advfeat.evaluation.robustness import autoattack_accuracy, robust_accuracy
from advfeat.evaluation.similarity import linear_cka, representation
from advfeat.models import predict, probabilities

__all__ = [
    "Agreement",
    "accuracy_by_class",
    "agreement",
    "autoattack_accuracy",
    "expected_calibration_error",
    "linear_cka",
    "predict",
    "probabilities",
    "representation",
    "robust_accuracy",
]
