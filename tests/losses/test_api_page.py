"""docs/api.md is made from the heads' signatures and docstrings, which say all that it needs."""

import re

import pytest

from docs.api import call, choices, docstring, heads, meanings, options, page
from src import losses
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "api.md"


def test_the_api_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "make docs writes it anew"


@pytest.mark.parametrize("head", heads(), ids=lambda head: head.__name__)
def test_a_head_states_its_equation_its_parameters_and_its_source(head):
    found, described = docstring(head), meanings(head)
    assert found.summary.endswith(".") and found.equation and found.source
    assert re.search(r"arXiv \d{4}\.\d{5}|[A-Z]{4} 20\d\d|baseline", found.source)
    assert set(options(head)) <= set(described), "an argument has no line in Args"
    assert set(found.arguments) <= set(options(head)), "a line in Args is of no argument"
    assert choices(head), "no file of conf/loss has this head"


@pytest.mark.parametrize("head", heads(), ids=lambda head: head.__name__)
def test_a_call_shows_the_defaults_that_a_head_has(head):
    python = re.sub(r",\s+\*{1,2}(options)?(?=[,)])", "", call(head))
    shown = eval(python, {head.__name__: head, "embedding_dim": 8, "num_classes": 30})
    assert str(shown) == str(head(8, 30))


def test_every_choice_of_a_loss_is_on_the_page():
    listed = {name for head in (*heads(), losses.ModuleLoss) for name in choices(head)}
    assert listed == {path.stem for path in (ROOT / "conf" / "loss").glob("[!_]*.yaml")}
    assert all(f"## {head.__name__}\n" in PAGE.read_text(encoding="utf-8") for head in heads())
    assert {head.__name__ for head in heads()} < set(losses.__all__)
