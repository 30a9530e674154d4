"""Google Landmarks v2: queries search an index of landmarks, and lists say what is relevant to each."""

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

from ..losses import BadArgument
from .retrieval_sets import Listed, Published, checked, folder_of
from .samples import Samples, followed_by, source_of_images
from .tables import Table, read_table, text_at

TRAINED: Published = {"clean": (1_580_470, 81_313), "full": (4_132_914, 203_094)}
SEARCHED: Published = {"private": (750, None), "public": (379, None), "index": (761_757, None)}
USAGES = ("Private", "Public", "Ignored")


@followed_by(source_of_images)
def gldv2(root: Path, *, clean: bool = True, usage: Literal["private", "public"] = "private") -> Samples:
    """Google Landmarks v2 (Weyand et al. 2020, arXiv 2004.01804): queries, those of a `usage` in
    retrieval_solution_v2.1.csv, search the index; relevant to each are the images that it lists. Trains
    on train_clean.csv, or, if not `clean`, on train.csv; without train/ it only tests. Landmarks that
    are trained on are searched for as well, as published.

    Reads train/, index/ and test/, images a/b/c/abc….jpg below them, and the lists as published, in
    `root`, in metadata/ or in the folder of their images. Raises ValueError, with the line, for other
    lists, and for other numbers of images."""
    folder = folder_of(root, "gldv2", "index", "test")
    trained = trained_on(folder, clean) if (folder / "train").is_dir() else {}
    landmarks = landmark_of_index(folder)
    solution = read_list(folder, "test", "retrieval_solution_v2.1.csv", "id", "images", "Usage")
    answers = answers_to(solution, usage, landmarks)
    of_query = {
        query: Counter(landmarks[image] for image in images).most_common(1)[0][0]
        for query, images in answers.items()
    }
    listed = [
        Listed(path_of(folder / place, image), prefix + landmark, part)
        for place, part, images, prefix in (
            ("train", "train", trained, ""),
            ("test", "query", of_query, "index "),  # their landmarks may be trained on as well
            ("index", "gallery", landmarks, "index "),
        )
        for image, landmark in images.items()
    ]
    published = {"query": SEARCHED[usage], "gallery": SEARCHED["index"]}
    if trained:
        published["train"] = TRAINED["clean" if clean else "full"]
    samples = checked(root, listed, published)
    place = {image: row for row, image in enumerate(landmarks, len(trained) + len(answers))}
    relevant = [
        (row, place[image])
        for row, images in enumerate(answers.values(), len(trained))
        for image in images
    ]
    known = len(set(of_query.values()) & set(trained.values()))
    note = f"{folder}: {known:,} of {len(set(of_query.values())):,} landmarks of queries are trained on"
    queries = samples.queries._replace(relevant=np.array(relevant))
    return samples._replace(queries=queries, notes=(note,) if known else ())


def path_of(folder: Path, image: str) -> Path:
    return folder / image[0] / image[1] / image[2] / f"{image}.jpg"


def read_list(folder: Path, part: str, name: str, *columns: str) -> Table:
    """A list that was published for a part. Raises ValueError if it is not there, or has no such
    columns."""
    for place in (folder, folder / "metadata", folder / part):
        if (place / name).is_file():
            table = read_table(place / name)
            missing = [column for column in columns if column not in table.columns]
            if missing:
                raise ValueError(f"{table.file}: has no column {missing[0]}, and is not as published")
            return table
    raise BadArgument("root", folder, f"expected {name} in it, in metadata/ or in {part}/")


def image_at(table: Table, text: str, row: int) -> str:
    """The name of an image. Raises ValueError, with the line, for what is none."""
    if not (len(text) >= 3 and text.isascii() and text.isalnum()):
        raise ValueError(f"{table.place(row)}: image {text[:60]!r}, expected as in 0123456789abcdef")
    return text


def trained_on(folder: Path, clean: bool) -> dict[str, str]:
    """The landmark of each image to train on."""
    name = "train_clean.csv" if clean else "train.csv"
    column = "images" if clean else "id"
    table = read_list(folder, "train", name, "landmark_id", column)
    found = {}
    for row, images in enumerate(table.columns[column]):
        landmark = text_at(table, table.columns["landmark_id"], row, "landmark_id")
        for image in str(images or "").split():
            found[image_at(table, image, row)] = landmark
    return found


def landmark_of_index(folder: Path) -> dict[str, str]:
    """The landmark of each image of the index."""
    table = read_list(folder, "index", "index_image_to_landmark.csv", "id", "landmark_id")
    return {
        image_at(table, text_at(table, table.columns["id"], row, "id"), row): text_at(
            table, table.columns["landmark_id"], row, "landmark_id"
        )
        for row in range(len(table.numbers))
    }


def answers_to(solution: Table, usage: str, index: dict[str, str]) -> dict[str, list[str]]:
    """The images of the index that are relevant to each query of a usage. Raises ValueError, with the
    line, for a query without one, and for an image that is not of the index."""
    found = {}
    for row, said in enumerate(solution.columns["Usage"]):
        if said not in USAGES:
            expected = ", ".join(USAGES)
            raise ValueError(f"{solution.place(row)}: Usage {said!r:.60}, expected one of {expected}")
        if said.lower() != usage:
            continue
        query = image_at(solution, text_at(solution, solution.columns["id"], row, "id"), row)
        images = str(solution.columns["images"][row] or "").split()
        if not images:
            raise ValueError(f"{solution.place(row)}: query {query} has no relevant image")
        for image in images:
            if image not in index:
                which = f"query {query} names {image[:60]}"
                raise ValueError(f"{solution.place(row)}: {which}, which the index does not have")
        found[query] = images
    return found
