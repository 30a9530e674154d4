"""What is asked of W&B, by the command line, its variables and its switches, and by whose rules."""

import pytest
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args, load_sweep_config

from src import tracking
from src.errors import UserError
from src.run.build import check_config
from src.run.lifecycle import train_run
from src.tracking.settings import mode_of
from tests.conftest import ROOT

from .test_online import TINY


def test_what_wandb_would_refuse_is_refused_before_anything_starts(composed, without_key):
    for override, why in (
        ("logger.tags=[2024]", "logger.tags=[2024]: expected a list of values, each text"),
        ("logger.tags=[ok,'']", "logger.tags=[ok,]: expected"),
        (f"logger.tags=[{'x' * 65}]", "expected a list of values, each text of at most 64 letters"),
        ("logger.tags=mine", "logger.tags=mine: expected a list of values"),
        ("logger.project=team/faces", "logger.project=team/faces: Invalid project name"),
        ("logger.project=2024", "logger.project=2024: expected text"),
        (f"logger.project={'x' * 129}", "expected text of at most 128 letters or null"),
        ("logger.project=''", "logger.project=: expected text of at most 128 letters"),
        ("logger.group=3", "logger.group=3: expected text"),
        (f"logger.group={'x' * 129}", "expected text of at most 128 letters"),
        ("logger.entity=7", "logger.entity=7: expected text"),
        ("logger.mode=onlin", "logger.mode=onlin: expected one of auto, online, offline, disabled"),
        ("logger.timeout=0", "logger.timeout=0: expected a number > 0, < 1e6"),
        ("logger.timeout=soon", "logger.timeout=soon: expected a number > 0"),
        ("logger.timeout=true", "logger.timeout=true: expected a number"),
        ("logger.timeout=inf", "logger.timeout=inf: expected a number"),
    ):
        with pytest.raises(UserError) as refusal:
            check_config(composed("logger.mode=offline", override))
        said = str(refusal.value)
        assert why in said and "\n" not in said, (override, said)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("WANDB_MODE", "bogus", "WANDB_MODE=bogus: Input should be 'online', 'offline'"),
        ("WANDB_MODE", "", "WANDB_MODE=: Input should be 'online', 'offline'"),
        ("WANDB_TAGS", "a," + "x" * 70, "is 70 characters. Tags must be between 1 and 64"),
        ("WANDB_PROJECT", "a/b", "Invalid project name 'a/b'"),
        ("WANDB_RUN_ID", "a/b", "Run ID cannot contain the characters"),
        ("WANDB_BASE_URL", "nonsense", "WANDB_BASE_URL=nonsense: Input should be a valid URL"),
    ],
)
def test_so_are_its_variables(name, value, why, composed, without_key):
    without_key.setenv(name, value)
    config = composed()
    for _ in range(2):  # a sweep checks every run
        with pytest.raises(UserError) as refusal:
            check_config(config)
        assert why in str(refusal.value) and "\n" not in str(refusal.value)
    check_config(composed("logger=csv"))  # which has nothing to do with them


def test_a_run_that_is_only_read_does_not_ask_wandb(composed, without_key):
    config = composed()
    without_key.setenv("WANDB_MODE", "bogus")
    check_config(config, ("loss", "model", "dataset"))


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_what_wandb_has_switched_off_stays_off(mode, composed, tmp_path, online, monkeypatch):
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text(f"[default]\nmode = {mode}\n")  # `wandb offline`
    monkeypatch.chdir(tmp_path)
    logger = composed("logger.timeout=2").logger
    assert mode_of(logger) == mode
    assert mode_of(logger.model_copy(update={"mode": "online"})) == "online"  # a command line says more
    train_run(composed(*TINY, "epochs=1"), tmp_path / "run")
    assert not online.runs
    assert (tmp_path / "run" / "wandb" / "run.json").exists() == (mode == "offline")


@pytest.mark.parametrize(
    ("mode", "meant"), [("dryrun", "offline"), ("run", "online"), ("shared", "online")]
)
def test_wandbs_own_names_of_modes(mode, meant, composed, without_key):
    without_key.setenv("WANDB_MODE", mode)
    assert mode_of(composed().logger) == meant


def test_its_variables_count_and_the_command_line_counts_more(composed, tmp_path, online, monkeypatch):
    given = {"PROJECT": "theirs", "TAGS": "x,y", "NAME": "called", "RUN_GROUP": "many", "RUN_ID": "mine"}
    for name, value in given.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "else where"))
    (tmp_path / "else where").mkdir()
    train_run(composed(*TINY, "epochs=1"), tmp_path / "a")
    run = online.runs["mine"]
    assert (run.project, run.display_name, run.group) == ("theirs", "called", "many")
    assert set(run.tags) == {"x", "y", "arcface", "synthetic", "mlp"}
    assert [path.name for path in (tmp_path / "else where" / "wandb").glob("run-*-mine")]
    assert not list((tmp_path / "a").glob("wandb/*run-*"))

    monkeypatch.delenv("WANDB_RUN_ID")
    tracking.settings.forget_client()
    typed = ["logger.project=ours", "logger.tags=[z]", "logger.group=few"]
    train_run(composed(*TINY, "epochs=1", *typed), tmp_path / "b")
    (other,) = (run for name, run in online.runs.items() if name != "mine")
    assert (other.project, other.group) == ("ours", "few")
    assert set(other.tags) == {"z", "arcface", "synthetic", "mlp"}


def test_runs_of_a_sweep_share_neither_id_nor_name(composed, tmp_path, online, monkeypatch):
    for name, value in {"RUN_ID": "mine", "NAME": "called", "SWEEP_ID": "agents"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in ("a", "b"):
        train_run(composed(*TINY, "epochs=1"), tmp_path / name, "a-sweep")
    assert len(online.runs) == 2 and "mine" not in online.runs
    assert sorted(run.display_name for run in online.runs.values()) == ["called/a", "called/b"]
    assert all(run.epochs == [1] and not run.sweep for run in online.runs.values())


def test_a_run_under_an_agent_keeps_the_agents_id(composed, tmp_path, online, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "agents")
    monkeypatch.setenv("WANDB_RUN_ID", "given")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    train_run(composed(*TINY, "epochs=1"), tmp_path)
    assert list(online.runs) == ["given"]
    assert online.runs["given"].sweep == "agents" and online.runs["given"].project == "theirs"


def test_the_sweep_for_wandbs_agent_is_one_and_what_an_agent_types_is_a_run(composed, tmp_path, online):
    sweep = load_sweep_config(str(ROOT / "conf" / "wandb_sweep.yaml"))
    picked = {
        name: {"value": (choice.get("values") or [choice.get("min")])[0]}
        for name, choice in sweep["parameters"].items()
    }
    types = {"program": [sweep["program"]], "env": ["env"], "interpreter": ["python"]}
    types |= create_sweep_command_args({"args": picked})
    words = [
        word
        for part in sweep["command"]
        for word in types.get(part.removeprefix("${").removesuffix("}"), [part])
    ]
    assert words[:4] == ["env", "python", "-m", "src.train"]
    train_run(composed(*TINY, "epochs=1", *words[4:]), tmp_path)
    (run,) = online.runs.values()
    assert run.value("margin")["value"] == 0.05 and run.value("optimizer")["lr"] == 0.0003
    assert sweep["metric"]["name"] in run.history[0]
