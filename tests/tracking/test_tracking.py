"""A run as W&B stored it, read back from the offline file."""

import json
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from src.config.tree import Logger
from src.errors import UserError
from src.run.lifecycle import train_run
from src.tracking import check_online, point_cloud
from src.tracking.session import Note, Session
from tests import faults
from tests.conftest import FAST, summary_of


def records(folder: Path):
    return records_in(next(folder.glob("wandb/offline-run-*")))


def records_in(run_folder: Path) -> list:
    """The records of a finished run's .wandb file, which W&B writes a moment after it says so."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found = list(parsed(next(run_folder.glob("*.wandb")).read_bytes()))
        if of_kind(found, "exit"):
            break
        time.sleep(0.05)
    return found


def parsed(data: bytes):
    """LevelDB's log framing after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, parts = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:  # a block's padding
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def nested(items) -> dict:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


OFFLINE = tuple(override for override in FAST if override != "logger=none")


def test_without_a_key_a_run_is_offline_and_holds_everything(composed, tmp_path, without_key, drawn):
    folder = tmp_path / "run"
    folder.mkdir()
    accuracy = train_run(composed(*OFFLINE, "logger.tags=[mine]"), folder, "a-sweep")
    found = list(records(folder))

    run = next(record.run for record in found if record.WhichOneof("record_type") == "run")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["choices"]["loss"] == "arcface" and config["margin"]["value"] == 0.5
    assert config["identity"] == summary_of(folder)["identity"]
    assert set(run.tags) == {"arcface", "digits", "mlp", "mine"} and run.run_group == "a-sweep"

    rows = [nested(r.history.item) for r in found if r.WhichOneof("record_type") == "history"]
    assert [row["epoch"] for row in rows if "loss" in row] == [1, 2]
    assert [row["validation/accuracy"] for row in rows if "loss" in row][-1] == accuracy
    kinds = {key: value for row in rows for key, value in row.items() if key.endswith("_type")}
    assert kinds["plots/embedding/_type"] == "image-file" and kinds["embedding/_type"] == "object3D-file"

    files = next(folder.glob("wandb/offline-run-*/files/media"))
    cloud = np.array(json.loads(next(files.rglob("*.pts.json")).read_text()))
    assert cloud.shape == (360, 4) and set(cloud[:, 3]) == set(range(1, 11))
    assert len(list(files.rglob("*.png"))) == 4
    assert [r.exit.exit_code for r in found if r.WhichOneof("record_type") == "exit"] == [0]


def test_a_run_that_fails_is_marked_failed(composed, tmp_path, without_key):
    with pytest.raises(UserError, match="not a finite number"):
        train_run(composed(*OFFLINE, "optimizer.lr=1e5", "scale=learnable"), tmp_path)
    exits = [r.exit.exit_code for r in records(tmp_path) if r.WhichOneof("record_type") == "exit"]
    assert exits == [1]


def of_kind(found, kind: str) -> list:
    return [getattr(record, kind) for record in found if record.WhichOneof("record_type") == kind]


def test_a_resumed_run_goes_on_under_its_id_and_is_tagged(composed, tmp_path, without_key, monkeypatch):
    def dying(optimizer):
        if (tmp_path / "checkpoint.pt").exists():
            raise KeyboardInterrupt

    config = composed(*OFFLINE, "optimizer._target_=tests.faults.Adam")
    with monkeypatch.context() as patched:
        patched.setattr(faults, "strike", dying)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, tmp_path)
    train_run(config, tmp_path)
    parts = sorted(tmp_path.glob("wandb/offline-run-*"))
    first, second = (of_kind(records_in(part), "run")[0] for part in parts)
    assert first.run_id == second.run_id
    assert "resumed" in second.tags and "resumed" not in first.tags


def test_a_run_that_goes_on_within_a_second_keeps_its_earlier_files(tmp_path, without_key, monkeypatch):
    earlier = Note("abc", files="wandb/offline-run-20260101_000000-abc")
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "run.json").write_text(json.dumps(vars(earlier)))
    stamps = iter(["20260101_000000", "20260101_000000", "20260101_000001"])
    clock = SimpleNamespace(strftime=lambda _: next(stamps), sleep=lambda _: None)
    monkeypatch.setattr("src.tracking.session.time", clock)
    left = []
    monkeypatch.setattr(Session, "_init", lambda *_: left.append(list(stamps)) or "enough")
    Session(Logger(mode="offline"), tmp_path, own_id=True).begin()
    assert left == [[]]  # W&B began in another second


@pytest.mark.parametrize("how", ["logger=none", "logger.mode=disabled"])
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
