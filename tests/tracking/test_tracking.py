"""What a run asks of W&B, and what it is given, without a server."""

import numpy as np
import pytest

from src.errors import UserError
from src.run.lifecycle import train_run
from src.tracking import check_online, note_of, point_cloud
from tests.conftest import FAST

OFFLINE = tuple(override for override in FAST if override != "logger=csv")


def test_without_a_key_a_run_is_offline_and_says_what_uploads_it_later(
    composed, tmp_path, without_key, said
):
    train_run(composed(*OFFLINE, "logger.tags=[mine]"), tmp_path / "run", "a-sweep")
    (line,) = [line for line in said.messages if "W&B" in line]
    assert line.startswith("W&B is offline (no W&B key here (wandb login)); later: python -m src.sync ")
    note = note_of(tmp_path / "run")
    assert note.left == "no W&B key here (wandb login)" and note.split == "validation"
    assert note.about["group"] == "a-sweep" and note.about["name"].endswith("/run")
    assert set(note.about["tags"]) == {"arcface", "digits", "mlp", "mine"}
    assert [path.name for path in (tmp_path / "run" / "wandb").iterdir()] == ["run.json"]


@pytest.mark.parametrize("how", ["logger=csv", "logger.mode=disabled"])
def test_no_logger_writes_nothing_for_wandb(how, composed, tmp_path, without_key):
    train_run(composed(*OFFLINE, how), tmp_path)
    assert not (tmp_path / "wandb").exists()


def test_online_without_a_key_is_refused(composed, without_key):
    with pytest.raises(UserError, match=r"logger.mode=online: no W&B key"):
        check_online(composed("logger.mode=online").logger)
    with pytest.raises(UserError, match=r"logger.mode=onlin: expected one of auto, online"):
        composed("logger.mode=onlin")


def test_point_clouds():
    points, labels = np.eye(3)[:, :2], np.array([0, 1, 13])
    assert point_cloud(points, labels, np.zeros((14, 3))).tolist() == [
        [1, 0, 0, 1],
        [0, 1, 0, 2],
        [0, 0, 0, 14],
    ]
    colours = np.arange(45).reshape(15, 3)
    assert point_cloud(points, labels, colours)[2].tolist() == [0, 0, 0, 39, 40, 41]
    many = point_cloud(np.zeros((25_000, 3)), np.zeros(25_000, int), np.zeros((2, 3)))
    assert many.shape == (10_000, 4)
