"""From Python: the notebook in docs runs as it stands, and what fails is said."""

import angular_penalty_cli
import nbformat
import pytest
from nbclient import NotebookClient

from src.commands import PROGRAM
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(
    angular_penalty_cli.ROOT != ROOT, reason="another checkout is installed: `pip install -e .` here"
)


@pytest.mark.slow
def test_the_notebook_in_docs_runs_from_top_to_bottom(tmp_path):
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=None, resources=where).execute()
    shown = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    run, model, sweep, compared, embedded = list(shown.values())[1:]

    def text(outputs):
        parts = [out.get("text") or out["data"]["text/plain"] for out in outputs]
        return "".join(parts)

    assert "cosface: test accuracy" in text(run) and "'checkpoint.pt'" in text(run)
    assert "\x1b" not in text(run) + text(sweep), "progress bars are for terminals"
    assert float(text(model)) > 0.6
    assert "4 runs and 4 of baselines -> runs/sweep" in text(sweep)
    assert "angular-penalty embed best:runs/sweep" in text(sweep) and "('softmax', " in text(compared)
    assert "angular-penalty embed best:runs/sweep" in text(compared)
    assert "((3, 3), ['digit0.png', 'digit1.png', 'digit2.png'])" in text(embedded)


def test_a_run_that_fails_raises_what_it_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(PROGRAM, "")  # which the import sets, and other tests have not
    from angular_penalty.api import UserError, load, train

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="loss=arcfac: did you mean loss=arcface"):
        train("loss=arcfac")
    with pytest.raises(UserError, match="no run with a checkpoint"):
        load("nowhere")
    assert "loss=arcfac: did you mean loss=arcface" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
