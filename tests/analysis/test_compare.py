"""From run folders on disk to tables, words and a page."""

import csv
import json
import re

import numpy as np
import pytest
from scipy import stats

from src.analysis import compare_sweeps, rank_runs, read_runs
from src.analysis.wording import answer_sentences
from src.errors import UserError
from src.run.folder import RunFolder, write_json
from src.run.lock import claimed

from .conftest import edit

RNG = np.random.default_rng(0)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_hold_what_scipy_computes(make, tmp_path):
    values = {("arcface", 0.3): RNG.normal(0.95, 0.01, 4), ("arcface", 0.5): RNG.normal(0.9, 0.01, 4)}
    values["softmax", None] = RNG.normal(0.85, 0.01, 4)
    for (loss, margin), accuracies in values.items():
        for seed, accuracy in enumerate(accuracies):
            make(loss, margin, seed, accuracy)
    compare_sweeps([tmp_path / "sweep"])
    out = tmp_path / "sweep" / "comparison"
    table = {row["setting"]: row for row in rows(out / "summary.csv")}
    assert list(table) == ["arcface m=0.3", "arcface m=0.5", "softmax"]
    pooled = np.mean([own.var(ddof=1) for own in values.values()])
    for row, own in zip(table.values(), values.values(), strict=True):
        spread = np.sqrt(max(pooled, own.var(ddof=1)) / 4)
        interval = stats.t.interval(0.95, 9, loc=own.mean(), scale=spread)
        said = [float(row[key]) for key in ("mean", "sd", "low", "high", "validation_mean")]
        assert said == pytest.approx([own.mean(), own.std(ddof=1), *interval, own.mean()])
    results = rows(out / "results.csv")
    assert len(results) == 12 and {row["state"] for row in results} == {"finished"}
    assert float(results[0]["accuracy"]) == values["arcface", 0.3][0]


def test_the_best_is_chosen_by_validation_and_reported_on_test(make, tmp_path):
    for seed in range(3):
        for margin, validation, test in ((0.1, 0.99, 0.90), (0.2, 0.95, 0.97)):
            path = make("arcface", margin, seed, test + seed / 1000) / "summary.json"
            summary = json.loads(path.read_text())
            summary["validation"]["accuracy"] = validation
            write_json(path, summary)
    found = rank_runs(*read_runs([tmp_path / "sweep"]), "accuracy")
    assert found.best.label == "arcface m=0.1" and found.best.test.mean == pytest.approx(0.901)
    assert not found.chosen_on_test
    means = [interval.mean for interval in found.budgets["arcface"]]
    assert means == pytest.approx([(0.901 + 0.971) / 2, 0.901])


def words_of(tmp_path, metric="accuracy") -> str:
    return " ".join(answer_sentences(rank_runs(*read_runs([tmp_path / "sweep"]), metric)))


def test_of_settings_that_score_the_same_no_seeds_are_asked_to_tell_them_apart(make, tmp_path):
    for seed in range(3):
        make("arcface", 0.3, seed, 0.90 + 0.01 * seed)
        make("cosface", 0.2, seed, 0.92 - 0.01 * seed)
    words = words_of(tmp_path)
    assert words.startswith("Accuracy cannot tell the settings apart: on the validation split they tie")
    assert not any(cause in words for cause in ("too few", "takes"))


def test_losses_without_common_seeds_are_compared_all_the_same(make, tmp_path):
    for seed in range(3):
        make("arcface", 0.1, seed, 0.95 + 0.001 * seed)
        make("cosface", 0.1, seed + 3, 0.90 + 0.001 * seed)
    assert words_of(tmp_path).startswith("Use arcface: it beat cosface by 5.0 points (")


def test_the_same_result_with_every_seed_has_no_interval(make, tmp_path):
    for seed in range(3):
        make("arcface", 0.1, seed, 0.95), make("cosface", 0.1, seed, 0.945)
    words = words_of(tmp_path)
    assert words.startswith("arcface is best on the validation split; on the test split it differs from")


def test_runs_that_were_lost_or_trained_otherwise_are_not_passed_over(make, tmp_path):
    for seed in range(3):
        make("arcface", 0.1, seed, 0.95 + 0.001 * seed)
        edit(make("softmax", None, seed, 0.9), lambda s: s["config"].update(epochs=1))
    make("arcface", 0.1, 9, None, state="diverged", error="nan")
    make("cosface", 0.1, 0, None, state="failed", error="boom", metrics={"accuracy": 0.5})
    words = words_of(tmp_path)
    assert (
        "More runs of arcface are not in these numbers, because they did not finish: 1 diverged" in words
    )
    assert "1 more setting has no finished run" in words and "also differ in epochs" in words
    compare_sweeps([tmp_path / "sweep"])
    page = (tmp_path / "sweep" / "comparison" / "report.html").read_text()
    data = re.search(r'id="data">(.*?)</script>', page, re.S)[1]
    json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_splits_and_data_that_differ_do_not_compare(make, tmp_path):
    make("arcface", 0.1, 0, 0.95)
    edit(make("softmax", None, 0, 0.9), lambda s: s["config"]["dataset"].update(val_fraction=0))
    with pytest.raises(UserError, match=r"different dataset\.val_fraction do not compare"):
        rank_runs(*read_runs([tmp_path / "sweep"]), "accuracy")


def test_lower_is_better_is_said_of_angles_that_should_be_small(make, tmp_path):
    for seed in range(3):
        for margin, angle in ((0.1, 0.5), (0.2, 0.3)):
            change = {"target_angle_mean": angle + 0.001 * seed * margin}
            edit(
                make("arcface", margin, seed, 0.9),
                lambda s, c=change: [s[k].update(c) for k in ("metrics", "validation")],
            )
    words = words_of(tmp_path, "target_angle_mean")
    assert words.startswith("Use arcface m=0.2: it beat arcface m=0.1 by 11.5° (")


def spoil_config(summary) -> None:
    # Figures must show such a name, not set it as a formula.
    summary["config"]["choices"]["optimizer"] = r"$\frac{$ <script>"
    summary["config"]["optimizer"]["lr"] = 0.5


DAMAGE = {
    "no embeddings": lambda folder: (folder / "embeddings.npz").write_bytes(b""),
    "torn embeddings": lambda folder: (folder / "embeddings.npz").write_bytes(b"PK torn"),
    "NaN": lambda folder: np.savez(
        folder / "embeddings.npz",
        embeddings=np.full((4, 3), np.nan),
        labels=[0] * 4,
        prototypes=np.eye(3),
    ),
    "embeddings gone": lambda folder: (folder / "embeddings.npz").unlink(),
    "odd rows": lambda folder: (folder / "metrics.csv").write_text("epoch\n1\n"),
    "rows gone": lambda folder: (folder / "metrics.csv").unlink(),
    "few metrics": lambda folder: edit(folder, lambda s: s.update(metrics={"accuracy": 0.9})),
    "odd validation": lambda folder: edit(folder, lambda s: s.update(validation=[1])),
    "no classes": lambda folder: edit(folder, lambda s: s.pop("classes")),
    "odd state": lambda folder: edit(folder, lambda s: s.update(error={}, state=[])),
    "no logger": lambda folder: edit(folder, lambda s: s["config"].pop("logger")),
    "no name": lambda folder: edit(folder, lambda s: s["config"]["choices"].pop("model")),
    "no identity": lambda folder: edit(folder, lambda s: [s.pop("config"), s.pop("identity")]),
    "infinite": lambda folder: edit(folder, lambda s: s["config"]["optimizer"].update(lr=float("inf"))),
    "odd overrides": lambda folder: (folder / ".hydra" / "overrides.yaml").write_text("5"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_damaged_run_does_not_stop_the_comparison(damage, make, tmp_path):
    for seed in range(2):
        for margin in (0.1, 0.2):
            make("arcface", margin, seed, 0.9 + 0.01 * seed)
    DAMAGE[damage](make("arcface", 0.3, 0, 0.99))
    compare_sweeps([tmp_path / "sweep"])
    page = (tmp_path / "sweep" / "comparison" / "report.html").read_text()
    assert page.endswith("</html>\n")


@pytest.mark.figures
def test_an_odd_name_is_shown_as_it_is(make, tmp_path):
    for seed in range(2):
        for margin in (0.1, 0.2):
            make("arcface", margin, seed, 0.9 + 0.01 * seed)
    edit(make("arcface", 0.3, 0, 0.99), spoil_config)
    compare_sweeps([tmp_path / "sweep"])
    page = (tmp_path / "sweep" / "comparison" / "report.html").read_text()
    assert "$ &lt;script&gt;" in page and "$ <script>" not in page and page.endswith("</html>\n")


def test_a_folder_of_an_older_format_is_named_and_skipped(make, tmp_path):
    make("arcface", 0.2, 0, 0.9)
    edit(make("arcface", 0.1, 0, 0.9), lambda s: s["config"]["loss"].pop("_target_"))
    runs, problems = read_runs([tmp_path / "sweep"])
    assert len(runs) == 1 and len(problems) == 1
    assert "loss=arcface,margin=0.1" in problems[0]
    assert "summary.json is not that of a run: config.loss._target_: " in problems[0]


def test_runs_of_several_codes_are_said_to_be(make, tmp_path):
    for seed, sources in enumerate(("a" * 12, "a" * 12, "b" * 12)):
        code = {"sources": sources, "commit": f"{seed:012}", "dirty": False}
        make("arcface", 0.1, seed, 0.9 + seed / 1000, code=code)
    assert "computed by 2 versions of the code: 2 by aaaaaaaaaaaa" in words_of(tmp_path)


def test_a_single_seed_is_called_one(make, tmp_path):
    make("arcface", 0.3, 0, 0.9), make("cosface", 0.3, 0, 0.8)
    words = " ".join(answer_sentences(rank_runs(*read_runs([tmp_path / "sweep"]), "accuracy")))
    assert "but 1 seed cannot say how sure that is" in words


def test_what_is_no_whole_run_is_named_and_skipped(make, tmp_path, capsys):
    for seed in range(2):
        make("arcface", 0.3, seed, 0.9)
    make("arcface", 0.3, 7, None, state="failed", error="ZeroDivisionError: <b>\nsecond line")
    sweep = tmp_path / "sweep"
    make("arcface", 0.1, 0, 0.9, name="torn")
    (sweep / "torn" / "summary.json").write_text('{"state": "fin')
    (sweep / "empty").mkdir()
    (sweep / "foreign").mkdir()
    (sweep / "foreign" / "summary.json").write_text('{"hello": 1}')
    nan = make("arcface", 0.1, 1, 0.9, name="nan") / "summary.json"
    nan.write_text(nan.read_text().replace('"accuracy": 0.9', '"accuracy": NaN'))
    (sweep / "half" / ".hydra").mkdir(parents=True)
    (sweep / "half" / ".hydra" / "run.json").write_text('{"identity": "f')
    running = make("arcface", 0.3, 9, 0.9, name="running")
    RunFolder(running).begin(RunFolder(running).read_summary())  # which takes the summary away
    with claimed(running):
        found = compare_sweeps([sweep])
    said = capsys.readouterr().out
    for name in ("torn", "empty", "foreign", "nan", "half"):
        assert sum(name in line.split(":")[0] and "skipped" in line for line in found.problems) == 1, (
            name
        )
        assert f"{name}: skipped" in said.replace("\n", "")
    assert {run.name: run.state for run in found.runs if run.state != "finished"} == {
        "loss=arcface,margin=0.3,scale=64,seed=7": "failed",
        "running": "running",
    }
    page = (sweep / "comparison" / "report.html").read_text()
    assert "ZeroDivisionError: &lt;b&gt;" in page and "<b>" not in page.split("<script")[0]


@pytest.mark.parametrize(
    ("prepare", "line"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.mkdir(), "holds no run"),
        (lambda path: (path / "x").mkdir(parents=True), "no run has begun in it"),
    ],
)
def test_a_folder_without_runs_is_an_error(prepare, line, tmp_path):
    prepare(tmp_path / "sweep")
    with pytest.raises(UserError, match=line):
        compare_sweeps([tmp_path / "sweep"])


def test_the_command_answers_a_mistake_without_a_traceback(tmp_path, template):
    done = template.start("src.compare", tmp_path / "sweep").finished()
    assert done.returncode == 1 and "no such folder" in done.stderr and "Traceback" not in done.stderr


def test_bad_questions_are_answered_with_what_would_be_right(make, tmp_path):
    make("arcface", 0.3, 0, 0.9)
    with pytest.raises(UserError, match="--metric speed: choose one of accuracy"):
        rank_runs(*read_runs([tmp_path / "sweep"]), "speed")
    with pytest.raises(UserError, match="--baseline triplet: no such loss here, there are arcface"):
        rank_runs(*read_runs([tmp_path / "sweep"]), "accuracy", "triplet")


def test_runs_on_different_images_are_never_averaged(make, tmp_path):
    for seed, data in enumerate(("old", "old", "new")):
        make("arcface", 0.3, seed, 0.9, data=data)
    each = r"on old .*seed=0, .*seed=1; on new .*seed=2"
    with pytest.raises(UserError, match=f"on different images do not compare.*{each}"):
        compare_sweeps([tmp_path / "sweep"])
    assert not (tmp_path / "sweep" / "comparison").exists()

    def resized(summary):
        summary["config"]["dataset"]["size"] = [32, 32]

    edit(next((tmp_path / "sweep").glob("*seed=2")), resized)  # another setting reads them otherwise
    assert len(compare_sweeps([tmp_path / "sweep"]).settings) == 2


def test_every_run_without_the_metric_is_named_on_each_split_that_counts(make, tmp_path):
    for seed in range(3):
        folder = make("arcface", 0.3, seed, 0.9)
        if seed:
            edit(folder, lambda summary: summary["validation"].pop("worst_recall"))
    with pytest.raises(UserError, match=r"--metric worst_recall: .*seed=1, .*seed=2 have none"):
        compare_sweeps([tmp_path / "sweep"], "worst_recall")
