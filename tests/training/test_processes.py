"""Several processes take the steps that one would: gloo on a processor, in float64."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from src import losses
from src.train import main
from src.training import (
    Device,
    Step,
    adam,
    build_optimizer,
    constant_rate,
    processes,
    sgd,
)
from tests.conftest import ROOT, summary_of

CPU = Device(torch.device("cpu"), None, 1)
BATCH, DIMENSION = 10, 6
HEADS = {
    "arcface": lambda c: losses.ArcFace(DIMENSION, c, label_smoothing=0.1, learnable_scale=True),
    "cosface": lambda c: losses.CosFace(DIMENSION, c, dynamic_scale=True),
    "weighted": lambda c: losses.CosFace(DIMENSION, c, class_weights=[1.0 + i % 3 for i in range(c)]),
    "curricularface": lambda c: losses.CurricularFace(DIMENSION, c),
    "adaface": lambda c: losses.AdaFace(DIMENSION, c),
    "elasticface": lambda c: losses.ElasticFace(DIMENSION, c),
    "kappaface": lambda c: losses.KappaFace(DIMENSION, c, first_samples=20),
    "detached": lambda c: losses.SphereFaceR(DIMENSION, c),
    "mv": lambda c: losses.MVSoftmax(DIMENSION, c, kind="arc"),
    "sampled": lambda c: losses.ArcFace(DIMENSION, c, sample_rate=0.5),
}


class Batches:
    """The same images in every process, of which each takes its share."""

    def __init__(self, classes: int, steps: int):
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randn(steps, BATCH, 4, generator=generator, dtype=torch.float64)
        self.labels = torch.randint(classes, (steps, BATCH), generator=generator)

    def prepare(self, step: int):
        own = processes.share(BATCH)
        return self.images[step, own], self.labels[step, own]


def train(name: str, classes: int, steps: int, in_parts: bool, optimizer: str = "adam"):
    """Losses (steps,), and the weights of the head and the backbone."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, DIMENSION))
    head = HEADS[name](classes)
    if in_parts:
        own = processes.share(classes)
        head.keep_classes(own.start, own.stop)
    built = build_optimizer({"adam": adam, "sgd": sgd}[optimizer], backbone, head, lr=0.01)
    schedule = constant_rate(built, steps, 1)
    options = {"clip_norm": 1.0, "batch_size": BATCH}
    step = Step(Batches(classes, steps), backbone, head, built, schedule, CPU, **options)
    step.train_mode()
    found = [step([(number,)]) for number in range(steps)]
    weight = head.weight.detach()
    if in_parts:
        weight = processes.gathered_rows(weight, classes)
    return torch.stack(found), weight, backbone[0].weight.detach(), backbone[1].running_var


def work(rank: int, count: int, port: int, folder, cases) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": f"{rank}", "WORLD_SIZE": f"{count}"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    processes.connect(on_gpu=False)
    found = {case: train(*case) for case in cases}
    torch.save(found, folder / f"{rank}.pt")
    processes.disconnect()


def trained_by(count: int, folder, cases) -> list[dict]:
    """What each of so many processes found."""
    arguments = (count, free_port(), folder, cases)
    torch.multiprocessing.spawn(work, arguments, nprocs=count)
    return [torch.load(folder / f"{rank}.pt") for rank in range(count)]


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def in_float64():
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_take_the_steps_of_one(count, tmp_path, in_float64):
    exact = [name for name in HEADS if name != "sampled"]  # a sample is one of each process's classes
    cases = [(name, 23, 8, in_parts) for name in exact for in_parts in (False, True)]
    every = trained_by(count, tmp_path, cases)
    for name, classes, steps, in_parts in cases:
        alone = train(name, classes, steps, False)
        for found in every:
            torch.testing.assert_close(
                found[name, classes, steps, in_parts],
                alone,
                rtol=1e-8,
                atol=1e-10,
                msg=f"{name} {in_parts}",
            )


def test_sampled_classes_in_parts_are_the_same_in_all_processes(tmp_path, in_float64):
    cases = [("sampled", 23, 8, False), ("sampled", 23, 8, True)]
    first, second = trained_by(2, tmp_path, cases)
    for case in cases:
        torch.testing.assert_close(first[case], second[case], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 4])
def test_many_classes_in_parts_after_fifty_steps(count, tmp_path, in_float64):
    case = ("arcface", 100_003, 50, True, "sgd")
    alone = train("arcface", 100_003, 50, False, "sgd")
    for found in trained_by(count, tmp_path, [case]):
        torch.testing.assert_close(found[case], alone, rtol=1e-6, atol=1e-9)


def test_a_process_alone_has_everything():
    assert processes.count() == 1 and processes.share(7) == slice(0, 7)
    order, size = processes.shares(torch.arange(12), 4)
    assert order.tolist() == list(range(12)) and size == 4
    assert processes.told("this") == "this" and processes.all_agree(True)


# Runs, as they are typed.

SHORT = (
    *("dataset=synthetic", "dataset.classes=33", "dataset.per_class=12", "evaluation=open_set"),
    *("model=linear", "model.embedding_dim=8", "neck.norm=true", "loss=arcface", "loss.tiling=8"),
    *("scale.value=8", "optimizer.lr=0.01"),
    *("batch_size=32", "logger=csv", "device.threads=1", "plots.figures=false", "optimizer=sgd"),
)


def start(count: int, *overrides: str) -> list[subprocess.Popen]:
    """So many processes of one run, without torchrun."""
    port = free_port()
    started = []
    for rank in range(count):
        which = {"RANK": f"{rank}", "WORLD_SIZE": f"{count}", "MASTER_PORT": f"{port}"}
        environment = os.environ | which | {"MASTER_ADDR": "127.0.0.1"}
        command = [sys.executable, "-m", "src.train", *SHORT, *overrides]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipe))
    return started


def weights(folder) -> dict[str, torch.Tensor]:
    saved = torch.load(folder / "checkpoint.pt")
    state = {f"{i} {k}": v for i, s in saved["optimizer"]["state"].items() for k, v in s.items()}
    return saved["head"] | saved["backbone"] | state


def test_torchrun_trains_what_one_process_would(tmp_path):
    several, alone = tmp_path / "several", tmp_path / "alone"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "src.train", *SHORT, "epochs=2", "device.class_parallel=true"]
    subprocess.run([*command, f"hydra.run.dir={several}"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "src.train", *SHORT, "epochs=2", f"hydra.run.dir={alone}"]
    subprocess.run(command, cwd=ROOT, check=True)
    torch.testing.assert_close(weights(several), weights(alone), rtol=1e-3, atol=1e-4)
    assert sorted(p.name for p in several.iterdir()) == sorted(p.name for p in alone.iterdir())


def test_processes_that_cannot_find_each_other_end_in_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("sys.argv", ["train"])
    with pytest.raises(SystemExit, match="WORLD_SIZE=2: RANK, MASTER_ADDR, MASTER_PORT must be set too"):
        main()


@pytest.mark.parametrize("in_parts", [pytest.param("false", marks=pytest.mark.slow), "true"])
def test_a_process_that_dies_ends_the_run_which_goes_on_with_another_number(tmp_path, in_parts):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = (f"device.class_parallel={in_parts}", "epochs=12")
    started = start(3, *options, f"hydra.run.dir={cut}")
    while not (cut / "metrics.csv").exists():
        time.sleep(0.01)
        assert started[0].poll() is None, started[0].communicate()[0]
    started[2].send_signal(signal.SIGKILL)
    started[2].wait()
    said = [process.communicate(timeout=600)[0] for process in started[:2]]
    assert all(process.returncode for process in started)  # gloo may abort where Python would end with 1
    assert "process 2 of 3 has ended" in said[0]
    assert "process 2 of 3" in summary_of(cut)["error"]
    for process in start(2, *options, f"hydra.run.dir={cut}") + start(
        1, "epochs=12", f"hydra.run.dir={whole}"
    ):
        assert not process.wait(), process.communicate()[0]
    assert summary_of(cut)["resumed_after_epoch"] > 0
    np.testing.assert_allclose(weights(cut)["weight"], weights(whole)["weight"], rtol=1e-3, atol=1e-4)


def test_a_finished_run_and_a_refused_one_end_all_processes(tmp_path):
    done = ("epochs=1", f"hydra.run.dir={tmp_path / 'run'}")
    for process in start(1, *done):
        assert not process.wait(), process.communicate()[0]
    said = [process.communicate(timeout=600)[0] for process in start(2, *done)]
    assert "finished already" in said[0] and not said[1]
    refused = start(2, "batch_size=1", "neck.norm=false", f"hydra.run.dir={tmp_path / 'refused'}")
    said = [process.communicate(timeout=600)[0] for process in refused]
    assert "batch_size=1: 2 processes share it" in said[0] and not said[1]
    assert not (tmp_path / "refused").exists()


def test_sampled_classes_are_those_of_one_process(tmp_path):
    found = []
    for count in (1, 2):
        folder = tmp_path / f"{count}"
        options = ("loss.sample_rate=0.3", "batch_size=8", "epochs=1", f"hydra.run.dir={folder}")
        for process in start(count, *options):
            assert not process.wait(), process.communicate()[0]
        found.append(weights(folder)["weight"])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_batchnorm_is_over_the_whole_batch_in_bf16_too(tmp_path):
    found = []
    for count in (1, 2):
        folder = tmp_path / f"{count}"
        options = ("device.precision=bf16", "epochs=1", f"hydra.run.dir={folder}")
        for process in start(count, *options):
            assert not process.wait(), process.communicate()[0]
        found.append(weights(folder))
    for name in ("2.running_mean", "2.running_var", "weight"):
        several, alone = found[1][name], found[0][name]
        assert (several - alone).norm() < 0.05 * alone.norm(), name


def test_what_several_processes_cannot_do_is_refused(composed, tmp_path, monkeypatch):
    from src.config import BadKey
    from src.run.build import check_step

    config = composed(*SHORT, "device.class_parallel=true")
    head = losses.ArcFace(4, 10)
    with pytest.raises(BadKey, match="class_parallel=true: needs several processes"):
        check_step(config, head)
    monkeypatch.setattr(processes, "count", lambda: 2)
    check_step(config, head)
    for other, why in (
        (losses.SubCenterArcFace(4, 10), "loss=arcface, as it is, needs all classes in one process"),
        (losses.Softmax(4, 10), "needs all classes in one process"),
    ):
        with pytest.raises(BadKey, match=why):
            check_step(config, other)
    with pytest.raises(BadKey, match="2 processes share 1 classes"):
        check_step(config, losses.ArcFace(4, 1))
    with_adam = [each for each in SHORT if each != "optimizer=sgd"]
    adafactor = composed(*with_adam, "device.class_parallel=true")
    adafactor = adafactor.replace(optimizer={"target": "torch.optim.Adafactor"})
    with pytest.raises(BadKey, match="Adafactor: keeps more of a matrix than a number for each weight"):
        check_step(adafactor, head)
    with pytest.raises(BadKey, match=r"not with ema\.decay=0\.9"):
        check_step(config.replace(ema={"decay": 0.9}), head)
    with pytest.raises(BadKey, match=r"batch_size=1: 2 processes share it"):
        check_step(config.replace(batch_size=1), head)
