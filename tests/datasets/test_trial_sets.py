"""Lists of pairs, of templates and of voices, from tiny fakes of their published files."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_curve

from src.datasets import embeddings, ijb, load
from src.datasets.ijb import FACE, PARTS, SIDE, Faces, Published, where_from
from src.run.build import check_config
from src.run.evaluation import evaluate_run, with_overrides, write_evaluation
from src.run.lifecycle import train_run
from src.run.load import load_trained
from tests.conftest import FAST, summary_of

IMAGES, TEMPLATES, PAIRS = 24, 8, 28


def turned(rng) -> np.ndarray:
    """Landmarks (5, 2) of a face that lies somewhere in an image, turned and scaled."""
    factor = rng.uniform(0.5, 1.5) * np.exp(1j * rng.uniform(-0.6, 0.6))
    points = (FACE[:, 0] + 1j * FACE[:, 1] - 56 - 72j) * factor + 70 + 80j
    return np.stack([points.real, points.imag], 1) + rng.normal(0, 1, (5, 2))


@pytest.fixture
def faces_in_templates(tmp_path, monkeypatch):
    """The folder of a fake of IJB-C, its lists as arrays, and the detector's scores."""
    monkeypatch.setitem(PARTS, "IJBC", Published(IMAGES, TEMPLATES, PAIRS))
    rng, folder = np.random.default_rng(0), tmp_path / "IJBC"
    (folder / "loose_crop").mkdir(parents=True)
    (folder / "meta").mkdir()
    scores, lines = rng.uniform(0.2, 1, IMAGES), []
    for row in range(IMAGES):
        pixels = rng.integers(0, 255, (150, 140, 3), np.uint8)
        Image.fromarray(pixels).resize((140, 150), Image.Resampling.BICUBIC).save(
            folder / "loose_crop" / f"{row + 1}.jpg", quality=95
        )
        numbers = " ".join(f"{value:.3f}" for value in turned(rng).ravel())
        lines.append(f"{row + 1}.jpg {numbers} {scores[row]:.6f}")
    template = np.arange(IMAGES) % TEMPLATES + 100
    media = rng.integers(0, 2, IMAGES)
    first, second = np.array(list(combinations(range(100, 100 + TEMPLATES), 2))).T
    same = np.arange(PAIRS) % 2
    written = {
        "name_5pts_score": lines,
        "face_tid_mid": [f"{r + 1}.jpg {template[r]} {media[r]}" for r in range(IMAGES)],
        "template_pair_label": [f"{a} {b} {s}" for a, b, s in zip(first, second, same, strict=True)],
    }
    for name, content in written.items():
        (folder / "meta" / f"ijbc_{name}.txt").write_text("\n".join(content) + "\n")
    lists = {"template": template, "media": media, "first": first, "second": second, "same": same}
    return folder, lists, np.round(scores, 6)


def test_a_face_is_turned_scaled_and_moved_to_its_place():
    """Against the same least squares in real numbers, for the parameters (a, b, x, y) of the map."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        points = turned(rng)
        x, y, one, none = points[:, 0], points[:, 1], np.ones(5), np.zeros(5)
        system = np.concatenate([np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)])
        a, b, right, down = np.linalg.lstsq(system, FACE.T.ravel(), rcond=None)[0]
        there = np.array([[a, -b, right], [b, a, down], [0, 0, 1]])
        np.testing.assert_allclose(where_from(points), np.linalg.inv(there)[:2], atol=1e-10)
    assert np.isfinite(where_from(np.full((5, 2), 9.0))).all()


def test_faces_are_aligned_by_their_landmarks(tmp_path):
    """A bright spot at each landmark lies where the template has it."""
    rng = np.random.default_rng(2)
    points = turned(rng)
    y, x = np.mgrid[:150, :140]
    for eye in range(5):
        spot = 255 * np.exp(-((x - points[eye, 0]) ** 2 + (y - points[eye, 1]) ** 2) / 8)
        Image.fromarray(spot.astype(np.uint8)).convert("RGB").save(tmp_path / f"{eye}.png")
        paths = np.array([str(tmp_path / f"{eye}.png")] * 2)
        face, mirrored = Faces(paths, np.stack([points] * 2), np.array([False, True])).decode()
        assert (mirrored == face[:, :, ::-1]).all()
        pixels = face[0].astype(float)
        assert pixels.shape == (SIDE, SIDE)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        found = np.array([(columns * pixels).sum(), (rows * pixels).sum()]) / pixels.sum()
        forward = np.linalg.inv(np.vstack([where_from(points), [0, 0, 1]]))
        expected = (forward @ [*points[eye], 1])[:2]
        np.testing.assert_allclose(found, expected, atol=0.15)


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("lengths", [True, False])
def test_templates_are_compared_as_insightfaces_script_does(
    mirrored, lengths, faces_in_templates, composed, tmp_path
):
    """From a run to the rates, by the steps of that script: F, N, D, media, templates."""
    _, lists, scores = faces_in_templates
    people = tmp_path / "people"
    rng = np.random.default_rng(3)
    for row in range(12):
        (people / str(row % 3)).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(people / str(row % 3) / f"{row}.png")
    data = ("dataset=image_folder", f"dataset.root={people}", "evaluation=closed_set")
    config = check_config(
        composed(*FAST, *data, "dataset.val_fraction=0", "dataset.test_fraction=0.3", "batch_size=8")
    )
    train_run(config, tmp_path / "run")
    run = load_trained(tmp_path / "run")
    asked = ["dataset=ijbc", f"dataset.root={tmp_path}"]
    asked += [f"dataset.mirrored={mirrored}", f"dataset.lengths={lengths}"]
    other = with_overrides(run, asked)
    found = evaluate_run(run, other)
    write_evaluation(run, other, found, tmp_path / "out")
    assert summary_of(tmp_path / "out")["metrics"] == found.result.metrics
    x = found.embeddings.double().numpy()
    assert len(found.images) == len(x) == (2 * IMAGES if mirrored else IMAGES)
    x = x[:IMAGES] + x[IMAGES:] if mirrored else x
    x = x if lengths else x / np.linalg.norm(x, axis=1, keepdims=True)
    x = x * scores[:, None]
    pooled = {}
    for template in np.unique(lists["template"]):
        own = lists["template"] == template
        media = [x[own & (lists["media"] == one)].mean(0) for one in np.unique(lists["media"][own])]
        whole = np.sum(media, 0)
        pooled[template] = whole / np.linalg.norm(whole)
    cosines = [pooled[a] @ pooled[b] for a, b in zip(lists["first"], lists["second"], strict=True)]
    far, tar, _ = roc_curve(lists["same"], cosines, drop_intermediate=False)
    metrics = found.result.metrics
    assert "tar_at_far_1e-1" not in metrics  # three false accepts say nothing
    np.testing.assert_allclose(found.result.scores.cosines.numpy(), cosines, atol=2e-6)
    assert metrics["auc"] == pytest.approx(float(np.trapezoid(tar, far)), abs=1e-9)


def test_lists_that_are_not_as_published_are_refused_with_their_line(faces_in_templates, tmp_path):
    folder, *_ = faces_in_templates
    data = load(ijb, tmp_path, device="cpu", part="IJBC")
    assert data.train is None and len(data.test.pairs.same) == PAIRS
    assert load(ijb, folder, device="cpu", part="IJBC").fingerprint == data.fingerprint
    pairs = folder / "meta" / "ijbc_template_pair_label.txt"
    whole = pairs.read_text()
    pairs.write_text("\n".join(whole.splitlines()[:-1]))
    with pytest.raises(ValueError, match=r"8 templates and 27 pairs, published are 24 images"):
        ijb(tmp_path, part="IJBC")
    pairs.write_text(whole.replace("100 ", "99 ", 1))
    with pytest.raises(ValueError, match=r"line \d+ names 99, which no template is called"):
        ijb(tmp_path, part="IJBC")
    pairs.write_text(whole)
    faces = folder / "meta" / "ijbc_name_5pts_score.txt"
    faces.write_text(faces.read_text().replace("3.jpg ", "3.jpg x ", 1))
    with pytest.raises(ValueError, match=r"line 3 is not `name x1 y1 … x5 y5 score`"):
        ijb(tmp_path, part="IJBC")
    faces.write_text("../3.jpg " + "1 " * 11)
    with pytest.raises(ValueError, match=r"line 1 names \.\./3\.jpg, which is not below its folder"):
        ijb(tmp_path, part="IJBC")


@pytest.fixture
def voices(tmp_path):
    """A file of voices: five speakers to train on and four to test, and a list of trials."""
    rng = np.random.default_rng(4)
    speakers = [f"id{row:05d}" for row in range(9)]
    labels = np.repeat(speakers, 8)
    names = np.array([f"{label}/v/{row:05d}.wav" for row, label in enumerate(labels)])
    features = rng.normal(size=(9, 6)).repeat(8, 0) + 0.6 * rng.normal(size=(72, 6))
    splits = np.where(labels < "id00005", "train", "test")
    np.savez(tmp_path / "x.npz", features=features, labels=labels, names=names, splits=splits)
    first, second = rng.integers(40, 72, (2, 150))
    same = labels[first] == labels[second]
    lines = [f"{int(s)} {names[a]} {names[b]}" for a, b, s in zip(first, second, same, strict=True)]
    (tmp_path / "trials.txt").write_text("\n".join(lines))
    return tmp_path, same


def test_features_are_tested_by_the_trials_of_a_list(voices, composed, tmp_path):
    folder, same = voices
    given = {"file": "x.npz", "trials": "trials.txt", "count": 150}
    data = load(embeddings, folder, device="cpu", split="verification", **given)
    assert data.test.pairs.same.tolist() == same.tolist() and len(data.train) == 40
    named = ("dataset=voxceleb_features", f"dataset.root={folder}", "dataset.file=x.npz")
    listed = (
        "dataset.trials=trials.txt",
        "dataset.count=150",
        "dataset.val_fraction=0.4",
        "batch_size=8",
    )
    config = check_config(composed(*FAST, *named, *listed))
    assert config.evaluation.protocol == "verification"
    train_run(config, tmp_path / "run")
    metrics = summary_of(tmp_path / "run")["metrics"]
    assert metrics["auc"] > 0.5 and "tar_at_far_1e-1" in metrics


@pytest.mark.parametrize(
    ("line", "given", "why"),
    [
        (
            "1 id00006/v/00048.wav id00007/v/00056.wav",
            {},
            "line 1 says one class, but the labels in .* say two",
        ),
        ("1 id00006/v/00048.wav nobody", {}, "line 1 names nobody, which no test sample is called"),
        (
            "1 id00001/v/00008.wav id00001/v/00009.wav",
            {},
            "line 1 names id00001/v/00008.wav, which no test",
        ),
        ("1 a b c", {}, "line 1 has 4 fields"),
        (None, {"count": 149}, "trials.txt has 150"),
        (None, {"trials": None, "count": 149}, "there are no trials to count"),
        (None, {"trials": "other.txt"}, "no such file"),
        (None, {"split": "closed_set"}, "only verification tests these pairs"),
    ],
)
def test_trials_that_do_not_fit_the_features_are_refused(voices, line, given, why):
    folder, _ = voices
    if line:
        file = folder / "trials.txt"
        file.write_text("\n".join([line, *file.read_text().splitlines()]))
    options = {"file": "x.npz", "trials": "trials.txt", "split": "verification"} | given
    with pytest.raises(ValueError, match=why):
        embeddings(folder, **options)
