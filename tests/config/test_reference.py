"""docs/keys.md and --help <group> are made from the tree."""

import pytest

from src.config.read import FIELDS
from src.config.reference import about, groups, help_on, reference
from src.config.tree import FILLED_IN, Config, base, leaves
from src.errors import UserError
from tests.conftest import ROOT, config_of


def test_the_reference_of_all_keys_is_current():
    text = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    assert text == reference(), "make docs writes it anew"
    for key, field in FIELDS.items():
        assert f"| `{key}` |" in text and field.description in text
    for argument in ("loss.beyond_pi", "model.width", "dataset.min_images", "optimizer.momentum"):
        assert f"| `{argument}` |" in text


def test_help_on_a_group_is_its_part_of_the_reference(command):
    text = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    assert about("margin") in text and all(f"## {group}\n" in text for group in groups())
    assert help_on("margin") in command("--help", "margin").stdout
    with pytest.raises(UserError, match="--help margn: no such group, did you mean margin"):
        help_on("margn")


def test_hydra_composes_on_the_defaults_of_the_tree():
    config = config_of()
    assert {leaf.key for leaf in leaves(config) if not leaf.argument} == {*FIELDS, *FILLED_IN}
    defaults = base()
    assert defaults["neck"] == config.neck.model_dump()
    assert set(defaults) == set(Config.model_fields) - set(FILLED_IN)
