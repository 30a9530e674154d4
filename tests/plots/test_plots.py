"""Figures hold what they should; how they look is judged by eye."""

import tracemalloc
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from src import plots
from src.evaluation import METRICS, PairScores
from src.evaluation.verification import PairCurves, pair_curves
from src.plots import style
from src.plots.confusion import Confusions
from src.plots.style import colour, fit_axis, marker, new_figure, short_names

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dimension", [2, 3, 8])
@pytest.mark.parametrize("classes", [2, 10, 30])
def test_embeddings_of_any_dimension_make_an_image_800_pixels_wide(dimension, classes, tmp_path):
    labels = RNG.integers(classes, size=300)
    prototypes = RNG.normal(size=(classes, dimension))
    x = prototypes[labels] + 0.1 * RNG.normal(size=(300, dimension))
    names = tuple(f"class {label}" for label in range(classes))
    path = plots.save(
        plots.plot_embedding(x, labels, prototypes, names, "a title"), tmp_path / "a" / "x.png"
    )

    with Image.open(path) as image:
        assert image.width == 800 and len(image.getcolors(10**6)) > 100


def test_the_legend_names_the_classes_and_the_prototypes():
    fig = plots.plot_embedding(np.eye(3), np.arange(3), np.eye(3), ("cat", "dog", "cow"))
    texts = [text.get_text() for text in fig.legends[0].get_texts()]
    assert texts == ["cat", "dog", "cow", "prototype"]


def test_names_of_nearby_classes_in_a_projection_do_not_overlap():
    means = np.eye(8)[:3].copy()
    means[1] = means[0] + 0.1 * means[2]  # far less apart than a name is wide
    labels = np.repeat(np.arange(3), 20)
    x = means[labels] + 0.2 * RNG.normal(size=(60, 8))
    fig = plots.plot_embedding(x, labels, means, ("a rather long name", "another long name", "third"))
    fig.draw_without_rendering()
    first, second = (text.get_window_extent() for text in fig.axes[0].texts[:2])
    assert not first.overlaps(second)


def test_few_dimensions_are_kept_and_more_are_projected_to_the_most_variance():
    points, prototypes = plots.to_dimensions(np.array([[0.0, 5.0, 0.0]]), np.array([[2.0, 0.0, 0.0]]), 3)
    assert points.tolist() == [[0, 1, 0]] and prototypes.tolist() == [[1, 0, 0]]
    flat = np.zeros((100, 6))
    turn = RNG.uniform(0, 2 * np.pi, 100)
    flat[:, 4], flat[:, 1] = np.cos(turn), np.sin(turn)
    points, prototypes = plots.to_dimensions(flat, flat[:3], 2)
    assert points.shape == (100, 2) and prototypes.shape == (3, 2)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.testing.assert_allclose(gaps, np.linalg.norm(flat[:, None] - flat[None], axis=-1), atol=1e-9)


def test_histograms_are_in_degrees_and_name_the_means_that_the_log_says():
    axes = plots.plot_angles(np.full(10, np.pi / 6), np.full(10, np.pi / 2)).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "to the own prototype, mean 30.0°",
        "to the nearest other prototype, mean 90.0°",
    ]
    assert axes.get_xlabel() == "angle (degrees)"


def test_classes_past_ten_get_another_marker():
    assert len({(colour(label), marker(label)) for label in range(100)}) == 100
    assert plots.class_colours(12).shape == (12, 3)


def curves_of(cosines: np.ndarray, same: np.ndarray) -> PairCurves:
    return pair_curves(PairScores(torch.from_numpy(cosines), torch.from_numpy(same), None))


def test_pairs_are_drawn_in_degrees_with_their_numbers():
    cosines = np.concatenate([np.full(30, 0.5), np.full(70, 0.0)])
    curves = curves_of(cosines, np.arange(100) < 30)
    axes = plots.plot_pairs(*curves[:4]).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "same class, 30 pairs, median 60.0°",
        "different classes, 70 pairs, median 90.0°",
    ]
    assert curves.pair_shares.sum(1).tolist() == [1, 1]


def test_a_curve_of_a_million_thresholds_is_thinned_and_still_passes_its_points():
    different, same = RNG.uniform(-1, 1, 10**6), 1 - 2 * RNG.uniform(size=10**5) ** 5
    cosines = np.concatenate([different, same])
    curves = curves_of(cosines, np.arange(len(cosines)) >= len(different))
    axes = plots.plot_roc(curves.far, curves.tar, 0.1, 1e-5).axes[0]
    x, y = axes.get_lines()[0].get_data()
    assert 500 < len(x) < 5000 and axes.get_xlim()[0] == 1e-5 and x[x > 0].min() < 2e-5
    np.testing.assert_allclose(y, x**0.2, atol=0.01)  # P(1 − 2u⁵ > 1 − 2f) = f^0.2


@pytest.mark.parametrize("shape", [(9, 7, 1), (9, 7, 3), (1, 16, 1)])
def test_neighbours_are_framed_by_whether_they_are_right(shape, tmp_path):
    images = RNG.integers(0, 255, (2, 4, *shape), np.uint8)
    right = np.array([[True, False, True, True], [False] * 4])
    queries, others = ["a/b", "a very long name of a class"], [["a/b", "a/c", "a/b", "a/b"], ["d"] * 4]
    fig = plots.plot_neighbours(images[:, 0], images, right, queries, others)
    below = [axes.get_xlabel() for axes in fig.axes]
    assert below == ["", "", "a\nc", "", "", "", "d", "d", "d", "d"]
    frames = [axes.spines["top"].get_edgecolor() for axes in fig.axes]
    assert len(frames) == 10 and len({frames[1], frames[3], frames[4]}) == 1
    assert frames[2] == frames[6] != frames[1]
    assert plots.save(fig, tmp_path / "x.png").exists()


def test_long_class_names_stay_inside_the_figure():
    for name, count in (("Old_Church_Slavonic_(Cyrillic)/character", 10), ("person_", 15), ("c", 20)):
        names = tuple(f"{name}{i:02d}" for i in range(count))
        x, y = RNG.normal(size=(60, 8)), np.arange(60) % count
        fig = plots.plot_embedding(x, y, RNG.normal(size=(count, 8)), names)
        fig.canvas.draw()
        box = fig.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= 800
    names = tuple(f"Old_Church_Slavonic_(Cyrillic)/character{i:02d}" for i in range(10))
    fig = plots.plot_embedding(RNG.normal(size=(50, 8)), np.arange(50) % 10, np.eye(10, 8), names)
    texts = [text.get_text() for text in fig.legends[0].get_texts()]
    assert len(set(texts)) == 11 and texts[3].endswith("character03")


@pytest.mark.parametrize("epochs", [1, 40, 200])
def test_curves_of_any_number_of_epochs_are_drawn(epochs):
    rows = [{"epoch": float(e), "loss": 1 / e, "accuracy": 1 - 1 / e} for e in range(1, epochs + 1)]
    for axes in plots.plot_curves(rows, METRICS["accuracy"]).axes:
        assert len(axes.get_lines()[0].get_xdata()) == epochs


@pytest.mark.parametrize(
    ("name", "value", "drawn", "tick"),
    [
        ("worst_recall", 0.25, 25, "25%"),
        ("target_angle_mean", np.pi / 6, 30, "30°"),
        ("uniformity", 2.5, 2.5, "2.5"),
    ],
)
def test_a_curve_is_in_the_unit_that_people_read(name, value, drawn, tick):
    rows = [{"epoch": 1.0, "loss": 1.0, name: value}]
    axes = plots.plot_curves(rows, METRICS[name], split="validation").axes[1]
    assert axes.get_lines()[0].get_ydata() == pytest.approx([drawn])
    assert axes.yaxis.get_major_formatter()(drawn) == tick
    assert axes.get_title("left") == "validation " + name.replace("_", " ")


@pytest.mark.parametrize("dimension", [2, 3, 8])
def test_an_animation_has_a_frame_an_epoch(dimension):
    labels = np.arange(40) % 4
    frames = [(RNG.normal(size=(40, dimension)), RNG.normal(size=(4, dimension))) for _ in range(3)]
    with Image.open(BytesIO(plots.animate(frames, labels, tuple("abcd"), "a title"))) as image:
        assert image.n_frames == 3 and image.width == 640


def test_spheres_are_aligned_with_the_first():
    prototypes = RNG.normal(size=(5, 3))
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    first = plots.Sphere("first", prototypes, np.arange(5), prototypes)
    turned = plots.Sphere("turned", 2 * prototypes @ turn, np.arange(5), prototypes @ turn)
    first, turned = plots.aligned_spheres([first, turned])
    np.testing.assert_allclose(turned.points, first.points, atol=1e-9)
    np.testing.assert_allclose(turned.prototypes, first.prototypes, atol=1e-9)


@pytest.mark.parametrize(
    ("values", "bounds"),
    [
        ([100, 100, 100], (0, 100)),
        ([0, 0], (0, 100)),
        ([0.2, 99.9], (0, 100)),
        ([3, 177], (0, 180)),
        ([99.98, 99.99], (0, 100)),
        ([-2.5, -2.4, np.nan], (-np.inf, 0)),
        ([7.0], (-np.inf, np.inf)),
    ],
)
def test_an_axis_shows_its_values_and_no_tick_that_there_cannot_be(values, bounds):
    axes = new_figure().subplots()
    axes.plot(values)
    fit_axis(axes, "y", values, bounds)
    low, high = axes.get_ylim()
    assert low < np.nanmin(values) and np.nanmax(values) < high
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert len(ticks) >= 2 and bounds[0] <= min(ticks) and max(ticks) <= bounds[1]
    spread = np.ptp(np.array(values)[np.isfinite(values)])
    assert high - low <= (1.2 * spread or 0.11 * max(values) or 2.1)


def test_a_perfect_metric_is_not_drawn_on_an_axis_beyond_all_it_can_be():
    rows = [{"epoch": float(e), "loss": 1 / e, "accuracy": 1.0} for e in range(1, 6)]
    assert plots.plot_curves(rows, METRICS["accuracy"]).axes[1].get_ylim()[1] < 101
    far = np.linspace(0, 1, 1000)
    assert plots.plot_roc(far, np.ones(1000), 0.0, 1e-3).axes[0].get_ylim()[1] < 1.01


def confusion_of(count: int, name: str):
    labels, predicted = np.arange(count).repeat(20), np.arange(count).repeat(20)
    for i in range(15):
        labels = np.append(labels, [i % count] * (15 - i))
        predicted = np.append(predicted, [(i + 1) % count] * (15 - i))
    names = tuple(name.format(i) for i in range(count))
    return plots.plot_confusion(labels, predicted, names, "a title")


@pytest.mark.parametrize("count", [2, 20, 40, 100])
@pytest.mark.parametrize(
    "name", ["{}", "Old_Church_Slavonic_(Cyrillic)/character{:02d}", "the {} th of them all"]
)
def test_up_to_a_hundred_classes_of_a_confusion_matrix_are_named_and_can_be_read(count, name):
    fig = confusion_of(count, name)
    fig.canvas.draw()
    inside, axes = fig.bbox, fig.subfigs[0].axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(names)) == count and names == [t.get_text() for t in axes.get_xticklabels()]
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(box.x0 >= inside.x0 for box in boxes)
    heights = sorted(box.y0 for box in boxes)
    assert min(np.diff(heights)) >= 0.8 * boxes[0].height  # lines of text one below the other
    for label in axes.get_xticklabels():
        assert label.get_window_extent().y0 >= fig.subfigs[1].bbox.y1  # above the list


def test_the_largest_confusions_are_listed_below_the_matrix():
    fig = confusion_of(40, "c{}")
    fig.canvas.draw()
    words = [text.get_text() for text in fig.subfigs[1].texts]
    assert words[0] == "the largest confusions, with their share of the true class"
    assert (
        words[2] == "15 × c0 taken for c1, 43%" and words[-1] == "and 3 more of at most 3 samples each"
    )
    boxes = [text.get_window_extent() for text in fig.subfigs[1].texts]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= fig.bbox.x1 for box in boxes)
    right = plots.plot_confusion(np.array([0, 1, 1]), np.array([0, 1, 1]), ("a", "b"))
    assert right.subfigs[1].texts[0].get_text() == "no test sample is taken for another class"


def test_of_many_classes_those_in_the_largest_confusions_are_drawn_without_counting_all_pairs():
    classes = 100_000
    labels = np.arange(classes)
    predicted = labels.copy()
    predicted[70_000] = predicted[5] = 9
    labels, predicted = np.append(labels, [70_000, 11]), np.append(predicted, [9, 70_000])
    names = tuple(f"c{i}" for i in range(classes))
    tracemalloc.start()
    fig = plots.plot_confusion(labels, predicted, names, "a title")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # bytes; counts of all pairs would take 80 billion
    axes = fig.subfigs[0].axes[0]
    drawn = [label.get_text() for label in axes.get_yticklabels()]
    assert len(drawn) == 40 and drawn[:5] == ["c70000", "c9", "c5", "c11", "c0"]
    assert "40 of 100,000 classes: those in the largest confusions" in axes.get_title(loc="left")
    words = [text.get_text() for text in fig.subfigs[1].texts[2:]]
    assert words[0] == "2 × c70000 taken for c9, 100%" and len(words) == 3
    wrong = axes.images[1].get_array()
    assert wrong[0, 1] == 1 and wrong[3, 0] == 0.5 and wrong.sum() == 2.5


def test_counts_of_confusions_are_scikit_learns():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(7, size=(2, 300))
    counts = Confusions.of(labels, predicted, 7).matrix(np.arange(7))
    np.testing.assert_array_equal(counts, confusion_matrix(labels, predicted))


def test_long_names_that_shortening_makes_the_same_lose_what_they_share():
    names = [f"the apple tree number {i} in the garden" for i in range(3)]
    assert short_names(names) == ["…0…", "…1…", "…2…"]
    assert short_names(["cat", "dog"]) == ["cat", "dog"] and short_names(["x"] * 2) == ["x", "x"]


def test_learning_rates_are_framed_where_they_are_chosen_and_read_on_any_colour():
    values = np.array([[90.0, np.nan, 70.0], [80.0, 85.0, 60.0]])
    axes = plots.plot_rates(["arcface", "cosface"], ["1e-4", "1e-3", "1e-2"], values, [0, 1], "x").axes[
        0
    ]
    assert [text.get_text() for text in axes.texts] == ["90.0", "70.0", "80.0", "85.0", "60.0"]
    assert [text.get_color() for text in axes.texts][::4] == ["black", "white"]
    assert [round(patch.get_x()) for patch in axes.patches] == [0, 0, 1, 1]


# Linear RGB as those see it who lack one kind of cone (Machado and others, 2009, severity 1).
DICHROMATS = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.mark.parametrize("kind", DICHROMATS)
def test_colours_of_classes_and_losses_stay_apart_for_colour_blind_readers(kind):
    rgb = plots.class_colours(10) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DICHROMATS[kind]).T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(seen @ to_xyz.T / [0.9505, 1, 1.089]).T
    lab = np.column_stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1e3 * np.eye(10)
    assert apart.min() > 15  # a difference of 2 can just be seen


def test_names_are_drawn_with_a_font_that_has_them_where_there_is_one(tmp_path, monkeypatch, caplog):
    def drawn(name: str):
        fig = plots.plot_embedding(np.eye(3), np.arange(3), np.eye(3), (name, "dog", "cow"))
        with Image.open(plots.save(fig, tmp_path / "x.png")) as image:
            return np.asarray(image.convert("L"))

    # One that comes with matplotlib stands for one of a machine: it has a letter that DejaVu lacks.
    monkeypatch.setattr(style, "OTHER_FONTS", "No Such Font, STIXNonUnicode")
    assert style.fonts() == ["DejaVu Sans", "STIXNonUnicode"]
    style.warn_of_fonts.cache_clear()
    boxes = drawn("\ue153 \ue153")
    assert [record.message[:20] for record in caplog.records] == ["no font here has all"]
    monkeypatch.setitem(style.STYLE, "font.family", style.fonts())
    letters = drawn("\ue153 \ue153")
    assert len(caplog.records) == 1 and (letters != boxes).any()
