"""Uploading what W&B's server lacks: `wandb sync`, without the rows that had arrived before.

`wandb sync` sends the whole of a .wandb file, after whatever rows the server has. Of a run that was
online until its server failed, or until it was killed, the server has the first epochs already.
"""

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError
from .settings import own_settings, why_not_online

HEADER = 7  # bytes before the first block of a .wandb file, which is a log as LevelDB writes it
BLOCK = 32768
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4  # parts of a record, which may span blocks
STEP = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) { historyLineCount historyTail }
  }
}"""


def upload(folders: list[Path]) -> int:
    """Upload everything below `folders` that is not marked as uploaded; how many runs that were. Raises
    UserError if W&B cannot be reached."""
    files = sorted(
        path for folder in folders for path in folder.rglob("run-*.wandb") if not marker(path).exists()
    )
    if not files:
        return 0
    why = why_not_online()
    if why:
        raise UserError(f"nothing was uploaded: {why}")
    left = {path: without_known_rows(path) for path in files}
    try:
        command = [sys.executable, "-m", "wandb", "sync", "--yes", "--include-online"]
        subprocess.run([*command, *map(str, left.values())])
    finally:
        for path, sent in left.items():
            settle(path, sent)
    failed = [path for path in files if not marker(path).exists()]
    if failed:
        raise UserError(f"{len(failed)} of {len(files)} runs were not uploaded, the first {failed[0]}")
    return len(files)


def marker(path: Path) -> Path:
    """Where `wandb sync` says that it has uploaded a file."""
    return path.with_suffix(".wandb.synced")


def settle(path: Path, sent: Path) -> None:
    """Mark a file as uploaded if the one that was sent in its place is, which then goes."""
    if sent == path:
        return
    if marker(sent).exists():
        marker(path).touch()
    for leftover in sent.parent.glob(f"{sent.name}*"):
        leftover.unlink()


def without_known_rows(path: Path) -> Path:
    """A file beside `path` without the history that the server has, or `path` if it has none."""
    from wandb.proto.wandb_internal_pb2 import Record

    kept, known, asked = [], 0, False
    for data in records(path):
        record = Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run" and not asked:
            known, asked = steps_known(record.run), True
        if kind != "history" or step_of(record.history) >= known:
            kept.append(data)
    if not known:
        return path
    sent = path.with_name(f"rest-{path.name}")
    write_records(sent, path.read_bytes()[:HEADER], kept)
    return sent


def step_of(history) -> int:
    for item in history.item:
        if (item.key or "/".join(item.nested_key)) == "_step":
            return json.loads(item.value_json)
    return history.step.num


def steps_known(run) -> int:
    """The step from which on the server lacks a run's history; 0 if it does not know the run."""
    from wandb.apis.public.service_api import ServiceApi

    api = ServiceApi(settings=own_settings(), timeout=60)
    asked = {"project": run.project, "entity": run.entity or None, "name": run.run_id}
    answer = api.execute_graphql(STEP, asked, parse=json.loads)
    bucket = (answer.get("model") or {}).get("bucket") or {}
    tail = json.loads(bucket.get("historyTail") or "[]")
    if not bucket.get("historyLineCount") or not tail:
        return 0
    return int(json.loads(tail[-1])["_step"]) + 1


def records(path: Path) -> Iterator[bytes]:
    """The whole records of a .wandb file; what a kill tore off at its end is left out."""
    data = path.read_bytes()
    at, parts = HEADER, b""
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:  # a block's padding
            at += left
            continue
        check, length, kind = struct.unpack("<IHB", data[at : at + 7])
        body = data[at + 7 : at + 7 + length]
        if len(body) < length or zlib.crc32(bytes([kind]) + body) != check:
            return
        parts = body if kind in (WHOLE, FIRST) else parts + body
        at += 7 + length
        if kind in (WHOLE, LAST):
            yield parts


def write_records(path: Path, header: bytes, bodies: list[bytes]) -> None:
    out = bytearray(header)
    for body in bodies:
        first = True
        while True:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += bytes(left)
                continue
            part, body = body[: left - 7], body[left - 7 :]
            kind = (WHOLE if not body else FIRST) if first else (LAST if not body else MIDDLE)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
            if not body:
                break
    path.write_bytes(out)
