"""Whose image is it? Images compared with a gallery by a trained run, and told to be unknown."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config.identity import is_published
from ..datasets.embeddings import read_npz
from ..durable import write_csv
from ..errors import UserError
from ..evaluation.threshold import CONFIDENCE, Promise, promised_threshold
from ..foreign import printable
from ..words import counted
from .embedding import Embedded, embedded, images_split
from .load import Trained
from .neighbours import NEIGHBOURS, SHOWN, draw_neighbours, nearest


class Threshold(NamedTuple):
    """A query is accepted if its cosine with the nearest gallery image is above `promise.cosine`. Of
    `probes` validation images of so many `classes`, compared with the gallery without their own class,
    `promise.accepted` are. A share of at most `asked` was to be promised."""

    promise: Promise
    probes: int
    classes: int
    asked: float

    @property
    def cosine(self) -> float:
        return self.promise.cosine

    def __str__(self) -> str:
        accepted, rate = self.promise.accepted, self.promise.rate
        share = accepted / self.probes
        said = (
            f"{accepted} of {self.probes} validation images of {counted(self.classes, 'class')}, "
            f"compared with the gallery without their own class, come nearer, {share:.1%}; of images of "
            f"new classes at most {rate:.1%} will, with {CONFIDENCE:.0%} probability"
        )
        if rate > self.asked:
            said += (
                f"\n--false-accepts {self.asked:g} cannot be promised by so few classes; a larger "
                "dataset.val_fraction holds out more"
            )
        return said


class Answer(NamedTuple):
    """A row of `answers.csv`: the class of the nearest gallery image, or unknown; that class and its
    cosine; and the next other class, "" and −1 where the gallery has one class."""

    image: str
    answer: str
    nearest: str
    cosine: float
    next: str
    next_cosine: float


def check_options(false_accepts: float, threshold: float | None, images: list[Path]) -> None:
    """Raise UserError for what cannot be, before anything is embedded."""
    if not 0 < false_accepts < 1:
        raise UserError(f"--false-accepts {false_accepts:g}: a share between 0 and 1")
    if threshold is not None and not -1 <= threshold <= 1:
        raise UserError(f"--threshold {threshold:g}: a cosine from -1 to 1")
    for path in images:
        if not path.exists():
            raise UserError(f"{path}: no such image or folder")


def gallery_of(run: Trained, source: str | None, skip_broken: bool) -> tuple[Embedded, str, list[Path]]:
    """Return the gallery in a folder with a folder for each class, in an `.npz` that `src.embed` wrote,
    or by default the run's own training images; where it is from; and the files that were left out.
    Raises UserError if it is none for this model."""
    if source and Path(source).suffix == ".npz":
        return gallery_in_file(run, Path(source)), source, []
    if not source:
        dataset = run.config.dataset
        place = run.config.name("dataset") if is_published(run.config) else dataset.place
        training = {"train": run.data(run.config).train}
        return embedded(run, training), f"the training split of {place}", []
    if not Path(source).is_dir():
        raise UserError(f"--gallery {source}: neither a folder of images nor an .npz of src.embed")
    images, left_out = images_split(run, [Path(source)], skip_broken)
    if "." in images.classes:
        loose = images.names[int((images.labels == images.classes.index(".")).nonzero()[0])]
        raise UserError(
            f"--gallery {source}: {loose} is in no folder of a class; expected one folder per class"
        )
    return embedded(run, {"": images}), source, left_out


def gallery_in_file(run: Trained, path: Path) -> Embedded:
    try:
        arrays = read_npz(path)
        embeddings = torch.from_numpy(arrays.features).float()
        labels = torch.from_numpy(arrays.labels).long()
        names = () if arrays.classes is None else tuple(arrays.classes.astype(str).tolist())
        fits = embeddings.ndim == 2 and labels.shape == embeddings.shape[:1] and len(labels)
        if not (fits and 0 <= labels.min() <= labels.max() < len(names)):
            raise ValueError("its arrays do not fit each other")
    except (ValueError, TypeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"--gallery {path}: no embeddings that src.embed wrote ({why})") from None
    if embeddings.shape[1] != run.head.embedding_dim:
        raise UserError(
            f"--gallery {path}: embeddings of {embeddings.shape[1]} dimensions, the model of "
            f"{run.folder} makes {run.head.embedding_dim}: embed it with this model"
        )
    if not embeddings.isfinite().all():
        raise UserError(f"--gallery {path}: its embeddings are not finite numbers")
    device = run.device.torch
    return Embedded(embeddings.to(device), labels.to(device), tuple(map(printable, names)), {})


def calibrate(run: Trained, gallery: Embedded, false_accepts: float) -> Threshold:
    """Return the `promised_threshold` by the run's validation images: each is compared with the gallery
    without its own class, which makes it unknown there. Raises UserError if there are none."""
    images = run.data(run.config).val
    if images is None:
        raise UserError(
            "a threshold is chosen on validation images, and this run has none: give --threshold, a "
            "cosine from -1 to 1"
        )
    probes, place = embedded(run, {"validation": images}), {n: i for i, n in enumerate(gallery.classes)}
    own = torch.tensor([place.get(name, -1) for name in probes.classes]).to(probes.labels)
    without = (own[probes.labels], gallery.labels)
    cosines = nearest(probes.unit, gallery.unit, 1, without).cosines[:, 0].cpu().numpy()
    labels = probes.labels.cpu().numpy()
    promise = promised_threshold(cosines, labels, false_accepts)
    return Threshold(promise, len(probes), len(np.unique(labels)), false_accepts)


def ask(queries: Embedded, gallery: Embedded, threshold: float) -> tuple[list[Answer], Tensor]:
    """Return an answer for each query, and the rows (Q, K) of the nearest gallery images."""
    x, y = queries.unit, gallery.unit
    found = nearest(x, y, NEIGHBOURS)
    first = gallery.labels[found.rows[:, 0]]
    second = nearest(x, y, 1, (first, gallery.labels))
    answers = []
    for name, label, cosine, other, other_cosine in zip(
        queries.names,
        first.tolist(),
        found.cosines[:, 0].tolist(),
        second.rows[:, 0].tolist(),
        second.cosines[:, 0].tolist(),
        strict=True,
    ):
        known = gallery.classes[label]
        following = "" if other < 0 else gallery.classes[gallery.labels[other]]
        answer = known if cosine > threshold else "unknown"
        answers.append(Answer(name, answer, known, round(cosine, 4), following, round(other_cosine, 4)))
    return answers, found.rows


def write_answers(
    out: Path, queries: Embedded, gallery: Embedded, answers: list[Answer], rows: Tensor, title: str
) -> None:
    """Write `answers.csv`, and `nearest.png` of some queries if the gallery's images are at hand."""
    write_csv(out / "answers.csv", [Answer._fields, *answers])
    if not gallery.pictures:
        return
    some = torch.from_numpy(np.linspace(0, len(queries) - 1, min(SHOWN, len(queries))).astype(int))
    shown = rows[some.to(rows.device)]
    captions = [f"{answers[i].answer}/{answers[i].cosine:.2f}" for i in some.tolist()]
    labels = gallery.labels[shown[:, 0]]
    draw_neighbours(out / "nearest.png", queries, some, gallery, shown, labels, captions, title)
