"""Whose image is it? Right names for known classes, "unknown" for others at about the rate promised."""

import csv
import re

import numpy as np
import pytest
import torch

from src.datasets import Split
from src.query import main
from src.run.embedding import Embedded
from src.run.lifecycle import train_run
from src.run.load import load_trained
from src.run.query import ask
from tests.conftest import FAST, config_of


@pytest.fixture
def query(trained_on_patterns, monkeypatch, capsys):
    """query("--gallery", …) -> what the command prints; a refusal raises SystemExit."""

    def of(*arguments) -> str:
        monkeypatch.setattr("sys.argv", ["src.query", str(trained_on_patterns), *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return of


def rows_in(folder):
    with open(folder / "answers.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_known_images_get_their_names_and_others_are_unknown_at_about_the_rate_promised(
    query, patterns, tmp_path
):
    answers = {}
    for part in ("known", "unknown"):
        options = ("--gallery", patterns / "gallery", "--false-accepts", 0.1, "--out", tmp_path / part)
        said = query(patterns / part, *options)
        answers[part] = rows_in(tmp_path / part)
        assert (tmp_path / part / "nearest.png").stat().st_size
    assert re.search(r"\d of 156 validation images of 13 classes, .* come nearer, \d\.\d%; of ", said)
    assert re.search(r"of new classes at most [\d.]+% will, with 95% probability$", said, re.M)
    known, unknown = answers["known"], answers["unknown"]
    assert len(known) == 60 and len(unknown) == 120
    right = [row["nearest"] == row["image"].split("/")[0] for row in known]
    assert np.mean(right) > 0.9 and np.mean([row["answer"] == row["nearest"] for row in known]) > 0.6
    accepted = np.mean([row["answer"] != "unknown" for row in unknown])
    assert accepted < 0.1, accepted
    assert all(row["next"] not in ("", row["nearest"]) for row in known)


def test_the_gallery_is_by_default_what_the_run_was_trained_on(query, patterns):
    said = query(next((patterns / "trained").rglob("*.png")))
    trained = patterns / "trained"
    assert said.startswith(f"gallery: 228 images of 19 classes, the training split of {trained}\n")
    assert re.search(r"accepted above a cosine of 0\.\d+", said)


def test_a_share_that_the_validation_classes_cannot_promise_is_said(query, patterns):
    said = query(next((patterns / "known").rglob("*.png")), "--false-accepts", 0.001)
    assert re.search(
        r"0 of 156 .* at most \d+\.\d% will.*\n--false-accepts 0\.001 cannot be promised", said
    )
    given = query(next((patterns / "known").rglob("*.png")), "--false-accepts", 0.5)
    assert "cannot be promised" not in given


def test_four_hundred_images_answer_without_any_option(patterns, tmp_path, monkeypatch, capsys):
    for folder in sorted((patterns / "trained").iterdir()):
        for image in sorted(folder.iterdir())[:10]:
            (tmp_path / "photos" / folder.name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / folder.name / image.name).write_bytes(image.read_bytes())
    data = ("dataset=image_folder", f"dataset.root={tmp_path / 'photos'}", "batch_size=32")
    train_run(config_of(*FAST, *data), tmp_path / "run")
    image = tmp_path / "photos" / "p00" / "0.png"
    monkeypatch.setattr("sys.argv", ["src.query", str(tmp_path / "run"), str(image)])
    main()
    said = capsys.readouterr().out
    assert "gallery: 290 images of 29 classes, the training split of" in said
    assert "--false-accepts 0.01 cannot be promised by so few classes; a larger dataset.val" in said


def test_a_name_that_a_spreadsheet_would_compute_is_text(query, patterns, tmp_path):
    image = tmp_path / "=1+1.png"
    image.write_bytes(next((patterns / "known").rglob("*.png")).read_bytes())
    query(image, "--out", tmp_path / "out")
    assert rows_in(tmp_path / "out")[0]["image"] == "'=1+1.png"


def test_a_gallery_is_read_from_what_embed_wrote(
    query, patterns, trained_on_patterns, tmp_path, monkeypatch, capsys
):
    from src import embed

    out = tmp_path / "gallery.npz"
    line = ["src.embed", str(trained_on_patterns), str(patterns / "gallery"), "--out", str(out)]
    monkeypatch.setattr("sys.argv", line)
    embed.main()
    capsys.readouterr()
    said = [
        query(patterns / "known", "--gallery", gallery, "--threshold", 0.5)
        for gallery in (patterns / "gallery", out)
    ]
    for one, source in zip(said, (patterns / "gallery", out), strict=True):
        assert one.startswith(f"gallery: 60 images of 10 classes, {source}\n")
    assert said[0].partition("\n")[2] == said[1].partition("\n")[2]
    with np.load(out) as kept:  # somebody else's
        odd = np.char.add("\x1b[2J\x9b", kept["classes"])
        np.savez(tmp_path / "odd.npz", **(dict(kept) | {"classes": odd}))
    said = query(patterns / "known", "--gallery", tmp_path / "odd.npz", "--threshold", 0.1)
    assert "\ufffd[2J\ufffd" in said and all(c.isprintable() or c == "\n" for c in said)
    (tmp_path / "torn.npz").write_bytes(out.read_bytes()[:100])
    with np.load(out) as kept:
        narrower = dict(kept) | {"embeddings": kept["embeddings"][:, :8]}
        beyond = dict(kept) | {"labels": kept["labels"] + 100}
    np.savez(tmp_path / "narrower.npz", **narrower)
    np.savez(tmp_path / "beyond.npz", **beyond)
    for name, why in (
        ("torn", "no embeddings that src.embed wrote"),
        ("beyond", "do not fit each other"),
        ("narrower", "embeddings of 8 dimensions, the model of .* makes 16"),
    ):
        with pytest.raises(SystemExit, match=why):
            query(patterns / "known", "--gallery", tmp_path / f"{name}.npz")


def test_embed_takes_images_and_folders_together(patterns, trained_on_patterns, tmp_path, monkeypatch):
    from src import embed

    image, out = next((patterns / "known").rglob("*.png")), tmp_path / "x.npz"
    words = [str(trained_on_patterns), str(image), str(patterns / "gallery"), "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["src.embed", *words])
    embed.main()
    with np.load(out) as kept:
        assert len(kept["embeddings"]) == 61 and image.name in kept["names"]
        assert any(name.startswith("gallery/p40/") for name in kept["names"])


def test_embed_knows_where_the_runs_own_images_are(trained_on_patterns, tmp_path, monkeypatch):
    from src import embed

    words = [str(trained_on_patterns), "image_folder", "--out", str(tmp_path / "x.npz")]
    monkeypatch.setattr("sys.argv", ["src.embed", *words])
    embed.main()
    with np.load(tmp_path / "x.npz") as kept:
        model = load_trained(trained_on_patterns)
        assert len(kept["labels"]) == len(model.data(model.config).test)


def test_what_comes_next_is_of_another_class():
    gallery, ask_of = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), torch.tensor([[2.0, 0.1]])
    image = Split(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), torch.zeros(1).long(), [0.0], [1.0])
    queries = Embedded(ask_of, image.labels, ("?",), {"": image})
    (answer,), rows = ask(queries, Embedded(gallery, torch.tensor([0, 0, 1]), ("a", "b"), {}), 0.9)
    assert rows.tolist() == [[0, 1, 2]] and answer.answer == "a" and answer.next == "b"
    (alone,), _ = ask(queries, Embedded(gallery, torch.zeros(3).long(), ("a",), {}), 0.9999)
    assert (alone.answer, alone.next, alone.next_cosine) == ("unknown", "", -1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--false-accepts", 2], "--false-accepts 2: a share between 0 and 1"),
        (["--threshold", 3], "--threshold 3: a cosine from -1 to 1"),
        (["--gallery", "nowhere"], "--gallery nowhere: neither a folder of images nor an .npz"),
        (["--out", "."], "exists already"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options, why, query, patterns):
    with pytest.raises(SystemExit, match=why):
        query(patterns / "known", *options)


def test_a_run_without_validation_images_needs_a_threshold(composed, patterns, tmp_path, monkeypatch):
    train_run(composed(*FAST, "dataset=synthetic", "dataset.val_fraction=0"), tmp_path / "run")
    monkeypatch.setattr("sys.argv", ["src.query", str(tmp_path / "run"), str(patterns / "known")])
    with pytest.raises(SystemExit, match="this run has none: give --threshold"):
        main()


def test_images_in_no_folder_of_a_class_are_no_gallery(query, patterns, tmp_path):
    image = next((patterns / "known").rglob("*.png"))
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "one.png").write_bytes(image.read_bytes())
    with pytest.raises(SystemExit, match=r"one\.png is in no folder of a class; expected"):
        query(image, "--gallery", tmp_path / "flat")


def test_a_run_that_has_collapsed_is_said_to_be(query, patterns, trained_on_patterns):
    path = trained_on_patterns / "summary.json"
    before = path.read_text()
    path.write_text(before.replace('"state": "finished"', '"state": "collapsed"'))
    try:
        assert "has collapsed: its embeddings tell next to" in query(next(patterns.rglob("*.png")))
    finally:
        path.write_text(before)
