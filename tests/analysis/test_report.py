"""report.html and its figures: what they say, that nothing in them is live, that they fit the page."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from src import plots
from src.analysis import compare_sweeps, rank_runs, read_runs
from src.analysis.figures import FIGURES, comparison_figures, losses_at_an_edge, losses_by_rate
from src.analysis.settings import split_shared
from src.commands import PROGRAM
from src.evaluation import METRICS
from src.run.folder import write_json

from .conftest import config_named, edit, leave

RNG = np.random.default_rng(0)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = """</script><script>alert(1)</script><img src=x onerror="alert(2)">'"{{ 7 * 7 }}&amp;"""


@pytest.fixture
def write(tmp_path):
    """write("arcface", 0.3, 0.001, seed, accuracy) leaves what a finished run leaves: loss, margin,
    learning rate. A dotted key in `more` is one of the configuration, another one of summary.json."""

    def run(loss, margin, rate, seed, accuracy, *, curve=(0.5, 0.7), classes=("cat", "dog"), **more):
        config = config_named(loss=loss)
        changes = {"optimizer": {"lr": rate}, "margin": {"value": margin}}
        for key in [key for key in more if "." in key]:
            group, name = key.split(".")
            changes[group] = changes.get(group, {}) | {name: more.pop(key)}
        choices = config.choices | changes.pop("choices", {})
        asked = ["experiment=wide", f"loss={loss}", f"margin={margin}", f"lr={rate}", f"seed={seed}"]
        folder = tmp_path / "sweep" / ",".join(asked)
        metrics = dict.fromkeys(METRICS, 0.5) | {"accuracy": accuracy}
        summary = {"classes": list(classes), "metrics": metrics, "validation": dict(metrics)} | more
        rows = [f"{epoch},1,{value}" for epoch, value in enumerate(curve, 1)]
        labels, prototypes = np.arange(200) % len(classes), RNG.normal(size=(len(classes), 3))
        arrays = {
            "embeddings": (prototypes[labels] + 0.1 * RNG.normal(size=(200, 3))).astype(np.float32),
            "labels": labels,
            "prototypes": prototypes,
            "shown": np.arange(200),
            "thumbnails": RNG.integers(0, 17, (200, 8, 8, 1)).astype(np.uint8),
        }
        config = config.replace(seed=seed, **changes).model_copy(update={"choices": choices})
        leave(folder, config, summary, rows, asked, **arrays)
        return folder

    return run


def page_of(tmp_path) -> str:
    compare_sweeps([tmp_path / "sweep"])
    return (tmp_path / "sweep" / "comparison" / "report.html").read_text()


def ranked(tmp_path):
    return rank_runs(*read_runs([tmp_path / "sweep"]), "accuracy")


def data_in(page: str) -> dict:
    """What the page's script draws."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


class Elements(HTMLParser):
    """The elements of a page, (name, attributes), and its text outside scripts and styles."""

    def __init__(self, page: str):
        super().__init__()
        self.found, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] not in ("script", "style"):
            self.texts.append(data.strip())


def test_text_of_runs_is_text_on_the_page_whatever_it_holds(write, tmp_path):
    link = "javascript:alert(3)"
    for seed in range(2):
        for margin in (0.1, 0.3):
            folder = write(
                "arcface", margin, 0.01, seed, 0.9, classes=(HOSTILE, "dog"), wandb_url=link,
                **{"choices.dataset": HOSTILE, "choices.model": f"{HOSTILE}{margin}"},
            )  # fmt: skip
    bad = folder.with_name("bad")
    shutil.copytree(folder, bad)
    summary = json.loads((bad / "summary.json").read_text())
    write_json(bad / "summary.json", summary | {"state": "failed", "error": HOSTILE})
    (bad / ".hydra" / "overrides.yaml").write_text(yaml.dump([f"loss={HOSTILE}"]))
    (tmp_path / "sweep" / "<b onclick=alert(4)>").mkdir()
    page = page_of(tmp_path)
    elements = Elements(page)
    assert [tag for tag, _ in elements.found].count("script") == 3  # the data, plotly, the page's own
    assert not [tag for tag, _ in elements.found if tag == "b"]
    assert not [name for _, attrs in elements.found for name in attrs if name.startswith("on")]
    assert "49" not in elements.texts and any(HOSTILE in text for text in elements.texts)
    addresses = [attrs.get("src") or attrs.get("href") for _, attrs in elements.found]
    assert all(address.startswith("data:image/png;base64,") for address in addresses if address)
    data = data_in(page)
    assert data["classes"][0] == HOSTILE and {row["link"] for row in data["rows"]} == {""}
    assert HOSTILE in {row["error"] for row in data["rows"]}


def test_the_page_is_one_file_that_asks_no_network(write, tmp_path):
    for margin in (0.1, 0.3):
        write("arcface", margin, 0.01, 0, 0.9)
    page = page_of(tmp_path)
    assert not re.search(r"""(src|href)=["']?(https?:|//)|url\(""", page.split("plotly.js")[0])
    assert "default-src 'none'" in page and "{{" not in page.split("plotly.js")[0]


@pytest.mark.parametrize(("program", "typed"), [(None, "python -m src.embed"), ("ap", "ap embed")])
def test_commands_are_shown_as_commands_whatever_they_are_called(
    program, typed, write, tmp_path, monkeypatch
):
    monkeypatch.delenv(PROGRAM, raising=False)
    if program:
        monkeypatch.setenv(PROGRAM, program)
    for margin in (0.1, 0.3):
        write("arcface", margin, 0.01, 0, 0.9 + margin / 10)
    page = page_of(tmp_path)
    assert f"<pre>{typed} best:" in page and f"<p>{typed}" not in page


def test_what_all_rows_share_is_said_once_above_them(write, tmp_path):
    for margin in (0.1, 0.3):
        for seed in range(2):
            write("arcface", margin, 0.01, seed, 0.9 + margin / 10)
    page = page_of(tmp_path)
    said = re.search(r'<p class="shared">(.*?)</p>', page, re.S)[1]
    parts = re.findall("<code>(.*?)</code>", said)
    assert {"loss=arcface", "dataset=digits", "lr=0.01", "seed=0,1"} <= set(parts)
    names = re.findall(r'<td class="name"[^>]*>(.*?)</td>', page)
    assert names == ["m=0.3 (to use)", "m=0.1"]
    data = data_in(page)
    assert data["columns"] == [
        "margin", "seed", "state", "validation accuracy", "test accuracy", "seconds",
    ]  # fmt: skip
    assert data["rows"][0]["cells"] == [0.1, 0, "finished", [0.91, "91.0%"], [0.91, "91.0%"], 1.5]
    assert data["rows"][0]["name"].startswith("experiment=wide,loss=arcface,margin=0.1")


def test_folds_have_a_column_of_their_own(write, tmp_path):
    for fold in range(2):
        write("arcface", 0.1, 0.01, fold, 0.9, **{"dataset.fold": fold, "dataset.folds": 2})
    data = data_in(page_of(tmp_path))
    assert data["columns"][:2] == ["fold", "seed"]
    assert [row["cells"][:2] for row in data["rows"]] == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("names", "shared", "rests"),
    [
        (["arcface m=1", "arcface m=2"], "arcface", ["m=1", "m=2"]),
        (["arcface s=64 m=1", "cosface s=64 m=2"], "s=64", ["arcface m=1", "cosface m=2"]),
        (["softmax", "softmax lr=1"], "", ["softmax", "softmax lr=1"]),
        (["arcface m=1"], "", ["arcface m=1"]),
        ([], "", []),
    ],
)
def test_shared_parts_leave_every_name_something(names, shared, rests):
    assert split_shared(names) == (shared, rests)


def test_runs_that_were_online_link_to_their_pages(write, tmp_path):
    project = "https://wandb.ai/me/angular-penalty"
    write("arcface", 0.1, 0.01, 0, 0.9, wandb_url=f"{project}/runs/abc")
    write("arcface", 0.3, 0.01, 0, 0.9)
    page = page_of(tmp_path)
    data = data_in(page)
    assert data["links"] and [row["link"] for row in data["rows"]] == [f"{project}/runs/abc", ""]
    assert f'<a href="{project}">' in page


def test_losses_by_learning_rate_show_what_validation_chooses_at_each(write, tmp_path):
    for loss, best in (("arcface", 0.01), ("cosface", 0.001)):
        for rate in (0.0001, 0.001, 0.01):
            for margin in (0.1, 0.3):
                away = abs(np.log10(rate / best))
                write(loss, margin, rate, 0, 0.9 - 0.1 * away - 0.01 * (margin == 0.1))
    write("softmax", None, 0.001, 0, 0.5)
    losses, rates, values, chosen = losses_by_rate(ranked(tmp_path))
    assert (losses, rates) == (["arcface", "cosface", "softmax"], ["0.0001", "0.001", "0.01"])
    expected = [[70, 80, 90], [80, 90, 80], [np.nan, 50, np.nan]]
    np.testing.assert_allclose(values, expected)
    assert chosen == [2, 1, 1] and losses_at_an_edge(ranked(tmp_path)) == ["arcface", "softmax"]
    page = page_of(tmp_path)
    assert "a better one may lie beyond: arcface, softmax." in page
    assert (tmp_path / "sweep" / "comparison" / "rates.png").exists()


def test_pixels_train_nothing_so_they_have_no_learning_rate(write, tmp_path):
    for rate in (0.001, 0.01):
        write("arcface", 0.1, rate, 0, 0.9)
    pixels = write("softmax", None, 0.01, 0, 0.5)
    edit(pixels, lambda s: s["config"].update(model={"_target_": "src.models.Pixels"}))
    assert losses_by_rate(ranked(tmp_path))[0] == ["arcface"]


def test_the_many_rates_of_a_search_share_columns_and_one_rate_makes_no_view(write, tmp_path):
    write("arcface", 0.1, 0.001, 0, 0.9)
    assert losses_by_rate(ranked(tmp_path)) is None
    for i, rate in enumerate(np.geomspace(0.001, 0.1, 40)[1:]):
        write("arcface", 0.1, float(rate), 0, 0.5 + i / 100)
    _, rates, values, chosen = losses_by_rate(ranked(tmp_path))
    assert len(rates) == 8 and np.isfinite(values).all() and np.nanmax(values) == pytest.approx(90)
    assert rates[0].startswith("0.001 to") and chosen == [0]


def test_a_figure_in_which_everything_is_the_same_is_not_drawn(write, tmp_path):
    for loss in ("arcface", "cosface"):
        for margin in (0.1, 0.3):
            for seed in range(3):
                write(loss, margin, 0.01, seed, 1.0, curve=(1.0, 1.0))
    figures = comparison_figures(ranked(tmp_path), [])
    assert set(figures) == {"ranking.png", "angles.png"}
    low, high = figures["ranking.png"].draw().axes[0].get_xlim()
    assert 90 < low < 99 and 100 < high < 101


def test_a_figure_that_cannot_be_drawn_is_left_out_of_the_page(write, tmp_path, monkeypatch, caplog):
    for loss, accuracy in (("arcface", 0.9), ("cosface", 0.8)):
        write(loss, 0.3, 0.01, 0, accuracy)

    def broken(*_):
        raise KeyError("glyph")

    (tmp_path / "sweep" / "comparison").mkdir()
    (tmp_path / "sweep" / "comparison" / "curves.png").touch()  # somebody's, where no comparison was
    page_of(tmp_path)
    assert (tmp_path / "sweep" / "comparison" / "curves.png").exists()
    for name in ("heat.png", "mine.png"):  # of one in which margins differed, and somebody's own
        (tmp_path / "sweep" / "comparison" / name).touch()
    monkeypatch.setattr("src.plots.plot_ranking", broken)
    page, folder = page_of(tmp_path), tmp_path / "sweep" / "comparison"
    assert not {"ranking.png", "heat.png"} & {path.name for path in folder.iterdir()}
    assert (folder / "angles.png").exists() and (folder / "answer.txt").read_text()
    assert (folder / "mine.png").exists()
    assert "Test results, from the setting" not in page and "Angles to the own prototype" in page
    assert ["comparison/ranking.png could not be drawn" in line for line in caplog.messages] == [True]
    monkeypatch.setattr("src.analysis.compare.comparison_figures", lambda *_: {})
    assert "Figures" not in Elements(page_of(tmp_path)).texts


def test_axes_of_a_comparison_end_where_the_metric_does(write, tmp_path):
    for loss, accuracy in (("arcface", 0.99), ("cosface", 0.98)):
        for margin in (0.1, 0.3):
            for seed in range(2):  # intervals of two seeds are wide
                write(loss, margin, 0.01, seed, accuracy - 0.02 * seed + margin / 100, curve=(0.9, 1.0))
    figures = comparison_figures(ranked(tmp_path), [])
    assert {name.removesuffix(".png") for name in figures} <= set(FIGURES)
    for name, which in (("ranking", "x"), ("margins", "y"), ("budgets", "y"), ("curves", "y")):
        axes = figures[f"{name}.png"].draw().axes[0]
        low, high = getattr(axes, f"get_{which}lim")()
        ticks = [tick for tick in getattr(axes, f"get_{which}ticks")() if low <= tick <= high]
        assert max(ticks) <= 100 and high - 100 < 0.03 * (high - low), name


def test_the_comparison_marks_the_mean_angle_that_the_log_says(write, tmp_path):
    for margin in (0.1, 0.3):
        folder = write("arcface", margin, 0.01, 0, 0.9)
        summary = json.loads((folder / "summary.json").read_text())
        summary["metrics"] |= {"target_angle_mean": 0.4, "target_angle_p50": 0.3}
        write_json(folder / "summary.json", summary)
    axes = comparison_figures(ranked(tmp_path), [])["angles.png"].draw().axes[0]
    assert axes.get_lines()[0].get_xdata() == pytest.approx([np.degrees(0.4)] * 2)
    assert axes.get_xlabel().startswith("angle (degrees): mean")


def test_the_page_shows_which_classes_the_best_run_takes_for_which(write, tmp_path):
    for margin, accuracy in ((0.1, 0.8), (0.3, 0.9)):
        folder = write("arcface", margin, 0.01, 0, accuracy)
        fig = plots.plot_confusion(np.arange(2), np.arange(2), ("cat", "dog"))
        plots.save(fig, folder / "plots" / "confusion.png")
    (folder / "plots" / "neighbours.png").write_bytes(b"no picture")
    page = page_of(tmp_path)
    assert "Which classes arcface m=0.3 with seed 0 takes for which." in page
    assert "finds nearest" not in page


DRIVE = """<script>
const errors = [];
addEventListener("error", e => errors.push(e.message));
const say = console.error; console.error = (...a) => { errors.push(a.join(" ")); say(...a); };
const until = async truth => {  // for two minutes at most: what is wrong then is found, too
  for (let turn = 0; turn < 1200 && !truth(); turn++) await new Promise(r => setTimeout(r, 100));
};
const drive = async found => {
  const texts = row => [...row.cells].map(cell => cell.textContent);
  const rows = () => [...document.querySelectorAll("#runs tbody tr")].map(texts);
  found.all = rows().length;
  found.wide = [...document.querySelectorAll(".wide, html")].map(e => e.scrollWidth - e.clientWidth);
  const filter = document.getElementById("filter");
  filter.value = "cosface"; filter.dispatchEvent(new Event("input"));
  found.filtered = rows().length; found.kinds = [...new Set(rows().map(r => r[0]))];
  const buttons = [...document.querySelectorAll("#runs th button")];
  const column = buttons.findIndex(b => b.textContent.startsWith("test "));
  buttons[column].click(); found.sorted = rows().map(r => parseFloat(r[column]));
  document.querySelector("#runs tbody tr").click();
  found.more = document.querySelector("td.more").textContent;
  const plots = [...document.querySelectorAll("#spheres .plot")];
  found.spheres = plots.length;
  const cameras = () => plots.map(p => p.layout.scene.camera.eye.y);
  await Plotly.relayout(plots[0], { "scene.camera": { eye: { x: 0.1, y: 2, z: 0.3 } } });
  await until(() => cameras().every(y => y === 2));
  found.cameras = cameras();
  plots[0].emit("plotly_hover", { points: [{ customdata: [13, 13] }] });
  const tip = document.getElementById("tip");
  await tip.querySelector("img").decode();
  found.tip = [tip.textContent, tip.querySelector("img").naturalWidth, tip.style.display];
  found.marked = [...document.querySelectorAll("#classes .on")].map(e => e.textContent);
  found.key = document.querySelectorAll("#classes button").length;
  document.querySelectorAll("#classes button")[3].click();
  const colours = () => plots.map(p => new Set(p.data[1].marker.color).size);
  await until(() => colours().every(count => count === 2));
  found.colours = colours();
  found.looks = new Set(data.colours.map((c, l) => c + plots[0].data[1].marker.symbol[l])).size;
};
addEventListener("load", async () => {
  const found = { errors };
  try { await drive(found); } catch (error) { errors.push(String(error)); }
  console.log("found " + JSON.stringify(found));
});
</script>"""


def driven(page, width: int, tmp_path) -> dict:
    """What DRIVE finds in a page that a browser shows, so many pixels wide."""
    path = tmp_path / "driven.html"
    path.write_text(page.read_text().replace("<title>", DRIVE + "<title>", 1))
    for attempt in range(3):  # where memory is short, the browser may crash
        said = list(lines_of(path, width, tmp_path / f"profile{width}-{attempt}"))
        written = re.search(r'"found (\{.*\})", source: ', said[-1]) if said else None
        if written:
            return json.loads(written[1])
    pytest.fail("the browser ended before the page was ready:\n" + "".join(said[-40:]))


def lines_of(path, width: int, profile):
    """What a browser writes to stderr, the page's console included, until the page has `found`."""
    quiet = ["gpu", "quic", "background-networking", "component-update", "sync", "dev-shm-usage"]
    flags = [f"--disable-{what}" for what in quiet] + ["--no-first-run", f"--window-size={width},900"]
    flags += ["--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    command = [BROWSER, *flags, "--enable-logging=stderr", f"--user-data-dir={profile}", path.as_uri()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as browser:
        end = threading.Timer(600, os.killpg, (browser.pid, signal.SIGKILL))
        end.start()
        try:
            for line in browser.stderr:
                yield line
                if '"found {' in line:
                    return
        finally:
            end.cancel()
            os.killpg(browser.pid, signal.SIGKILL)


@pytest.mark.figures
@pytest.mark.skipif(not BROWSER, reason="no chromium here to open the report with")
def test_the_page_of_200_runs_fits_filters_sorts_and_turns_in_a_browser(write, tmp_path):
    classes = tuple(f"Old_Church_Slavonic_(Cyrillic)/character{label:02d}" for label in range(20))
    for seed in range(10):
        for margin in np.linspace(0.05, 0.6, 10).round(3):
            for loss in ("arcface", "cosface"):
                accuracy = 0.9 + 0.001 * seed + 0.05 * float(margin)
                width = {"choices.model": f"a_backbone_with_a_rather_long_name_of_its_own_{margin}"}
                write(loss, float(margin), 0.01, seed, accuracy, classes=classes, **width)
    compare_sweeps([tmp_path / "sweep"])
    page = tmp_path / "sweep" / "comparison" / "report.html"
    assert page.stat().st_size < 15e6
    found = driven(page, 1280, tmp_path)
    assert found["errors"] == [] and max(found["wide"]) <= 0
    assert found["all"] == 200 and found["filtered"] == 100 and found["kinds"] == ["cosface"]
    assert found["sorted"] == sorted(found["sorted"], reverse=True) and len(found["sorted"]) == 100
    assert "python -m src.train experiment=wide loss=cosface" in found["more"]
    assert found["spheres"] == 6 and found["cameras"] == [2] * 6
    # More classes than colours: each has its own look and its name, and one stands out when asked for.
    assert found["tip"] == [f"■{classes[13]}", 8, "block"] and found["marked"] == [f"■{classes[13]}"]
    assert found["key"] == found["looks"] == 20 and found["colours"] == [2] * 6
    assert max(driven(page, 500, tmp_path)["wide"]) <= 0
