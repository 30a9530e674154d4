"""The best epoch's model is kept, training stops when it gets no better, and a kill changes nothing."""

import logging

import numpy as np
import pytest
import torch

from src.config import identity
from src.errors import Pruned, UserError
from src.run import epochs
from src.run.lifecycle import train_run
from src.run.load import load_trained
from src.run.resume import best_epoch
from src.training import load_checkpoint
from tests.conftest import FAST, config_of, rows_of, summary_of

# A rate at which the accuracy goes up and down.
UNSTEADY = (*FAST, "epochs=12", "schedule=constant", "optimizer.lr=0.01")
BEST = (*UNSTEADY, "checkpoint.keep=best")


def best_row(folder, metric="accuracy"):
    rows = rows_of(folder)
    return max(rows, key=lambda row: row[metric])  # the first of several


def same_weights(one: dict, other: dict) -> bool:
    return all(
        torch.equal(one[part][key], other[part][key])
        for part in ("backbone", "head")
        for key in one[part]
    )


def cut_after(epoch: int, folder, monkeypatch, config) -> None:
    """Train until a file `stop` ends the run after an epoch."""
    whole = epochs.record_epoch

    def stopping(run, done, *arguments, **options):
        value = whole(run, done, *arguments, **options)
        if done.number == epoch:
            (folder / "stop").touch()
        return value

    with monkeypatch.context() as patched:
        patched.setattr(epochs, "record_epoch", stopping)
        with pytest.raises(Pruned):
            train_run(config, folder)


def test_what_is_kept_reported_and_loaded_is_the_epoch_that_it_says(composed, tmp_path):
    train_run(composed(*BEST), tmp_path)
    summary, best = summary_of(tmp_path), best_row(tmp_path)
    assert best["epoch"] < 12, "choose a rate at which the last epoch is not the best"
    assert summary["epochs"] == {"trained": 12, "kept": best["epoch"]}
    assert summary["validation"]["accuracy"] == best["accuracy"]
    assert not (tmp_path / "best.pt").exists() and "best.pt" not in summary["files"]
    model = load_trained(tmp_path)
    assert model.epoch == best["epoch"] and model.unfinished is None
    test = model.data(model.config).test
    with np.load(tmp_path / "embeddings.npz") as kept:
        np.testing.assert_array_equal(model.embed(test).numpy(), kept["embeddings"])
    # Training as many epochs and no more, at a rate that stays the same, ends with this model.
    shorter = composed(*UNSTEADY, f"epochs={best['epoch']:.0f}")
    train_run(shorter, tmp_path / "shorter")
    one, other = (
        load_checkpoint(folder / "checkpoint.pt") for folder in (tmp_path, tmp_path / "shorter")
    )
    assert same_weights(one, other)


def test_both_leaves_the_last_epochs_model_beside(composed, tmp_path):
    train_run(composed(*UNSTEADY, "checkpoint.keep=both"), tmp_path)
    best = int(best_row(tmp_path)["epoch"])
    assert load_checkpoint(tmp_path / "best.pt")["epoch"] == load_trained(tmp_path).epoch == best
    assert load_checkpoint(tmp_path / "checkpoint.pt")["epoch"] == 12
    assert {"best.pt", "checkpoint.pt"} <= set(summary_of(tmp_path)["files"])


def test_an_objective_that_falls_is_best_at_its_lowest():
    rows = [{"eer": 0.3}, {"eer": 0.1}, {"eer": 0.2}, {"eer": 0.1}]
    config = config_of("evaluation=verification", "objective=eer", "early_stopping.patience=2")
    assert best_epoch(config, rows) == 2
    assert epochs.is_enough(config, rows) and not epochs.is_enough(config, rows[:3])


def test_training_stops_once_it_has_been_no_better_for_as_long(composed, tmp_path, caplog):
    config = composed(*UNSTEADY, "epochs=40", "early_stopping.patience=3", "plots.animate=true")
    with caplog.at_level(logging.INFO):
        train_run(config, tmp_path)
    best, trained = best_row(tmp_path)["epoch"], len(rows_of(tmp_path))
    assert trained == best + 3 < 40 and summary_of(tmp_path)["state"] == "finished"
    assert summary_of(tmp_path)["epochs"] == {"trained": trained, "kept": trained}
    assert f"stopped after epoch {trained} of 40: accuracy has not improved for 3 epochs" in caplog.text
    assert load_trained(tmp_path).unfinished is None
    assert len(np.load(tmp_path / "frames.npz")["points"]) == trained


def test_a_run_that_was_cut_short_keeps_the_same_models(composed, tmp_path, monkeypatch):
    config = composed(*UNSTEADY, "checkpoint.keep=both", "early_stopping.patience=4")
    train_run(config, tmp_path / "whole")
    kept = summary_of(tmp_path / "whole")["epochs"]
    for cut in {int(kept["kept"]), int(kept["trained"]) - 1}:
        folder = tmp_path / f"cut{cut}"
        cut_after(cut, folder, monkeypatch, config)
        train_run(config, folder)
        assert summary_of(folder)["epochs"] == kept and summary_of(folder)["resumed_after_epoch"] == cut
        for name in ("metrics.csv", "embeddings.npz"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
        for name in ("checkpoint.pt", "best.pt"):
            one, other = (load_checkpoint(f / name) for f in (folder, tmp_path / "whole"))
            assert one["epoch"] == other["epoch"] and same_weights(one, other)


def test_a_kill_between_the_two_checkpoints_of_the_best_epoch_loses_nothing(
    composed, tmp_path, monkeypatch
):
    config, save = composed(*BEST), epochs.save_run
    train_run(config, tmp_path / "whole")
    best = summary_of(tmp_path / "whole")["epochs"]["kept"]

    def dying(run, epoch, name):
        if epoch == best and name == "best.pt":
            raise KeyboardInterrupt
        save(run, epoch, name)

    with monkeypatch.context() as patched:
        patched.setattr(epochs, "save_run", dying)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, tmp_path / "cut")
    train_run(config, tmp_path / "cut")
    assert summary_of(tmp_path / "cut")["epochs"]["kept"] == best
    names = ("metrics.csv", "embeddings.npz")
    assert all(
        (tmp_path / "cut" / n).read_bytes() == (tmp_path / "whole" / n).read_bytes() for n in names
    )


def test_a_kill_after_training_stopped_trains_no_further(composed, tmp_path, monkeypatch):
    config = composed(*UNSTEADY, "epochs=40", "early_stopping.patience=3", "checkpoint.keep=best")
    with monkeypatch.context() as patched:
        patched.setattr("src.run.lifecycle.evaluate_and_write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_run(config, tmp_path / "cut")
    train_run(config, tmp_path / "cut")
    train_run(config, tmp_path / "whole")
    for name in ("metrics.csv", "embeddings.npz"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("harm", ["gone", "of another epoch"])
def test_without_the_best_epochs_model_a_run_begins_again(harm, composed, tmp_path, monkeypatch, caplog):
    config = composed(*UNSTEADY, "checkpoint.keep=both")
    train_run(config, tmp_path / "whole")
    best = summary_of(tmp_path / "whole")["epochs"]["kept"]
    cut_after(best + 1, tmp_path / "cut", monkeypatch, config)
    path = tmp_path / "cut" / "best.pt"
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes((path.parent / "checkpoint.pt").read_bytes())
    train_run(config, tmp_path / "cut")
    assert "the best epoch's model is gone: starting again from the first epoch" in caplog.text
    assert summary_of(tmp_path / "cut")["epochs"]["kept"] == best
    assert (tmp_path / "cut" / ".stale" / "without-best" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("checkpoint.keep=best", "checkpoint.keep=best: needs a validation split"),
        ("early_stopping.patience=1", "early_stopping.patience=1: needs a validation split"),
    ],
)
def test_the_test_split_chooses_no_epoch(asked, said, composed, tmp_path):
    with pytest.raises(UserError, match=said):
        train_run(composed(*FAST, asked, "dataset.val_fraction=0"), tmp_path)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("checkpoint.keep=first", "checkpoint.keep=first: expected one of last, best, both"),
        ("early_stopping.patience=0", "early_stopping.patience=0: expected an integer ≥ 1 or null"),
        (
            "early_stopping.patience=2",
            "early_stopping.patience=2: training ends after epochs=2",
        ),
        ("optimizer.clip_norm=0", "optimizer.clip_norm=0: expected a number > 0, < 1e6 or null"),
    ],
)
def test_what_cannot_be_is_refused_before_training(asked, said, composed, tmp_path):
    with pytest.raises(UserError, match=said):
        train_run(composed(*FAST, asked), tmp_path)


def test_the_objective_is_part_of_the_run_where_it_chooses_the_epoch(composed):
    other = "objective=worst_recall"
    assert identity(composed("checkpoint.keep=last")) == identity(composed(other))
    for chosen in ("checkpoint.keep=best", "early_stopping.patience=3"):
        assert identity(composed(chosen)) != identity(composed())
        assert identity(composed(chosen)) != identity(composed(chosen, other))
