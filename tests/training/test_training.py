"""The loop's parts: schedules, batches, checkpoints, models."""

import math
import os
import pickle

import pytest
import torch
from torch import nn

from src.losses import NormFace
from src.training import (
    NotFinite,
    Step,
    TrainingBar,
    build_optimizer,
    choose_device,
    constant_rate,
    cosine_decay,
    fit,
    load_checkpoint,
    margin_schedule,
    one_cycle,
    save_checkpoint,
    sgd,
    shuffled,
    step_decay,
)

CPU = choose_device("cpu", 2, "fp32")


def test_the_bar_of_a_resumed_run_starts_after_its_last_epoch(monkeypatch):
    now = iter([100.0, 102.0])
    monkeypatch.setattr("src.training.progress.time.perf_counter", lambda: next(now))
    bar = TrainingBar(epochs=10, steps=20, batch_size=8, trained=5)
    (task,) = bar.bar.tasks
    assert (task.completed, task.total, task.fields["epoch"]) == (100, 200, 6)
    bar.epoch_done(6, 0.1, 0.9)
    assert task.completed == 120 and task.fields["speed"] == 20 * 8 / 2


class Rows:
    """A split of N rows that remembers which it gave out."""

    def __init__(self, count: int, broken_at: int | None = None):
        self.count, self.broken_at, self.given = count, broken_at, []

    def __len__(self) -> int:
        return self.count

    def feed(self, order, size):
        return ((rows,) for rows in order.split(size))

    def prepare(self, index):
        self.given.append(index.tolist())
        x = torch.ones(len(index), 4)
        return x * (math.nan if len(self.given) == self.broken_at else 1), index % 3


def fitted(rows, batch_size, epochs=2, seed=0, clip_norm=None, **options):
    backbone, head = nn.Linear(4, 2), NormFace(2, 3, scale=4.0)
    optimizer = build_optimizer(sgd, backbone, head, lr=0.1, head_lr=None)
    schedule = constant_rate(optimizer, len(rows) // batch_size, epochs)
    generator = torch.Generator().manual_seed(seed)
    step = Step(rows, backbone, head, optimizer, schedule, CPU, clip_norm=clip_norm)
    options = {"order": shuffled(len(rows))} | options
    return fit(step, epochs=epochs, batch_size=batch_size, generator=generator, **options)


def test_an_epoch_is_a_permutation_without_the_incomplete_batch():
    rows = Rows(10)
    epochs = list(fitted(rows, 4))
    assert [epoch.number for epoch in epochs] == [1, 2] and all(e.speed > 0 for e in epochs)
    assert [len(batch) for batch in rows.given] == [4, 4, 4, 4]
    first, second = rows.given[0] + rows.given[1], rows.given[2] + rows.given[3]
    assert len(set(first)) == len(set(second)) == 8 and first != second
    again = Rows(10)
    list(fitted(again, 4))
    assert again.given == rows.given


def test_a_loss_that_is_not_finite_is_located():
    with pytest.raises(NotFinite, match="epoch 2, step 1 of 2"):
        list(fitted(Rows(10, broken_at=3), 4))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_weights_that_the_last_step_breaks_are_found(broken):
    epochs = fitted(Rows(8), 4, epochs=1, on_step=lambda step, losses: break_after(step))
    backbone = epochs.gi_frame.f_locals["step"].backbone

    def break_after(step):
        if step == 1:  # the last, whose loss was a number
            backbone.weight.data[0, 0] = broken

    with pytest.raises(NotFinite, match="weights were not finite numbers at the end of epoch 1"):
        next(epochs)


def rates(schedule, steps, epochs, **options):
    optimizer = build_optimizer(sgd, nn.Linear(1, 1), nn.Linear(1, 1), lr=0.4, head_lr=0.04)
    schedule = schedule(optimizer, steps, epochs, **options)
    seen = []
    for _ in range(steps * epochs):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert all(head == pytest.approx(lr / 10) for lr, head in seen)
    return [lr for lr, _ in seen]


def test_learning_rates_over_time():
    assert set(rates(constant_rate, 3, 2)) == {0.4}
    step = rates(step_decay, 5, 20, every=8, factor=0.25)
    assert step[39] == 0.4 and step[40] == pytest.approx(0.1) and step[80] == pytest.approx(0.025)
    cosine = rates(cosine_decay, 5, 10)
    assert cosine[0] == 0.4 and cosine[25] == pytest.approx(0.2) and cosine[-1] < 0.001
    onecycle = rates(one_cycle, 10, 10, rising=0.3)
    assert max(onecycle) == pytest.approx(0.4, rel=1e-3) and 29 <= onecycle.index(max(onecycle)) <= 31


def test_schedules_over_very_few_steps():
    for steps in (1, 2, 3):
        for rising in (0, 0.1, 0.25, 0.3, 1 / 3, 0.5, 1):
            assert all(0 <= rate <= 0.4001 for rate in rates(one_cycle, steps, 1, rising=rising))
        assert rates(cosine_decay, steps, 1)[0] == 0.4
        assert len(rates(step_decay, steps, 1, every=1, factor=0.5)) == steps


@pytest.mark.parametrize(("shape", "middle"), [("linear", 0.5), ("exponential", 0.969), ("cosine", 0.5)])
def test_margins_over_time(shape, middle):
    margin = margin_schedule(torch.tensor(1.0), torch.tensor(3.0), 4, shape)
    assert margin(0).item() == 1 and margin(4).item() == 3 and margin(9).item() == 3
    assert margin(2).item() == pytest.approx(1 + 2 * middle, abs=2e-3)


@pytest.mark.parametrize("content", [b"", b"torn", pickle.dumps(math.sqrt)])
def test_a_file_that_is_no_checkpoint_is_said_so_without_bad_advice(content, tmp_path):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"or (is )?no checkpoint$") as said:
        load_checkpoint(tmp_path / "c.pt")
    assert "weights_only" not in str(said.value)


def test_a_pipe_in_the_place_of_a_checkpoint_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "c.pt")
    with pytest.raises(ValueError, match="a folder, pipe, socket or device, not a file"):
        load_checkpoint(tmp_path / "c.pt")


def test_a_checkpoint_is_replaced_whole(tmp_path):
    save_checkpoint(tmp_path / "c.pt", epoch=1, weight=torch.ones(2))
    save_checkpoint(tmp_path / "c.pt", epoch=2, weight=torch.zeros(2))
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert loaded["epoch"] == 2 and loaded["weight"].tolist() == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_the_gpu_learns(composed, tmp_path):
    from src.run.lifecycle import train_run

    assert train_run(composed("device=cuda", "device.precision=bf16", "logger=csv"), tmp_path) > 0.9


@pytest.mark.parametrize(("clip_norm", "norm"), [(0.01, 0.01), (1.0, 1.0), (9.0, 5.63), (None, 5.63)])
def test_gradients_are_scaled_down_to_the_norm_that_is_asked_for(clip_norm, norm):
    torch.manual_seed(0)
    epochs = fitted(Rows(4), 4, epochs=1, clip_norm=clip_norm)
    step = epochs.gi_frame.f_locals["step"]
    backbone, head = step.backbone, step.head
    list(epochs)
    gradients = [p.grad.flatten() for module in (backbone, head) for p in module.parameters()]
    assert torch.cat(gradients).norm().item() == pytest.approx(norm, rel=0.01)
