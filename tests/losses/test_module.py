"""loss=module: a loss that somebody knows from elsewhere trains, sweeps and compares like the others."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from torch import Tensor, nn

from src.config import identity
from src.config.identity import differences
from src.errors import UserError
from src.losses import ModuleLoss
from src.run.build import build_run, check_config
from src.run.code import code_of
from src.run.folder import RunFolder
from src.run.lifecycle import train_run
from src.run.load import load_trained
from src.training import load_checkpoint
from tests.conftest import FAST, config_of, rows_of, summary_of

LIBRARY = "pytorch_metric_learning"
TRIPLETS = ("loss=module", "loss.module.margin=0.1")
COSINES = f"loss.module.distance={{_target_: {LIBRARY}.distances.CosineSimilarity}}"
MINER = f"loss.miner={{_target_: {LIBRARY}.miners.MultiSimilarityMiner, epsilon: 0.2}}"
PROXIES = ("loss=module", f"loss.module._target_={LIBRARY}.losses.ProxyNCALoss")


def added(*overrides: str) -> list[str]:
    """Overrides as they are typed: with + for what the YAML does not have."""
    return [f"+{o}" if o.startswith(("loss.module.m", "loss.module.d")) else o for o in overrides]


def configured(*overrides: str):
    return check_config(config_of(*FAST, *added(*overrides)))


def test_the_loss_is_that_of_the_module_with_the_pairs_of_its_miner():
    x, y = torch.randn(24, 6, dtype=torch.float64), torch.arange(24) % 4
    head = build_run(configured(*TRIPLETS, COSINES, MINER), RunFolder("unused")).head.double().eval()
    head.embedding_dim = 6
    pairs = MultiSimilarityMiner(epsilon=0.2)(x, y)
    expected = TripletMarginLoss(margin=0.1, distance=CosineSimilarity())(x, y, pairs)
    torch.testing.assert_close(head(x, y), expected)
    assert head.miner.epsilon == 0.2
    without = TripletMarginLoss(margin=0.1)(x, y)
    assert float(without) != pytest.approx(float(expected))


class Recorded(nn.Module):
    """Pulls embeddings apart by the signs of labels, and remembers what it was given."""

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.factor, self.given = nn.Parameter(torch.tensor(weight)), []

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self.given.append((embeddings.detach().clone(), labels.clone()))
        return (embeddings[:, 0] * self.factor * (1 - 2 * (labels % 2))).mean()


def test_prototypes_are_running_means_of_unit_embeddings_and_classify():
    torch.manual_seed(0)
    head, means = ModuleLoss(3, 5, module=Recorded()), {}
    start = head.weight.clone()
    for _ in range(4):
        x, y = torch.randn(8, 3), torch.randint(0, 4, (8,))
        head(x, y)
        for label in set(y.tolist()):
            mean = sum(v / v.norm() for v, own in zip(x, y, strict=True) if own == label)
            mean = mean / mean.norm()
            moved = 0.8 * means[label] + 0.2 * mean if label in means else mean
            means[label] = moved / moved.norm()
    for label, mean in means.items():
        torch.testing.assert_close(head.prototypes[label], mean)
    torch.testing.assert_close(head.weight[4], start[4])  # no sample yet
    x = torch.randn(3, 3)
    torch.testing.assert_close(head.logits(x), F.normalize(x) @ head.prototypes.T)
    before = head.prototypes
    head.eval()(torch.randn(8, 3), torch.zeros(8, dtype=torch.int64))
    assert torch.equal(head.prototypes, before), "evaluation moves nothing"


def test_the_modules_parameters_train_and_sizes_are_filled_in(tmp_path):
    run = build_run(configured(*PROXIES), RunFolder(tmp_path))
    assert run.head.module.proxies.shape == (10, 3)
    trained = [p for group in run.optimizer.param_groups for p in group["params"]]
    assert any(p is run.head.module.proxies for p in trained)
    before = run.head.module.proxies.detach().clone()
    train_run(configured(*PROXIES), tmp_path)
    after = load_trained(tmp_path, allowed=[LIBRARY]).head.module.proxies
    assert not torch.equal(before, after.cpu())


def test_a_run_with_triplets_learns_and_is_used_where_its_library_is_allowed(tmp_path):
    options = ("epochs=4", "sampler.kind=classes", "sampler.samples_per_class=8")
    config = configured(*TRIPLETS, COSINES, *options)
    train_run(config, tmp_path)
    rows = rows_of(tmp_path)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert summary_of(tmp_path)["state"] == "finished"
    with pytest.raises(UserError, match=r"^loss\.module\._target_=.*--allow pytorch_metric_learning"):
        load_trained(tmp_path)
    assert load_trained(tmp_path, allowed=[LIBRARY]).head.module.margin == 0.1


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    from tests.run.test_best_epoch import cut_after

    config = configured(*PROXIES, "epochs=4")
    train_run(config, tmp_path / "whole")
    cut_after(2, tmp_path / "cut", monkeypatch, config)
    train_run(config, tmp_path / "cut")
    for name in ("metrics.csv", "embeddings.npz"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_arguments_of_the_module_tell_runs_apart_by_their_keys():
    near, far = (configured("loss=module", f"loss.module.margin={m}") for m in (0.1, 0.2))
    assert differences(near, far) == {"loss.module.margin": "loss.module.margin=0.1 there, 0.2 here"}
    assert identity(near) != identity(far)
    assert identity(configured(*TRIPLETS)) == identity(near) != identity(configured(*TRIPLETS, MINER))


def test_the_code_of_the_modules_library_is_part_of_a_run():
    assert code_of(configured(*TRIPLETS)).sources != code_of(configured("loss=arcface")).sources


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("loss.module._target_=no.such.Loss", "loss.module._target_=no.such.Loss: cannot be imported"),
        (
            "loss.module._target_=torch.pi",
            "loss.module._target_=torch.pi: neither a class nor a function",
        ),
        ("+loss.module.margn=1", "did you mean loss.module.margin?"),
        ("loss.module=3", "loss.module=3: expected an object: loss.module._target_=<its class>"),
        ("loss.miner=hard", "loss.miner=hard: expected an object: loss.miner._target_=<its class>"),
        ("scale.value=8", "loss=module has no scale"),
        ("margin.value=0.1", "loss=module has no margin"),
        ("+loss.label_smoothing=0.1", "takes no such argument"),
        (f"+loss.module.distance={{_target_: {LIBRARY}.distances.LpDistance, q: 1}}", ""),
    ],
)
def test_what_cannot_be_built_is_refused_by_its_key(override, said):
    if not said:  # options that go on to a base class are known by name as well
        with pytest.raises(UserError, match=r"loss\.module\.distance\.q=1: .*takes no such argument"):
            configured("loss=module", override)
        return
    with pytest.raises(UserError) as refused:
        configured("loss=module", override)
    assert said in str(refused.value)


def test_batches_of_lone_samples_are_warned_of(tmp_path, caplog):
    train_run(configured(*PROXIES, "batch_size=8", "epochs=1"), tmp_path)
    assert "most batches of 8 have one sample of a class, of 10" in caplog.text
    assert np.isfinite(summary_of(tmp_path)["metrics"]["accuracy"])


HIDDEN = {"_target_": "os.system", "command": "false"}


@pytest.mark.parametrize(
    "module",
    [
        HIDDEN,
        {"_target_": "src.losses.BadArgument", "argument": "x", "why": "x", "value": [[HIDDEN]]},
        {"_target_": f"{LIBRARY}.losses.MultipleLosses", "losses": [HIDDEN]},
        {"_target_": f"{LIBRARY}.utils.common_functions.os.system", "command": "false"},
    ],
    ids=["itself", "in lists", "in a list of an allowed class", "by way of an allowed package"],
)
def test_a_strangers_run_calls_nothing_that_was_not_allowed(module, tmp_path, monkeypatch):
    train_run(configured(*TRIPLETS, "epochs=1"), tmp_path)
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    saved["config"]["loss"]["module"] = module
    torch.save(saved, tmp_path / "checkpoint.pt")
    called = []
    monkeypatch.setattr("os.system", called.append)
    for allowed in ([], [LIBRARY]):
        with pytest.raises(UserError, match=r"--allow"):
            load_trained(tmp_path, allowed=allowed)
    assert not called


def test_objects_in_lists_are_checked_and_a_module_has_to_be_one():
    losses = f"+loss.module.losses=[{{_target_: {LIBRARY}.losses.TripletMarginLoss, margn: 1}}]"
    several = ("loss=module", f"loss.module._target_={LIBRARY}.losses.MultipleLosses", losses)
    with pytest.raises(UserError, match=r"loss\.module\.losses\.0\.margn=1: .*did you mean"):
        configured(*several)
    with pytest.raises(UserError, match=r"loss\.module=\w+: expected a torch.nn.Module"):
        configured("loss=module", "loss.module._target_=collections.OrderedDict")
