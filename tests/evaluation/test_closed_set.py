"""Numbers against scikit-learn's, and against angles that are known."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score

from src.evaluation import closed_set
from src.evaluation.closed_set import CLOSED_SET_METRICS, TILE
from src.losses import ArcFace, NormFace, Softmax


def test_counts_agree_with_scikit_learn():
    torch.manual_seed(0)
    head = NormFace(5, 4, scale=30.0)
    y = torch.randint(4, (500,))
    x = head.weight.detach()[y] + 0.6 * torch.randn(500, 5)
    result = closed_set(head, x, y, tile=64 * 4)
    predicted = (torch.nn.functional.normalize(x) @ head.weight.T).argmax(1)
    assert result.metrics["accuracy"] == pytest.approx(accuracy_score(y, predicted))
    recall = recall_score(y, predicted, average=None)
    np.testing.assert_allclose(result.recall, recall)
    assert result.metrics["worst_recall"] == pytest.approx(recall.min())
    np.testing.assert_array_equal(result.predicted, predicted)
    assert list(result.metrics) == list(CLOSED_SET_METRICS) and 0.5 < result.metrics["accuracy"] < 1


def test_angles_and_the_margin_are_what_they_are_called():
    head = ArcFace(2, 2, margin=0.5, scale=64.0)
    head.weight.data.copy_(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    # 0.2, 0.6 and 1.0 rad from their own prototype, the rest of 90° from the other.
    own = torch.tensor([0.2, 0.6, 1.0])
    x = 7 * torch.stack([own.cos(), own.sin()], 1)
    result = closed_set(head, x, torch.tensor([0, 0, 0]))
    torch.testing.assert_close(result.target_angle, own)
    torch.testing.assert_close(result.other_angle, math.pi / 2 - own)
    assert result.metrics["target_angle_mean"] == pytest.approx(0.6, abs=1e-6)
    assert result.metrics["target_angle_p50"] == pytest.approx(0.6, abs=1e-6)
    assert result.metrics["accuracy"] == pytest.approx(2 / 3)  # 1.0 is nearer to the other
    assert result.metrics["margin_satisfied"] == pytest.approx(1 / 3)  # 0.6 + 0.5 > π/2 − 0.6
    assert result.recall[1].isnan() and result.metrics["worst_recall"] == pytest.approx(2 / 3)


def test_many_classes_are_judged_a_few_rows_at_a_time():
    classes = 100_000
    head, labels, rows = ArcFace(4, classes), torch.arange(0, classes, 500), []
    logits = head.logits
    head.logits = lambda x: rows.append(len(x)) or logits(x)
    result = closed_set(head, head.weight.detach()[labels], labels)
    assert max(rows) * classes <= TILE < (max(rows) + 1) * classes
    assert result.metrics["accuracy"] == 1 and len(result.recall) == classes


def test_softmax_predicts_by_logit_with_its_bias():
    head = Softmax(2, 2)
    head.weight.data.copy_(torch.eye(2))
    head.bias.data.copy_(torch.tensor([0.0, 10.0]))
    result = closed_set(head, torch.tensor([[3.0, 0.0]]), torch.tensor([1]))
    assert result.metrics["accuracy"] == 1 and result.metrics["target_angle_mean"] == pytest.approx(
        math.pi / 2
    )
