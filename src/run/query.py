"""Whose image is it? Images compared with a gallery by a trained run, and told to be unknown."""

import csv
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import durable
from ..commands import refuse_existing
from ..datasets import Split
from ..datasets.embeddings import read_npz
from ..errors import UserError
from .embedding import images_split
from .load import Trained

SHOWN, NEIGHBOURS = 20, 6  # queries in the picture, and what each is most like
AT_ONCE = 1024  # queries


class Gallery(NamedTuple):
    """Embeddings (M, D) of length 1, labels (M,) that index `classes`, and the images, unless they came
    from a file."""

    embeddings: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    images: Split | None


class Threshold(NamedTuple):
    """A query is accepted if its cosine with the nearest gallery image is above `cosine`. Of `probes`
    validation images, compared with the gallery without their own class, `accepted` are."""

    cosine: float
    probes: int
    accepted: int

    def __str__(self) -> str:
        return (
            f"{self.accepted} of {self.probes} validation images, compared with the gallery without "
            f"their own class, come nearer: {self.accepted / self.probes:.1%} false accepts"
        )


class Answers(NamedTuple):
    """For queries (Q,), the rows of the nearest gallery images (Q, K), nearest first, and their cosines;
    the row and the cosine (Q,) of the nearest one of another class than the first, −1 and −1 where the
    gallery has one class; and whether the query is `known` (Q,)."""

    nearest: Tensor
    cosines: Tensor
    second: Tensor
    second_cosine: Tensor
    known: Tensor


def check_options(
    false_accepts: float, threshold: float | None, out: Path | None, images: list[Path]
) -> None:
    """UserError for what cannot be, before anything is read."""
    if not 0 < false_accepts < 1:
        raise UserError(f"--false-accepts {false_accepts:g}: a share between 0 and 1")
    if threshold is not None and not -1 <= threshold <= 1:
        raise UserError(f"--threshold {threshold:g}: a cosine from -1 to 1")
    refuse_existing(out)
    for path in images:
        if not path.exists():
            raise UserError(f"{path}: no such image or folder")


def gallery_of(run: Trained, source: str | None, skip_broken: bool) -> Gallery:
    """The gallery in a folder with a folder for each class, in an `.npz` that `src.embed` wrote, or by
    default the run's own training images. Raises UserError if it is none for this model."""
    if source and Path(source).suffix == ".npz":
        return gallery_in_file(run, Path(source))
    if source:
        if not Path(source).is_dir():
            raise UserError(f"--gallery {source}: neither a folder of images nor an .npz of src.embed")
        images, _ = images_split(run, [Path(source)], skip_broken)
        if "." in images.classes:
            loose = images.names[int((images.labels == images.classes.index(".")).nonzero()[0])]
            raise UserError(
                f"--gallery {source}: {loose} is in no folder of a class; expected one folder per class"
            )
    else:
        images = run.data(run.config).train
    return Gallery(unit(run.embed(images)), images.labels, tuple(images.classes), images)


def gallery_in_file(run: Trained, path: Path) -> Gallery:
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
    device = run.device.torch
    return Gallery(unit(embeddings.to(device)), labels.to(device), names, None)


def unit(embeddings: Tensor) -> Tensor:
    if not embeddings.isfinite().all():
        raise UserError("embeddings are not finite numbers: nothing can be compared")
    return F.normalize(embeddings, dim=1)


@torch.no_grad()
def calibrate(run: Trained, gallery: Gallery, false_accepts: float) -> Threshold:
    """The threshold that a share of at most `false_accepts` of unknown images passes, if they are like
    the run's validation images: each is compared with the gallery without its own class, which makes it
    unknown there, and a new one is as likely as any of them to be the k-th nearest. Raises UserError if
    there are none, or too few for that share."""
    images = run.data(run.config).val
    if images is None:
        raise UserError(
            "a threshold is chosen on validation images, and this run has none: give --threshold, a "
            "cosine from -1 to 1"
        )
    x, place = unit(run.embed(images)), {name: i for i, name in enumerate(gallery.classes)}
    own = torch.tensor([place.get(name, -1) for name in images.classes], device=x.device)[images.labels]
    nearest = torch.cat(
        [
            (part @ gallery.embeddings.T).masked_fill(label.unsqueeze(1) == gallery.labels, -1.0).amax(1)
            for part, label in zip(x.split(AT_ONCE), own.split(AT_ONCE), strict=True)
        ]
    )
    allowed = int(false_accepts * (len(nearest) + 1))  # a new one is the k-th of n + 1 by chance
    if not allowed:
        raise UserError(
            f"--false-accepts {false_accepts:g}: {len(nearest)} validation images tell no rate below "
            f"{1 / (len(nearest) + 1):.2g}; give that or more, or --threshold"
        )
    cosine = nearest.sort(descending=True).values[allowed - 1].item()
    return Threshold(cosine, len(nearest), int((nearest > cosine).sum()))


@torch.no_grad()
def ask(queries: Tensor, gallery: Gallery, threshold: float) -> Answers:
    """Compare embeddings (Q, D) with the gallery."""
    parts = []
    for part in unit(queries).split(AT_ONCE):
        cosines = part @ gallery.embeddings.T
        top = cosines.topk(min(NEIGHBOURS, cosines.shape[1]))
        first = gallery.labels[top.indices[:, :1]]
        second = cosines.masked_fill(gallery.labels == first, -torch.inf).max(1)
        none = second.values.isinf()
        parts.append(
            Answers(
                top.indices,
                top.values,
                second.indices.masked_fill(none, -1),
                second.values.masked_fill(none, -1.0),
                top.values[:, 0] > threshold,
            )
        )
    return Answers(*(torch.cat(values).cpu() for values in zip(*parts, strict=True)))


def rows_of(images: Split, gallery: Gallery, answers: Answers) -> list[dict[str, object]]:
    """A row for each query, as it is shown and written: what it is, or unknown, and what comes next."""
    labels, rows = gallery.labels.cpu(), []
    for i, name in enumerate(images.names if images.names is not None else range(len(images))):
        first = gallery.classes[labels[answers.nearest[i, 0]]]
        second = answers.second[i].item()
        rows.append(
            {
                "image": str(name),
                "answer": first if answers.known[i] else "unknown",
                "nearest": first,
                "cosine": round(answers.cosines[i, 0].item(), 4),
                "next": "" if second < 0 else gallery.classes[labels[second]],
                "next_cosine": round(answers.second_cosine[i].item(), 4),
            }
        )
    return rows


def write_answers(out: Path, images: Split, gallery: Gallery, answers: Answers, title: str) -> None:
    """`answers.csv`, and `nearest.png` of the first queries if the gallery's images are at hand."""
    from .. import plots

    rows, text = rows_of(images, gallery, answers), io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    durable.write_text(out / "answers.csv", text.getvalue(), encoding="utf-8")
    if gallery.images is None:
        return
    some = np.linspace(0, len(images) - 1, min(SHOWN, len(images))).astype(int)
    nearest = answers.nearest[some]
    shown = gallery.images.thumbnails(nearest.flatten().numpy())
    labels = gallery.labels.cpu()[nearest]
    fig = plots.plot_neighbours(
        images.thumbnails(some),
        shown.reshape(*nearest.shape, *shown.shape[1:]),
        (labels == labels[:, :1]).numpy(),
        [f"{rows[i]['answer']}/{rows[i]['cosine']:.2f}" for i in some],
        title,
    )
    plots.save(fig, out / "nearest.png")
