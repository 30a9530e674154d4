"""Features that any encoder made, of faces, voices, texts or images, with labels."""

import zipfile
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from ..foreign import check_file, check_zip, one_line
from ..losses import BadArgument
from .options import File
from .parts import NOT_SPLIT
from .samples import Samples, followed_by, source_of_features
from .splits import Queries
from .tables import Table, found, part_at, read_parquet, role_at, text_at
from .trials import read_trials

MOST_BYTES = 2**37
FEATURE_FILES = (".npz", ".npy", ".parquet")
FEATURES = ("features", "embeddings", "embedding")  # what such an array is called
LABELS = ("labels", "label")
SPLITS = ("splits", "split")
ROLES = ("roles", "role")
CAMERAS = ("cameras", "camera")
ALONE = ("classes", "names", "relevant")  # have one name


class Arrays(NamedTuple):
    """Features (N, F), labels (N,) and, if they are given, the names of classes (C,) that labels index,
    of samples (N,), of the parts (N,) that they are of, their roles and cameras (N,), and rows (P, 2) of
    a query and a sample that is relevant to it. Messages count rows from `first`."""

    features: np.ndarray
    labels: np.ndarray
    classes: np.ndarray | None = None
    names: np.ndarray | None = None
    splits: np.ndarray | None = None
    roles: np.ndarray | None = None
    cameras: np.ndarray | None = None
    relevant: np.ndarray | None = None
    first: int = 0


@followed_by(source_of_features)
def embeddings(
    root: Path,
    *,
    file: File,
    labels: File | None = None,
    trials: File | None = None,
    count: Annotated[int, Field(ge=1)] | None = None,
    standardise: bool = False,
) -> Samples:
    """The features in `root`/`file`, as float32 "images" (1, 1, F):

    .npz      arrays `features` (N, F), also called `embeddings`, and `labels` (N,), numbers or text;
              `classes`, `names`, `splits` and `roles`, if they are there, as in what `src.embed` writes
    .npy      features (N, F), with the labels (N,) in another such file, `labels`
    .parquet  a column `features` of lists, a column `label`, perhaps columns `split` and `role`

    With roles, those of test samples that are `query` or `both` search those that are `gallery` or
    `both`; samples to train on have none. With `cameras` (a column `camera`) as well, samples of one
    class and camera do not count for each other. An array `relevant` (P, 2) of an .npz holds rows of a
    query and a sample that is relevant to it, where that is not what its class says.

    `trials`, a list in `root` as `read_trials` reads it, names the pairs of test samples to test;
    it is refused if it has another `count` of them.

    Features are taken as they are, or each `standardise`d to mean 0 and variance 1 over the training
    samples. Raises ValueError, with the row or line, for what is no number, no label, no known split or
    no such sample, and for arrays that do not fit each other."""
    typed = {"file": file, "labels": labels, "trials": trials}
    listed = None
    try:
        samples = read_features(found(root, file), labels and found(root, labels, "labels"))
        if trials is not None:
            known = () if samples.names is None else set(samples.names.tolist())
            listed = read_trials(found(root, trials, "trials"), known)
    except BadArgument as error:  # as it was typed, without the root
        raise BadArgument(error.argument, typed[error.argument], error.why) from None
    if count is not None and listed is None:
        raise BadArgument("count", count, "there are no trials to count: leave it out")
    if count is not None and len(listed.same) != count:
        raise BadArgument("count", count, f"{listed.file} has {len(listed.same):,}")
    return samples._replace(standardise=standardise, trials=listed)


def read_features(path: Path, labels: Path | None = None, unlabelled: bool = False) -> Samples:
    """The features in a file, as `embeddings` reads them; a .npy's `labels` are in another. With
    `unlabelled`, samples of an .npz or .parquet need no labels, and are then all of one class. Raises
    what that raises."""
    kind = path.suffix.lower()
    if kind not in FEATURE_FILES:
        raise BadArgument("file", str(path), f"features are read from {', '.join(FEATURE_FILES)}")
    if labels is not None and kind != ".npy":
        raise BadArgument("labels", str(labels), f"{path} has its own; only a .npy file needs another")
    check_file(path, MOST_BYTES)
    if kind == ".npy":
        return samples_of(path, read_npy(path, labels))
    read = read_npz if kind == ".npz" else read_lists
    return samples_of(path, read(path, unlabelled))


def read_npz(path: Path, unlabelled: bool = False) -> Arrays:
    arrays = {}
    try:
        with zipfile.ZipFile(path) as zipped:
            check_zip(zipped, MOST_BYTES)
        with np.load(path, allow_pickle=False) as kept:
            for key in kept.files:
                if key in (*FEATURES, *LABELS, *SPLITS, *ROLES, *CAMERAS, *ALONE):
                    arrays[key] = kept[key]
    except Exception as error:  # torn, forged: numpy raises anything
        raise ValueError(f"{path}: cannot be read as an .npz of arrays ({why(error)})") from None

    def of(keys: tuple[str, ...]) -> np.ndarray | None:
        return next((arrays[key] for key in keys if key in arrays), None)

    for keys in (FEATURES, LABELS)[: 1 if unlabelled else 2]:
        if of(keys) is None:
            raise ValueError(f"{path}: has no array {keys[0]}; its arrays are {', '.join(kept.files)}")
    features, labels = of(FEATURES), of(LABELS)
    if labels is None:
        labels = np.zeros(len(features), int)
    names = arrays.get("classes"), arrays.get("names")
    searched = of(ROLES), of(CAMERAS), arrays.get("relevant")
    return Arrays(features, labels, *names, of(SPLITS), *searched)


def read_npy(path: Path, labels: Path | None) -> Arrays:
    if labels is None:
        raise BadArgument(
            "labels", None, f"{path} holds features alone; name a .npy file of their labels"
        )
    check_file(labels, MOST_BYTES)
    arrays = []
    for file in (path, labels):
        try:
            arrays.append(np.load(file, allow_pickle=False))
        except Exception as error:  # torn, forged: numpy raises anything
            raise ValueError(f"{file}: cannot be read as an .npy array ({why(error)})") from None
        if not isinstance(arrays[-1], np.ndarray):
            raise ValueError(f"{file}: an .npz under another name")
    return Arrays(*arrays)


def why(error: Exception) -> str:
    if "allow_pickle" in str(error):
        return "it holds Python objects, which are not loaded; save numbers and text"
    return one_line(error)


def read_lists(path: Path, unlabelled: bool = False) -> Arrays:
    table = read_parquet(path)
    if not table.num_rows:
        raise ValueError(f"{path}: has no rows")
    import pyarrow as pa
    import pyarrow.compute as pc

    def of(names: tuple[str, ...]) -> str:
        name = next((name for name in names if name in table.column_names), None)
        if name is None:
            raise ValueError(f"{path}: has no column {names[0]}; has {', '.join(table.column_names)}")
        return name

    lists = table[of(FEATURES)].combine_chunks()
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(kind(lists.type) for kind in kinds):
        raise ValueError(f"{path}: column {of(FEATURES)} holds {lists.type}, not lists of numbers")
    lengths = pc.list_value_length(lists).fill_null(-1).to_numpy(zero_copy_only=False)
    odd = np.flatnonzero((lengths != lengths[0]) | (lengths < 1))
    if len(odd):
        raise ValueError(
            f"{path}: row {odd[0] + 1} has {max(0, lengths[odd[0]])} features, the first {lengths[0]}"
        )
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    others = Table(path, table.drop_columns([of(FEATURES)]).to_pydict(), range(1, len(lists) + 1), "row")

    def column(name: str) -> np.ndarray:
        values = others.columns[name]
        return np.array([text_at(others, values, row, name) for row in range(len(values))])

    def there(names: tuple[str, ...]) -> np.ndarray | None:
        return next((column(name) for name in names if name in others.columns), None)

    roles = next((others.columns[name] for name in ROLES if name in others.columns), None)
    roles = None if roles is None else np.array([each or "" for each in roles])
    cameras = there(CAMERAS) if roles is not None else None
    kept = {"splits": there(SPLITS), "roles": roles, "cameras": cameras}
    kept["names"] = there(("names", "name"))
    unknown = unlabelled and not set(LABELS) & set(others.columns)
    labels = np.zeros(len(lists), int) if unknown else column(of(LABELS))
    return Arrays(flat.reshape(len(lists), -1), labels, **kept, first=1)


def samples_of(path: Path, arrays: Arrays) -> Samples:
    """Features as float32 (N, 1, 1, F) with their labels as text. Raises ValueError for what does not
    fit together, and for the first row that cannot be used."""
    features, count = arrays.features, len(arrays.features) if arrays.features.ndim else 0
    if features.ndim != 2 or not features.size or features.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: features are {features.dtype} {features.shape}, expected numbers (N, F)"
        )
    for what in ("labels", "names", "splits", "roles", "cameras"):
        values = getattr(arrays, what)
        if values is not None and values.shape != (count,):
            raise ValueError(f"{path}: features are {features.shape}, but {what} {values.shape}")
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(features, np.float32)
    table = Table(path, {}, range(arrays.first, arrays.first + count), "row")
    wrong = np.flatnonzero(~np.isfinite(features).all(1))
    if len(wrong):
        more = f", nor do {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ValueError(f"{table.place(wrong[0])}: does not hold finite numbers of float32{more}")
    parts = np.full(count, NOT_SPLIT)
    if arrays.splits is not None:
        splits = arrays.splits.tolist()
        parts = np.array([part_at(table, splits, row) for row in range(count)])
    names, roles = (None if each is None else each.astype(str) for each in (arrays.names, arrays.roles))
    if roles is not None:
        for row in range(count):
            role_at(table, roles, row, parts[row])
    labels = label_texts(table, arrays)
    images = features[:, None, None, :]
    samples = Samples(str(path), images, labels, names, parts)
    if roles is None and arrays.relevant is not None:
        raise ValueError(
            f"{path}: lists samples that are relevant, and has no roles of queries and gallery"
        )
    if roles is None:
        return samples
    relevant = relevant_rows(table, arrays.relevant)
    return samples._replace(queries=Queries(roles, arrays.cameras, relevant))


def relevant_rows(table: Table, rows: np.ndarray | None) -> np.ndarray | None:
    """Rows (P, 2) of queries and of what is relevant to each. Raises ValueError for another shape, and
    for rows that are not there."""
    if rows is None:
        return None
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "iu":
        raise ValueError(f"{table.file}: relevant is {rows.dtype} {rows.shape}, expected rows (P, 2)")
    wrong = np.flatnonzero(((rows < 0) | (rows >= len(table.numbers))).any(1))
    if len(wrong):
        which = f"relevant[{wrong[0]}] is {rows[wrong[0]].tolist()}"
        raise ValueError(f"{table.file}: {which}, expected rows from 0 to {len(table.numbers) - 1}")
    return rows.astype(np.int64)


def label_texts(table: Table, arrays: Arrays) -> np.ndarray:
    """The labels as text: names of classes where they index those. Raises ValueError, with the row, for
    one that is negative or of no class, which often means that it is unknown."""
    if arrays.classes is None:
        labels = arrays.labels.tolist()
        texts = [text_at(table, labels, row, "label") for row in range(len(labels))]
        unknown = [row for row, text in enumerate(texts) if text.startswith("-") and text[1:].isdigit()]
        if unknown:
            row = unknown[0]
            raise ValueError(f"{table.place(row)}: label {texts[row]}, expected one from 0")
        return np.array(texts)
    classes = arrays.classes.astype(str)
    if arrays.labels.dtype.kind not in "iu" or classes.ndim != 1:
        raise ValueError(f"{table.file}: labels of kind {arrays.labels.dtype} do not index its classes")
    wrong = np.flatnonzero((arrays.labels < 0) | (arrays.labels >= len(classes)))
    if len(wrong):
        label = arrays.labels[wrong[0]]
        raise ValueError(f"{table.place(wrong[0])}: label {label} is none of its {len(classes)} classes")
    return classes[arrays.labels]
