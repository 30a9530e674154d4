"""A run that starts from another one's weights: what fits is taken, what does not is named."""

import logging
import shutil

import pytest
import torch

from src.config import identity
from src.errors import Pruned, UserError
from src.run import epochs
from src.run.best import point_to
from src.run.build import build_model, build_run
from src.run.folder import RunFolder
from src.run.init import start_from
from src.run.lifecycle import train_run
from src.run.start import with_start
from src.torchvision_compat import models
from src.training import load_checkpoint
from tests.conftest import FAST

SETTING = (*FAST, "epochs=3", "model.embedding_dim=16", "batch_size=16")


def on(part: str, patterns, *overrides: str) -> tuple[str, ...]:
    data = ("dataset=image_folder", f"dataset.root={patterns / part}", "dataset.val_fraction=0.4")
    return (*SETTING, *data, "model=mlp", *overrides)


def weights_of(run) -> dict:
    return {"backbone": run.backbone.state_dict(), "head": run.head.state_dict()}


def test_a_run_starts_where_another_ended(composed, patterns, trained_on_patterns, tmp_path, caplog):
    config = composed(*on("trained", patterns, f"init.from={trained_on_patterns}"))
    with caplog.at_level(logging.INFO):
        run = build_run(config, RunFolder(tmp_path))
    saved = load_checkpoint(trained_on_patterns / "checkpoint.pt")
    for part, state in weights_of(run).items():  # the same classes: the class weights too
        assert all(torch.equal(value, saved[part][key]) for key, value in state.items()), part
    assert "the class weights start from it too" in caplog.text


def test_what_does_not_fit_stays_as_it_was_drawn_and_is_named(
    composed, patterns, trained_on_patterns, tmp_path, caplog
):
    overrides = on("unknown", patterns, "model.embedding_dim=8")
    drawn = build_run(composed(*overrides), RunFolder(tmp_path))
    run = build_run(composed(*overrides, f"init.from={trained_on_patterns}"), RunFolder(tmp_path))
    saved = load_checkpoint(trained_on_patterns / "checkpoint.pt")["backbone"]
    new = {key for key, value in run.backbone.state_dict().items() if value.shape != saved[key].shape}
    assert len(new) == 2
    for key, value in run.backbone.state_dict().items():
        expected = drawn.backbone.state_dict()[key] if key in new else saved[key]
        assert torch.equal(value, expected), key
    assert torch.equal(run.head.weight, drawn.head.weight)  # other classes
    for key in new:
        assert f"{key}: shape {tuple(saved[key].shape)} in the file" in caplog.text


@pytest.mark.parametrize(
    "form", ["plain", "state_dict", "module.", "body alone", "in a lightning module", "body in a model"]
)
def test_files_of_weights_are_read(form, composed, patterns, trained_on_patterns, tmp_path):
    weights = load_checkpoint(trained_on_patterns / "checkpoint.pt")["backbone"]
    body = {k.removeprefix("0."): v for k, v in weights.items() if k.startswith("0.")}
    held = {
        "plain": weights,
        "state_dict": {"state_dict": weights},
        "module.": {f"module.{k}": v for k, v in weights.items()},
        "body alone": body | {"fc.weight": torch.zeros(1000, 3)},
        "in a lightning module": {
            "state_dict": {f"model.{k}": v for k, v in weights.items()} | {"loss.w": torch.zeros(3)}
        },
        "body in a model": {f"net.encoder.{k}": v for k, v in body.items()},
    }
    torch.save(held[form], tmp_path / "w.pth")
    run = build_run(
        composed(*on("unknown", patterns, f"init.from={tmp_path}/w.pth")), RunFolder(tmp_path)
    )
    taken = weights if "body" not in form else [k for k in weights if k.startswith("0.")]
    assert len(taken) > 3
    assert all(torch.equal(run.backbone.state_dict()[k], weights[k]) for k in taken)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_librarys_own_file_fits_but_for_its_classifier(library, composed, tmp_path, caplog):
    make = models.get_model if library == "torchvision" else pytest.importorskip("timm").create_model
    net = make("resnet18", num_classes=10)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    data = ("dataset=synthetic", "dataset.dimension=12288")
    own = (f"model={library}", "model.architecture=resnet18", f"init.from={tmp_path}/w.pth")
    config = composed(*SETTING, *data, *own)
    body = build_model(config, (3, 64, 64))
    start_from(str(tmp_path / "w.pth"), body, head=None, classes=("a", "b"))
    found, expected = body.state_dict(), net.state_dict()
    fitting = [name for name in expected if not name.startswith("fc.")]
    assert (
        all(torch.equal(found[f"0.{name}"], expected[name]) for name in fitting) and len(fitting) > 100
    )


def test_a_run_that_was_cut_short_needs_its_source_no_more(
    composed, patterns, trained_on_patterns, tmp_path, monkeypatch
):
    source = tmp_path / "w.pth"
    torch.save(load_checkpoint(trained_on_patterns / "checkpoint.pt")["backbone"], source)
    config = composed(*on("unknown", patterns, f"init.from={source}"))
    train_run(config, tmp_path / "whole")
    whole = epochs.record_epoch

    def stopping(run, done, *arguments, **options):
        (run.folder.path / "stop").touch()
        return whole(run, done, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(epochs, "record_epoch", stopping)
        with pytest.raises(Pruned):
            train_run(config, tmp_path / "cut")
    source.unlink()
    train_run(config, tmp_path / "cut")
    for name in ("metrics.csv", "embeddings.npz"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_it_starts_with_is_part_of_the_run_and_not_where_that_lies(
    composed, trained_on_patterns, tmp_path, monkeypatch
):
    def of(source) -> str:
        return identity(with_start(composed(f"init.from={source}")))

    chosen = of(trained_on_patterns)
    assert chosen != identity(composed())
    (tmp_path / "comparison").mkdir()
    moved = shutil.copytree(trained_on_patterns, tmp_path / "moved")
    shutil.copy(moved / "checkpoint.pt", tmp_path / "w.pt")
    monkeypatch.chdir(tmp_path)
    assert chosen == of(moved) == of("moved") == of("w.pt")
    point_to(moved, tmp_path / "comparison")
    assert chosen == of("best:.")
    saved = load_checkpoint(tmp_path / "w.pt")
    next(iter(saved["backbone"].values())).add_(1)
    torch.save(saved, tmp_path / "w.pt")
    assert chosen != of("w.pt") != identity(composed())
    (tmp_path / "w.pt").unlink()
    assert of("w.pt") not in (chosen, of("other.pt"))  # it is refused when it begins


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "neither a run's folder nor a file of weights"),
        (b"", "cannot be read"),
        ({"x": torch.zeros(2)}, "none of its 1 weights fits this model"),
        ([1, 2], "holds no weights by name"),
    ],
    ids=["missing", "empty", "of another model", "a list"],
)
def test_what_is_no_start_is_refused_in_a_line(content, why, composed, tmp_path):
    source = tmp_path / "w.pth"
    if isinstance(content, bytes):
        source.write_bytes(content)
    elif content is not None:
        torch.save(content, source)
    with pytest.raises(UserError, match=f"init.from={source}: .*{why}"):
        train_run(composed(*FAST, f"init.from={source}"), tmp_path / "run")
