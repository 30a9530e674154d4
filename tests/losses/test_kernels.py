"""The loss by kernels for GPUs, which Triton's interpreter runs on a CPU, against the dense path in
float64; and that they compile for GPUs, which needs none."""

import copy
import inspect
import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton", reason="triton has no wheel for this system")

from src import losses
from src.losses import AdaFace, ArcFace, BadArgument, CosFace, CurricularFace, SubCenterArcFace
from src.losses.head import CosineHead
from src.losses.kernels import BLOCK, sums_of_others, write_slopes
from tests.conftest import ROOT, config_of

D, C = 6, 300  # of which the last block of classes has 44
MEMBERS = [
    member
    for _, member in inspect.getmembers(losses, inspect.isclass)
    if issubclass(member, CosineHead) and vars(member).get("in_tiles") and member.centres == 1
]
OPTIONS = [
    (ArcFace, {"label_smoothing": 0.2, "class_weights": [0.5 + i / 100 for i in range(C)]}),
    (CosFace, {"class_weights": [1 + i for i in range(C)]}),
    (ArcFace, {"dynamic_scale": True, "scale": 5.0}),
    (ArcFace, {"gradient": "detached"}),
    *((ArcFace, {"scale": scale}) for scale in (1.0, 512.0)),
]


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def samples(batch: int = 9, classes: int = C):
    torch.manual_seed(100)
    return torch.randn(batch, D) * 3, torch.randint(classes, (batch,))


def loss_and_gradients(head, tiling, x, y) -> list[torch.Tensor]:
    head, x = copy.deepcopy(head), x.clone().requires_grad_()
    head.tiling = tiling
    torch.manual_seed(1)  # of a sample of the classes
    loss = head(x, y)
    loss.backward()
    found = [loss.detach(), x.grad, *(p.grad for p in head.parameters()), *head.buffers()]
    return found + ([head.sample.weight.grad] if head.sample else [])


def assert_same(head, x, y, tiling="off"):
    expected, found = (loss_and_gradients(head, one, x, y) for one in (tiling, "triton"))
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("member", MEMBERS)
def test_kernels_give_the_loss_the_gradients_and_the_statistics_of_the_dense_path(member):
    torch.manual_seed(0)
    head = member(D, C)
    if not head.others_scaled or head.centres > 1:
        with pytest.raises(BadArgument, match="does more to other classes than to scale them: use auto"):
            member(D, C, tiling="triton")
        return
    if member is losses.ElasticFace:  # a copy has not its generator's state
        head.eval()
    assert_same(head, *samples())


def test_most_members_have_kernels():
    scaled = [member for member in MEMBERS if member(D, C).others_scaled]
    assert {ArcFace, CosFace, AdaFace} < set(scaled) and CurricularFace not in scaled


@pytest.mark.parametrize(("member", "options"), OPTIONS)
def test_options_are_the_same_by_kernels(member, options):
    assert_same(member(D, C, **options), *samples())


@pytest.mark.parametrize("batch", [1, BLOCK["ROWS"] + 2])
@pytest.mark.parametrize("classes", [2, BLOCK["CLASSES"], 2 * BLOCK["CLASSES"] + 1])
def test_blocks_need_not_be_full(batch, classes):
    assert_same(ArcFace(D, classes, label_smoothing=0.1), *samples(batch, classes))


def test_a_tile_need_not_have_all_classes(monkeypatch):
    monkeypatch.setattr("src.losses.head.WRITTEN", 9 * 70)  # the last tile has 20
    head = ArcFace(D, C, label_smoothing=0.1, tiling="triton")
    assert head.classes_at_a_time(9, C, "cuda") == 70
    assert_same(head, *samples())


def test_a_sample_of_the_classes_is_compared_by_kernels():
    assert_same(ArcFace(D, C, sample_rate=0.5), *samples(), tiling=7)


def test_targets_may_be_among_the_classes_of_another_process():
    torch.manual_seed(0)
    x, w, columns, each = torch.randn(4, D), torch.randn(C, D), torch.rand(C), torch.rand(C)
    targets, own = torch.tensor([0, -1, C, C - 1]), torch.randn(4)
    z = x @ w.T * columns
    others = z.clone()
    others[0, 0] = others[3, C - 1] = -torch.inf
    highest, sums, weighted = sums_of_others(x, w, columns, targets, each)
    torch.testing.assert_close(highest + sums.log(), others.logsumexp(1))
    torch.testing.assert_close(weighted, others.where(others.isfinite(), 0) @ each)
    slopes, rest = torch.empty(4, C + 5)[:, :C], torch.rand(4)
    write_slopes(slopes, x, w, columns, 2 * columns, each, targets, own, highest, rest)
    expected = (torch.exp(z - highest[:, None] - rest[:, None]) - each) * 2 * columns
    expected[0, 0], expected[3, C - 1] = own[0], own[3]
    torch.testing.assert_close(slopes, expected)


def test_vectors_without_a_direction_have_no_gradient():
    head, (x, y) = ArcFace(D, C), samples()
    x[0] = 0
    with torch.no_grad():
        head.weight[y[1]] = 0
    assert_same(head, x, y)


def test_single_precision_is_as_exact_as_with_all_logits():
    x, y = samples()
    head = ArcFace(D, C)
    exact = loss_and_gradients(head, "off", x, y)[2]
    single = loss_and_gradients(head.float(), "triton", x.float(), y)[2].double()
    assert (single - exact).norm() < 1e-6 * exact.norm()


@pytest.mark.parametrize(
    ("member", "options", "said"),
    [
        (CurricularFace, {}, "does more to other classes"),
        (ArcFace, {"inter_topk": 2}, "does more to other classes"),
        (SubCenterArcFace, {"centres": 2}, "does more to other classes"),
        (losses.UniFace, {}, "does more to other classes"),
        (ArcFace, {"learnable_scale": True}, "do not differentiate a learnable scale"),
    ],
)
def test_what_kernels_do_not_compute_is_refused(member, options, said):
    with pytest.raises(BadArgument, match=said) as error:
        member(D, C, tiling="triton", **options)
    assert error.value.argument == "tiling"


def test_without_a_gpu_it_says_so_before_training(tmp_path):
    from src.config import BadKey
    from src.run.build import build_run, check_config
    from src.run.folder import RunFolder

    torch.set_default_dtype(torch.float32)
    config = check_config(config_of("loss.tiling=triton", "device=cpu", "model=mlp"))
    with pytest.raises(
        BadKey, match=r"loss\.tiling=triton: runs on an NVIDIA GPU, not on cpu: use auto"
    ):
        build_run(config, RunFolder(tmp_path))


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from src.losses import kernels

KINDS = {"targets": "*i64", "batch": "i32", "count": "i32", "stride": "i32"}
VALUES = {"LOWEST": -3.4e38, "SIZE": 1024, "D": 512, "SMOOTHED": True, "PRECISION": "tf32"}
for capability in (80, 90):
    for kernel in (kernels._sums, kernels._slopes):
        names = kernel.arg_names
        values = {n: (VALUES | kernels.BLOCK)[n] for n in names if n.isupper()}
        kinds = {n: "constexpr" if n in values else KINDS.get(n, "*fp32") for n in names}
        source = ASTSource(kernel, kinds, {(names.index(n),): v for n, v in values.items()})
        made = triton.compile(source, GPUTarget("cuda", capability, 32), kernels.LAUNCH)
        print(capability, len(made.asm["cubin"]) > 1000, made.metadata.shared)
"""


def test_they_compile_for_gpus(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    made = [line.split() for line in done.stdout.splitlines()]
    assert [one[:2] for one in made] == [["80", "True"]] * 2 + [["90", "True"]] * 2
    assert all(int(one[2]) <= 163 * 1024 for one in made)  # the shared memory of an A100's block


ON_A_GPU = """
import copy, torch
from src.losses import ArcFace

torch.manual_seed(0)
exact = ArcFace(512, 10_007, label_smoothing=0.1).double().cuda()
x, y = torch.randn(257, 512).double().cuda(), torch.randint(10_007, (257,)).cuda()
for precision in ("highest", "high"):
    torch.set_float32_matmul_precision(precision)
    found = []
    for head, tiling in ((copy.deepcopy(exact), "off"), (copy.deepcopy(exact).float(), "triton")):
        head.tiling, given = tiling, x.to(head.weight.dtype).requires_grad_()
        loss = head(given, y)
        loss.backward()
        found.append([each.double() for each in (loss.detach(), given.grad, head.weight.grad)])
    errors = [float((ours - own).norm() / own.norm()) for own, ours in zip(*found)]
    print(max(errors))
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_they_are_as_exact_as_its_products():
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", ON_A_GPU], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    highest, high = map(float, done.stdout.split())
    assert highest < 1e-5 and high < 2e-2
