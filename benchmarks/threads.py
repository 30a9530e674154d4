"""How torch's threads wait for each other: a training step on all cores, alone and beside as many busy
processes as there are cores.

    python -m benchmarks.threads

Each setting is a process of its own, in turns; the best of the rounds. `commands` is what the command
lines set (GOMP_SPINCOUNT=1000), `default` what OpenMP does without it, and `passive` is
OMP_WAIT_POLICY=PASSIVE.
"""

import os
import subprocess
import sys
import time

SETTINGS = {
    "default": {},
    "commands": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}
ROUNDS, SECONDS, BATCH = 3, 3, 64
BUSY = "while True: pass"


def measure() -> None:
    """Print the images a second of small_cnn on 8×8 images."""
    import torch

    from src.datasets import Split
    from src.losses import ArcFace
    from src.models import build_backbone, small_cnn
    from src.training import Step, adam, build_optimizer, choose_device, constant_rate

    device = choose_device("cpu", None, "fp32")
    torch.manual_seed(0)
    backbone = build_backbone(small_cnn((1, 8, 8)), (1, 8, 8), 3)
    backbone = backbone.to(memory_format=torch.channels_last)
    head = ArcFace(3, 10, margin=0.5, scale=64.0)
    optimizer = build_optimizer(adam, backbone, head, lr=0.003, head_lr=None)
    schedule = constant_rate(optimizer, 1, 1)
    images = torch.randint(256, (BATCH, 1, 8, 8), dtype=torch.uint8)
    data = Split(images, torch.randint(10, (BATCH,)), [128.0], [64.0])
    step = Step(data, backbone, head, optimizer, schedule, device)
    batch = [(torch.arange(BATCH),)]
    for _ in range(5):
        step(batch)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        step(batch)
        steps += 1
    print(steps * BATCH / (time.perf_counter() - began))


def main() -> None:
    plain = {
        key: os.environ[key] for key in os.environ if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    cores = os.cpu_count()
    print(f"small_cnn, 8×8, batch {BATCH}, {cores} threads on {cores} cores, images/s")
    for neighbours in (0, cores):
        busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(neighbours)]
        best = dict.fromkeys(SETTINGS, 0.0)
        try:
            for _ in range(ROUNDS):
                for name, setting in SETTINGS.items():
                    command = [sys.executable, "-m", "benchmarks.threads", "measure"]
                    done = subprocess.run(command, env=plain | setting, capture_output=True, check=True)
                    best[name] = max(best[name], float(done.stdout))
        finally:
            for process in busy:
                process.kill()
        for name, speed in best.items():
            ratio = speed / best["default"]
            print(f"  beside {neighbours} busy processes, {name:8} {speed:7,.0f}   ratio {ratio:.2f}")


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["measure"] else main()
