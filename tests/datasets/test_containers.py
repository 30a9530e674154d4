"""Images within larger files: RecordIO, tar archives, what the datasets library has saved."""

import io
import json
import struct
import tarfile

import pytest
import torch
from PIL import Image

from src.datasets import huggingface, image_folder, load, recordio, webdataset
from src.datasets.recordio import MAGIC
from src.run.lifecycle import train_run
from tests.conftest import FAST, summary_of

CPU = torch.device("cpu")


@pytest.fixture
def encoded(folder_of) -> list[tuple[int, bytes]]:
    """Labels and PNGs of eight people, four each."""
    root = folder_of("faces")
    return [(int(p.parent.name[1:]), p.read_bytes()) for p in sorted(root.rglob("*.png"))]


def part(content: bytes, kind: int = 0) -> bytes:
    word = kind << 29 | len(content)
    return struct.pack("<II", MAGIC, word) + content + bytes(-len(content) % 4)


def record(label, image: bytes) -> bytes:
    labels = label if isinstance(label, tuple) else ()
    header = struct.pack("<IfQQ", len(labels), 0 if labels else label, 7, 0)
    content = header + struct.pack(f"<{len(labels)}f", *labels) + image
    pieces = content.split(struct.pack("<I", MAGIC))
    if len(pieces) == 1:
        return part(content)
    kinds = [1, *[2] * (len(pieces) - 2), 3]
    return b"".join(map(part, pieces, kinds))


def write_records(root, encoded, change=lambda records: records):
    """As insightface does: record 0 says where the identities' records begin, which have no images."""
    root.mkdir(exist_ok=True)
    records = [record((len(encoded) + 1.0, len(encoded) + 9.0), b"")]
    records += [record(float(label) if row % 2 else (float(label), 0.5), image)
                for row, (label, image) in enumerate(encoded)]  # fmt: skip
    records += [record((4.0 * k + 1, 4.0 * k + 5), b"") for k in range(8)]
    (root / "train.rec").write_bytes(b"".join(change(records)))
    return root


def write_tar(path, encoded, label: str = "cls", first: int = 0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for row, (person, image) in enumerate(encoded, first):
            said = json.dumps({"id": person}) if label == "json" else f"{person}\n"
            for ending, content in ((label, said.encode()), ("png", image), ("txt", b"a face")):
                member = tarfile.TarInfo(f"{row:05d}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def pixels_by_class(data) -> dict[str, list]:
    found: dict[str, list] = {}
    for split in (data.train, data.val, data.test):
        for row in range(len(split or ())):
            name = str(int(split.classes[split.labels[row]].lstrip("p")))
            found.setdefault(name, []).append(split.images[row].numpy().tobytes())
    return {name: sorted(images) for name, images in found.items()}


def same_as_folder(data, folder_of) -> bool:
    root = folder_of("again")
    return pixels_by_class(data) == pixels_by_class(load(image_folder, root, CPU))


def finishes(composed, tmp_path, *where: str) -> bool:
    train_run(composed(*FAST, *where, "batch_size=8"), tmp_path / "run")
    summary = summary_of(tmp_path / "run")
    return summary["state"] == "finished" and summary["counts"]["test"]["images"] == 8


def test_recordio_from_the_one_command_to_a_finished_run(encoded, folder_of, composed, tmp_path):
    root = write_records(tmp_path / "faces_rec", encoded)
    data = load(recordio, root, CPU)
    assert same_as_folder(data, folder_of) and data.test.names[0].isdigit()
    assert finishes(composed, tmp_path, "dataset=recordio", f"dataset.root={root}", "dataset.memory=0")


def test_a_record_that_holds_the_magic_number_is_put_together(encoded, tmp_path):
    magic = struct.pack("<I", MAGIC)
    trailing = [(label, image + magic + b"1234" + magic) for label, image in encoded]
    root = write_records(tmp_path / "faces_rec", trailing)
    assert pixels_by_class(load(recordio, root, CPU)) == pixels_by_class(
        load(recordio, write_records(tmp_path / "plain", encoded), CPU)
    )
    held = load(recordio, root, CPU, memory=0).train.images
    assert held.content(0) in {image for _, image in trailing}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: [], r"train.rec: an empty file"),
        (lambda r: [b"not records at all"], r"record 0: none begins at byte 0"),
        (lambda r: [*r[:5], b"\0\0\0\0", *r[5:]], r"record 5: none begins at byte \d+"),
        (lambda r: [*r[:5], r[5][:40]], r"record 5: the file ends within it"),
        (lambda r: [*r[:5], part(r[6][8:40], 2)], r"record 5: none begins at byte"),
        (lambda r: [*r[:5], part(b"short"), *r[6:]], r"record 5: 5 bytes, too few for its header"),
        (lambda r: [*r[:5], record(0.5, b"x"), *r[6:]], r"record 5: label 0.5, expected a whole"),
        (lambda r: [*r[:5], record(float("nan"), b"x"), *r[6:]], r"record 5: label nan, expected"),
        (lambda r: [*r[:5], record(1.0, b"no image"), *r[6:]], r"record 5: not an image .*skip_broken"),
        (lambda r: r[:1] + r[-8:], r"train.rec: holds no images"),
    ],
)
def test_what_is_wrong_in_recordio_is_named_with_its_record(encoded, tmp_path, change, said):
    root = write_records(tmp_path / "faces_rec", encoded, change)
    with pytest.raises(ValueError, match=said) as caught:
        load(recordio, root, CPU)
    assert "\n" not in str(caught.value)


def test_webdataset_from_the_one_command_to_a_finished_run(encoded, folder_of, composed, tmp_path):
    for number in range(2):
        half = encoded[16 * number :][:16]
        write_tar(tmp_path / f"tars/faces-{number:03d}.tar", half, first=16 * number)
    data = load(webdataset, tmp_path / "tars", CPU)
    assert same_as_folder(data, folder_of) and data.test.names[0].startswith("faces-00")
    where = ("dataset=webdataset", f"dataset.root={tmp_path / 'tars'}")
    assert finishes(composed, tmp_path, *where, "dataset.memory=0")


def test_archives_are_parts_and_labels_may_be_in_json(encoded, tmp_path):
    for name, rows in (("train-0", slice(0, 16)), ("val-0", slice(16, 24)), ("test/a", slice(24, 32))):
        write_tar(tmp_path / f"tars/{name}.tar", encoded[rows], "json")
    data = load(webdataset, tmp_path / "tars", CPU, label="json:id")
    assert [s.classes for s in (data.train, data.val, data.test)] == [
        ("0", "1", "2", "3"),
        ("4", "5"),
        ("6", "7"),
    ]


def test_archives_called_eval_beside_train_are_asked_about(encoded, tmp_path):
    for name, rows in (("train-0", slice(0, 16)), ("eval-0", slice(16, 32))):
        write_tar(tmp_path / f"tars/{name}.tar", encoded[rows])
    with pytest.raises(
        ValueError, match=r"tars: eval looks like a split; splits are train, val and test"
    ):
        load(webdataset, tmp_path / "tars", CPU)


def test_what_is_wrong_in_archives_is_named(encoded, tmp_path):
    root = tmp_path / "tars"
    with pytest.raises(ValueError, match=r"^root=.*: no .tar in it"):
        load(webdataset, tmp_path, CPU)
    path = write_tar(root / "a.tar", encoded)
    for label, said in (
        ("json", r"a.tar: sample 00000 has no label, no member 00000.json"),
        ("json:who", r"a.tar: sample 00000 has no label, no member 00000.json"),
    ):
        with pytest.raises(ValueError, match=said):
            load(webdataset, root, CPU, label=label)
    whole = path.read_bytes()
    for content, said in (
        (whole[:9000], r"a.tar: .*"),
        (b"x" * 5000, r"a.tar: .*"),
        (whole.replace(b"\x89PNG", b"xxxx", 6), r"tars/a.tar/00000.png: not an image"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said) as caught:
            load(webdataset, root, CPU)
        assert "\n" not in str(caught.value)
    path.unlink()
    with tarfile.open(root / "a.tar.gz", "w:gz"):
        pass
    with pytest.raises(ValueError, match=r"a.tar.gz: is compressed, .*: unpack it"):
        load(webdataset, root, CPU)
    with tarfile.open(path, "w") as archive:
        for name in ("s.a.png", "s.b.png", "s.cls"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    with pytest.raises(ValueError, match=r"a.tar: sample s has two images, s.a.png and s.b.png"):
        load(webdataset, root, CPU)


@pytest.fixture
def saved(encoded, tmp_path):
    """saved(parts…) is a folder that the datasets library has written, of one or several parts."""
    library = pytest.importorskip("datasets")

    def rows(of, labels=None):
        names = library.ClassLabel(names=[f"person {k}" for k in range(8)])
        features = library.Features(image=library.Image(), label=names)
        images = [Image.open(io.BytesIO(image)) for _, image in of]
        return library.Dataset.from_dict(
            {"image": images, "label": labels or [label for label, _ in of]}, features=features
        )

    def write(name: str = "saved", labels=None, **parts):
        data = rows(encoded, labels)
        if parts:
            data = library.DatasetDict({part: rows(encoded[where]) for part, where in parts.items()})
        data.save_to_disk(str(tmp_path / name))
        return tmp_path / name

    return write


def test_saved_datasets_from_the_one_command_to_a_finished_run(saved, composed, tmp_path):
    root = saved()
    data = load(huggingface, root, CPU)
    assert all(name.startswith("person ") for name in data.train.classes) and len(data.test) == 8
    where = ("dataset=huggingface", f"dataset.root={root}")
    assert finishes(composed, tmp_path, *where, "dataset.memory=0")


def test_saved_parts_are_obeyed_and_what_is_wrong_is_named(saved, tmp_path):
    root = saved("parts", train=slice(0, 16), validation=slice(16, 24), test=slice(24, 32))
    data = load(huggingface, root, CPU)
    assert data.val.classes == ("person 4", "person 5") and data.test.names[0] == "test/0"
    for options, said in (
        ({"label_column": "who"}, r"^label_column=who: no such column in .*columns are image, label"),
        ({"image_column": "label"}, r"^image_column=label: in .* it holds ClassLabel, not images"),
    ):
        with pytest.raises(ValueError, match=said):
            load(huggingface, root, CPU, **options)
    with pytest.raises(ValueError, match=r"part 'odd' is none of train, validation and test"):
        load(huggingface, saved("odd", odd=slice(0, 8)), CPU)
    with pytest.raises(ValueError, match=r"row 3 has no label"):
        load(huggingface, saved("unknown", labels=[-1 if k == 3 else k // 4 for k in range(32)]), CPU)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^root=.*empty: not what save_to_disk leaves"):
        load(huggingface, tmp_path / "empty", CPU)
