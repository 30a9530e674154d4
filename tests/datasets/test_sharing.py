"""Runs of a sweep share what one of them has read."""

import multiprocessing

import numpy as np
import pytest

from src.datasets import sharing


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "_folder", tmp_path / "images")
    return tmp_path / "images"


CALLS = []


def read(name: str, sizes: tuple[int, ...]):
    CALLS.append(name)
    rng = np.random.default_rng(0)
    return {size: rng.integers(0, 255, (size, 3), np.uint8) for size in sizes}, name


def test_the_second_to_ask_gets_what_the_first_has_read(folder):
    CALLS.clear()
    whole, _ = read("a", (10, 100_000))
    first, second = (sharing.get(read, "b", (10, 100_000)) for _ in range(2))
    assert CALLS == ["a", "b"]
    for arrays, name in (first, second):
        assert name == "b" and all(np.array_equal(arrays[size], whole[size]) for size in whole)
        assert type(arrays[100_000]) is np.ndarray and isinstance(arrays[100_000].base, np.memmap)
    sharing.get(read, "c", (10, 100_000))
    assert CALLS == ["a", "b", "c"]


def test_a_run_that_changes_its_images_changes_nobody_elses(folder):
    (first, _), (second, _) = (sharing.get(read, "b", (100_000,)) for _ in range(2))
    first[100_000][:] = 0
    assert second[100_000].any() and sharing.get(read, "b", (100_000,))[0][100_000].any()


def fails(path: str):
    raise ValueError(f"{path}: no images")


def test_what_cannot_be_read_is_said_to_each(folder):
    for _ in range(2):
        with pytest.raises(ValueError, match="x: no images"):
            sharing.get(fails, "x")


def unshared(_):
    return lambda: 3  # nothing that can be written


def test_what_cannot_be_shared_is_read_by_each(folder, tmp_path, monkeypatch):
    assert sharing.get(unshared, 1)() == 3
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sharing, "_folder", tmp_path / "file" / "images")  # no folder can be there
    assert sharing.get(read, "b", (10,))[1] == "b"


def ask(folder, counts) -> None:
    sharing.share_images(folder)
    sharing.get(count, counts)


def count(path):
    with open(path, "a") as file:
        file.write("read\n")
    return np.zeros(10**6)


def test_of_processes_that_ask_at_once_one_reads(tmp_path):
    context = multiprocessing.get_context("spawn")
    arguments = tmp_path / "images", str(tmp_path / "counts")
    processes = [context.Process(target=ask, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "counts").read_text() == "read\n"
    assert [process.exitcode for process in processes] == [0, 0, 0]
