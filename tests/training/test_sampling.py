"""Samplers: how often each class and each sample comes."""

import pytest
import torch

from src.training.sampling import balanced, classes_in_batches

# Class 3 has none, class 0 many.
SIZES = [0] * 900 + [1] * 60 + [2] * 30 + [4] * 10
LABELS = torch.tensor(SIZES)[torch.randperm(1000, generator=torch.Generator().manual_seed(5))]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_balanced_takes_every_class_as_often_and_every_sample_of_it():
    order, generator = balanced(LABELS), seeded()
    drawn = torch.cat([order(generator) for _ in range(40)])
    shares = torch.bincount(LABELS[drawn], minlength=5).double() / len(drawn)
    # Binomial: a standard deviation of 0.0022 about a quarter.
    assert shares[3] == 0 and (shares[[0, 1, 2, 4]] - 0.25).abs().max() < 0.01
    rare = torch.bincount(drawn, minlength=1000)[LABELS == 4].double()
    assert rare.min() > 0.8 * rare.mean() and len(drawn) == 40_000


def test_an_order_is_the_generators():
    for order in (balanced(LABELS), classes_in_batches(LABELS, 8, 4)):
        first, again, other = order(seeded()), order(seeded()), order(seeded(1))
        assert torch.equal(first, again) and not torch.equal(first, other)


def test_batches_have_so_many_classes_with_different_samples_of_each():
    order = classes_in_batches(LABELS, 32, 8)(seeded())
    assert len(order) == 1000 // 32 * 32
    for batch in order.view(-1, 32):
        classes, counts = LABELS[batch].unique(return_counts=True)
        assert len(classes) == 4 and (counts == 8).all()
        assert len(batch.unique()) == 32  # the rarest class has ten


def test_a_class_of_fewer_samples_repeats_them_evenly():
    labels = torch.tensor([0] * 3 + [1] * 50 + [2] * 50)
    seen = 0
    for batch in classes_in_batches(labels, 16, 8)(seeded()).view(-1, 16):
        of_it = batch[labels[batch] == 0]
        if len(of_it):
            seen += 1
            assert sorted(torch.bincount(of_it).tolist()) == [2, 3, 3]
    assert seen


def test_within_its_class_every_sample_comes_about_as_often():
    order, generator = classes_in_batches(LABELS, 8, 2), seeded()
    drawn = torch.cat([order(generator) for _ in range(60)])
    often = torch.bincount(drawn, minlength=1000)[LABELS == 2].double()
    assert often.min() > 0.75 * often.mean() and often.max() < 1.25 * often.mean()


@pytest.mark.parametrize(
    ("size", "samples", "said"),
    [
        (30, 4, "samples_per_class=4: does not divide a batch of 30"),
        (32, 4, "a batch of 32 then has 8 classes, and there are only 4; give more samples"),
    ],
)
def test_batches_that_cannot_be_are_refused(size, samples, said):
    with pytest.raises(ValueError, match=said):
        classes_in_batches(LABELS, size, samples)
