"""IJB-B and IJB-C: faces in video frames and photographs, which belong together in templates."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ..foreign import check_file
from .files import Files
from .images import to_bytes
from .retrieval_sets import folder_of
from .splits import Labelled, Pairs, Source
from .templates import read_templates
from .trials import read_trials, rows_of_trials

MOST_BYTES = 2**33
SIDE = 112  # pixels of an aligned face
# Where eyes, nose and corners of the mouth lie in it, x and y (insightface's template).
FACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


class Published(NamedTuple):
    """Numbers of images, templates and pairs."""

    images: int
    templates: int
    pairs: int


PARTS = {
    "IJBB": Published(227_630, 12_115, 8_010_270),
    "IJBC": Published(469_375, 23_124, 15_658_489),
}


class Faces(Files):
    """Images of faces that decode to aligned ones, of some their mirror images. `landmarks` (N, 5, 2)
    are pixels, x and y, `mirrored` (N,) says which."""

    rowwise = ("paths", "landmarks", "mirrored")

    def __init__(self, paths: np.ndarray, landmarks: np.ndarray, mirrored: np.ndarray):
        super().__init__(paths, (3, SIDE, SIDE))
        self.landmarks, self.mirrored = landmarks, mirrored

    def _pixels(self, row: int) -> np.ndarray:
        pixels = to_bytes(self.content(row), self.shape[1:], part=where_from(self.landmarks[row]))
        return pixels[:, :, ::-1] if self.mirrored[row] else pixels


def ijb(
    root: Path, *, part: Literal["IJBB", "IJBC"], mirrored: bool = True, lengths: bool = True
) -> Source:
    """Tests on the pairs of templates of IJB-B or IJB-C (1:1, Whitelam et al. 2017 and Maze et al.
    2018), each the mean over its media of the mean over the faces of each of their embeddings times
    their detector's score; trains on nothing. Embeddings count by their `lengths`, or are of unit
    length; those of `mirrored` faces are added to the faces' own, before that. By default it is as
    insightface's script has it for ArcFace's results.

    Reads loose_crop/ and, in meta/, the lists <part>_name_5pts_score.txt, <part>_face_tid_mid.txt and
    <part>_template_pair_label.txt as insightface hands them out, below `root` or its folder `part`.
    Faces are aligned by their five landmarks. Raises ValueError, with the line, for other lists, and for
    other numbers of images, templates and pairs."""
    lists = [
        f"meta/{part.lower()}_{name}.txt"
        for name in ("name_5pts_score", "face_tid_mid", "template_pair_label")
    ]
    folder = folder_of(root, part, "loose_crop", *lists)
    faces, grouped, compared = (folder / name for name in lists)
    names, landmarks, weight = read_faces(faces)
    templates = read_templates(grouped, names)
    templates = templates._replace(weight=weight[templates.rows])
    trials = read_trials(compared, set(templates.names.tolist()))
    first, second = rows_of_trials(trials, templates.names, "template")
    numbers = Published(len(names), len(templates.names), len(first))
    if numbers != PARTS[part]:
        there, want = (
            f"{n.images:,} images, {n.templates:,} templates and {n.pairs:,} pairs"
            for n in (numbers, PARTS[part])
        )
        raise ValueError(f"{folder}: {there}, published are {want}")
    paths = np.array([str(folder / "loose_crop" / name) for name in names])
    faces = Faces(paths, landmarks, np.zeros(len(paths), bool))
    templates = templates._replace(lengths=lengths, mirrored=mirrored)
    if mirrored:
        faces = faces.joined([Faces(paths, landmarks, np.ones(len(paths), bool))])
        names = np.concatenate([names, [f"{name}, mirrored" for name in names]])
    pairs = Pairs(first, second, trials.same, np.full(len(first), -1))
    labels = np.zeros(len(names), int)
    test = Labelled(faces, labels, ("unknown",), names, pairs, templates=templates)
    return Source(train=None, test=test)


def read_faces(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The names (N,), landmarks (N, 5, 2) and scores (N,) of a list of `name x1 y1 … x5 y5 score`."""
    check_file(file, MOST_BYTES)
    names, values = [], []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        name, *rest = line.split() or [""]
        try:
            row = np.array(rest, float)
        except ValueError:
            row = np.empty(0)
        place = Path(name)
        if row.shape != (11,) or not np.isfinite(row).all() or row[-1] < 0:
            raise ValueError(f"{file}: line {number} is not `name x1 y1 … x5 y5 score`: {line[:100]!r}")
        if ".." in place.parts or place.is_absolute():
            raise ValueError(f"{file}: line {number} names {name[:200]}, which is not below its folder")
        names.append(name)
        values.append(row)
    if not names:
        raise ValueError(f"{file}: has no faces")
    numbers = np.array(values)
    return np.array(names), numbers[:, :10].reshape(-1, 5, 2), numbers[:, 10]


def where_from(landmarks: np.ndarray) -> np.ndarray:
    """Return the matrix (2, 3) that takes points (x, y, 1) of an aligned face to those of an image with
    `landmarks` (5, 2): the inverse of the turn, scaling and shift that take these closest to FACE."""
    ours, theirs = (points[:, 0] + 1j * points[:, 1] for points in (landmarks, FACE))
    centred = ours - ours.mean()
    spread = (abs(centred) ** 2).sum()
    factor = (centred.conj() * (theirs - theirs.mean())).sum() / spread if spread else 0
    if not factor:  # all points in one place: nothing says how the face lies
        return np.array([[1.0, 0, ours.mean().real - SIDE / 2], [0, 1, ours.mean().imag - SIDE / 2]])
    back = 1 / factor
    shift = ours.mean() - back * theirs.mean()
    return np.array([[back.real, -back.imag, shift.real], [back.imag, back.real, shift.imag]])
