"""Checkpoints from strangers: what is in them is one line, runs nothing, asks no server, and fits."""

import io
import os
import shutil
import socket
import zipfile
from argparse import Namespace

import pytest
import torch

from src.config.tree import Device
from src.errors import UserError
from src.evaluate import evaluate
from src.models import timm_body, torchvision_body
from src.run.build import build_run
from src.run.folder import RunFolder
from src.run.load import load_trained
from src.run.resume import save_run
from src.training import load_checkpoint

CPU = Device(kind="cpu", threads=1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint of an untrained run."""
    from tests.run.test_trained import configured

    folder = tmp_path_factory.mktemp("run")
    save_run(build_run(configured("model.hidden=8"), RunFolder(folder)), 2, "checkpoint.pt")
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def nested(config: dict, key: str, value: object) -> dict:
    """A copy of a configuration in which a dotted key has another value."""
    first, _, rest = key.partition(".")
    inner = nested(config.get(first, {}), rest, value) if rest else value
    return {k: v for k, v in config.items() if k != first} | ({} if inner is ... else {first: inner})


def refusal(folder, content: object, allowed=()) -> str:
    torch.save(content, folder / "checkpoint.pt")
    with pytest.raises(UserError) as caught:
        load_trained(folder, CPU, allowed)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 900 and "weights_only" not in said
    return said


def test_the_checkpoint_itself_is_loaded(saved, tmp_path):
    torch.save(saved, tmp_path / "checkpoint.pt")
    assert load_trained(tmp_path, CPU).classes[3] == "3"


def test_a_name_from_a_checkpoint_leads_to_no_other_folder(saved, tmp_path, capsys):
    folder = tmp_path / "deep" / "run"
    folder.mkdir(parents=True)
    config = nested(saved["config"], "choices.dataset", "x/../../../../\x1bpwned")
    torch.save(saved | {"config": config}, folder / "checkpoint.pt")
    given = Namespace(overrides=[], config_dir=None, out=None)
    evaluate(load_trained(folder, CPU), given)
    (written,) = (folder / "evaluations").iterdir()
    assert written.name.endswith("x_.._.._.._..__pwned")
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}
    assert "\x1b" not in capsys.readouterr().out
    shutil.rmtree(folder / "evaluations")
    (folder / "evaluations").symlink_to(tmp_path)
    with pytest.raises(UserError, match="evaluations: a link to"):
        evaluate(load_trained(folder, CPU), given)


@pytest.mark.parametrize("content", [5, [1], None, {}, "text", {"config": {}}, torch.zeros(3)])
def test_what_holds_no_run_is_named(content, tmp_path):
    assert "checkpoint.pt: cannot be read (it" in refusal(tmp_path, content)


SMALL_CNN = {"model._target_": "src.models.small_cnn", "model.hidden": ...}
IRESNET = {"model._target_": "src.models.iresnet", "model.hidden": ...}
KINDS = [
    None,
    5,
    -1,
    "text",
    [],
    [None],
    {},
    {"mean": 5, "std": []},
    float("nan"),
    torch.zeros(2),
    [["a"]],
]


@pytest.mark.parametrize(
    "key", ["config", "classes", "image_shape", "normalisation", "data", "epoch", "backbone", "head"]
)
def test_other_kinds_of_values_are_named_by_their_key(key, saved, tmp_path):
    for value in KINDS:
        if isinstance(value, {"data": str, "epoch": int}.get(key, bool)) and value != -1:
            continue  # as it should be
        said = refusal(tmp_path, saved | {key: value})
        fits = "its weights do not fit" in said and key in ("backbone", "head")
        lacks = "its configuration is not a run's" in said and key == "config"  # keys, not all
        assert f"its {key} is not a run's" in said or fits or lacks, (value, said)
    said = refusal(tmp_path, {k: v for k, v in saved.items() if k != key})
    assert f"it has no {key}" in said


@pytest.mark.parametrize(
    "key",
    [
        *("loss", "loss.beyond_pi", "loss._target_", "margin", "margin.epochs", "margin.value"),
        *("scale", "scale.kind", "scale.value", "model", "model.hidden", "model._target_"),
        *("model.embedding_dim", "neck.norm", "dataset", "dataset.root", "dataset._target_", "epochs"),
        *("device", "evaluation", "choices", "choices.model"),
    ],
)
def test_other_kinds_in_its_configuration_are_one_line(key, saved, tmp_path):
    for value in (..., None, -7, "text", [1], {"a": [1]}, torch.zeros(2), 10**30, float("nan")):
        torch.save(saved | {"config": nested(saved["config"], key, value)}, tmp_path / "checkpoint.pt")
        try:
            load_trained(tmp_path)  # its own device
        except UserError as error:
            said = str(error)
            assert "\n" not in said and "weights_only" not in said and len(said) < 1500, (value, said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.hidden": 10**9}, "a model far larger than its weights"),
        ({"model.hidden": 2**16, "model.embedding_dim": 2**16}, "a model far larger than its weights"),
        ({"model.embedding_dim": 2**40}, "a model far larger than its weights"),
        (SMALL_CNN | {"model.width": 10**5}, "a model far larger than its weights"),
        (IRESNET | {"model.depths": [10**9, 1, 1, 1]}, "a model far larger than its weights"),
        ({"model.hidden": 16}, "its weights do not fit"),
    ],
)
def test_a_model_that_is_larger_than_its_weights_is_not_built(changes, said, saved, tmp_path):
    config = saved["config"]
    for key, value in changes.items():
        config = nested(config, key, value)
    assert said in refusal(tmp_path, saved | {"config": config})


def test_images_and_views_larger_than_anything_are_refused(saved, tmp_path):
    for shape in ((1, 10**6, 10**6), (10**9, 8, 8)):
        assert "its image_shape is not a run's" in refusal(tmp_path, saved | {"image_shape": shape})
    name = next(iter(saved["backbone"]))
    huge = torch.zeros(1).expand(2**50)  # four bytes in the file
    said = refusal(tmp_path, saved | {"backbone": saved["backbone"] | {name: huge}})
    assert "its weights do not fit" in said


def test_a_checkpoint_that_would_expand_is_not_read(saved, tmp_path):
    path, out = tmp_path / "checkpoint.pt", io.BytesIO()
    torch.save(saved | {"frames": torch.zeros(2**20)}, out)
    with zipfile.ZipFile(out) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(UserError, match=r"checkpoint.pt: cannot be read \(would expand to [\d,]+ bytes"):
        load_trained(tmp_path, CPU)


class Harmful:
    def __reduce__(self):
        return os.system, ("true",)


def test_what_is_more_than_weights_is_named_without_torchs_advice_to_trust_it(tmp_path):
    for content in (Harmful(), tmp_path, {"a": Harmful()}, [eval]):
        said = refusal(tmp_path, content)
        assert "holds more than tensors and plain values (" in said
    with pytest.raises(ValueError, match=r"^holds more than .* \(.*eval\), or is no checkpoint$"):
        load_checkpoint(tmp_path / "checkpoint.pt")
    for torn in (b"", b"torn", b"PK\3\4", b"\x80\x02]."):
        (tmp_path / "checkpoint.pt").write_bytes(torn)
        with pytest.raises(UserError, match=r"checkpoint.pt: cannot be read \(torn, or no checkpoint\)"):
            load_trained(tmp_path, CPU)


def needs_timm() -> None:
    import src.torchvision_compat  # noqa: F401, timm imports torchvision, which has to be done there

    pytest.importorskip("timm")


@pytest.fixture
def no_network(monkeypatch):
    asked = []

    def connect(*arguments, **_):
        asked.append(arguments)
        raise OSError("no network")

    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, connect)
    monkeypatch.setattr(socket.socket, "connect", connect)
    return asked


@pytest.mark.parametrize(
    "name", ["hf-hub:stranger/model", "hf_hub:timm/resnet18.a1_in1k", "local-dir:/tmp", "../x"]
)
def test_a_name_from_a_checkpoint_never_contacts_a_network(name, saved, tmp_path, no_network):
    needs_timm()
    for body in ("timm_body", "torchvision_body"):
        config = nested(saved["config"], "model._target_", f"src.models.{body}")
        config = nested(nested(config, "model.architecture", name), "model.hidden", ...)
        for pretrained in (True, False):
            said = refusal(tmp_path, saved | {"config": nested(config, "model.pretrained", pretrained)})
            assert f"model.architecture={name}: " in said and "has no architecture of this name" in said
    assert no_network == []


def test_a_file_named_in_a_checkpoint_is_not_read_and_weights_are_not_fetched(no_network, tmp_path):
    needs_timm()
    shape = (3, 64, 64)
    options = {"checkpoint_path": str(tmp_path / "none.pt"), "pretrained": True, "fetch": False}
    assert timm_body(shape, architecture="resnet18", **options) is not None
    assert torchvision_body(shape, architecture="resnet18", pretrained=True, fetch=False) is not None
    with pytest.raises(
        ValueError, match=r"^architecture=hf-hub:a/b: timm has no architecture of this name"
    ):
        timm_body(shape, architecture="hf-hub:a/b")
    assert no_network == []
