"""A W&B server on loopback, for the real client: as much of its GraphQL, file stream and storage as a
run, an artifact and `wandb sync` need. It remembers what it was told and fails when a test wants it to.

    with Stub() as server:
        server.environment                       # what a process needs to find it, with a key
        server.fail(401) / .fail(500) / .fail("hang") / .fail("drop"), .fail(500, "file_stream"), .heal()
        server.die()                             # and refuse connections
        server.after_rows(1, 500)                # fail so once a row of history has come
        server.runs["abcd1234"].history          # the rows, as dicts, in the order they were written
"""

import base64
import contextlib
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

KEY = "0123456789abcdef" * 3
ENTITY = "tester"
SAID = {401: "user is not logged in", 403: "permission denied", 500: "the stub is out of order"}


@dataclass
class StubRun:
    """What a server knows of a run. `lines` are those of its history file, `exits` every exit code it
    was told."""

    name: str
    project: str = ""
    display_name: str = ""
    group: str | None = None
    job_type: str | None = None
    sweep: str | None = None
    tags: list[str] = field(default_factory=list)
    config: dict = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def history(self) -> list[dict]:
        return [json.loads(line) for line in self.lines]

    @property
    def epochs(self) -> list[int]:
        """The epochs it has rows of losses for, as often as it has them."""
        return [int(row["epoch"]) for row in self.history if "loss" in row]

    def value(self, key: str):
        return self.config[key]["value"]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address) -> None:
        """A client that goes away is no event."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Stub:
    def __init__(self):
        self.runs: dict[str, StubRun] = {}
        self.artifacts: dict[str, dict] = {}  # by id: what it was created from, its files, its state
        self.unknown: list[str] = []  # GraphQL operations that the stub has no answer to
        self.keys = {KEY}
        self.failing: dict[str, int | str] = {}  # by graphql, file_stream, storage
        self.turn: tuple[int, int | str] | None = None
        self.lock = threading.RLock()
        self.healed = threading.Event()  # what hangs waits for it
        handler = type("Bound", (Handler,), {"stub": self})
        self.server = Server(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "Stub":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.heal()
        self.die()

    def die(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}

    @property
    def rows(self) -> int:
        return sum(len(run.lines) for run in self.runs.values())

    def run_named(self, ending: str) -> StubRun:
        """The one run whose name as displayed ends so."""
        (found,) = [run for run in self.runs.values() if run.display_name.endswith(ending)]
        return found

    def fail(self, how: int | str, *where: str) -> None:
        """Answer with a status, "hang" without an answer, "drop" the connection, or "die"."""
        if how == "die":
            threading.Thread(target=self.die).start()  # not from a thread that answers
            how = "drop"
        self.healed.clear()
        self.failing = dict.fromkeys(where or ("graphql", "file_stream", "storage"), how)

    def after_rows(self, count: int, how: int | str) -> None:
        self.turn = count, how

    def heal(self) -> None:
        self.failing, self.turn = {}, None
        self.healed.set()

    # ------------------------------------------------------------------------------- what it is asked

    def answer(self, operation: str, given: dict) -> dict:
        answer = getattr(self, operation, None) if operation[:1].isupper() else None
        if not answer:
            self.unknown.append(operation)
            return {}
        return answer(given.get("input") or given)

    def Viewer(self, _):
        user = {"id": "user", "entity": ENTITY, "username": ENTITY, "email": "a@b.c", "flags": "{}"}
        return {"viewer": user | {"teams": {"edges": []}}}

    GetDefaultEntity = Viewer

    def ServerFeaturesQuery(self, _):
        return {"serverInfo": {"features": []}}

    def OrgFeatureFlags(self, _):
        return {"organization": None}

    def RunStoppedStatus(self, _):
        return {"project": {"run": {"stopped": False}}}

    def RunResumeStatus(self, given):
        run = self.runs.get(given["name"])
        bucket = run and {
            "id": f"id-{run.name}",
            "name": run.name,
            "displayName": run.display_name,
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.lines),
            "eventsLineCount": len(run.events),
            "logLineCount": 0,
            "historyTail": json.dumps(run.lines[-1:]),
            "eventsTail": json.dumps(run.events[-1:]),
            "config": json.dumps(run.config),
            "tags": run.tags,
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
        entity = {"id": ENTITY, "name": ENTITY}
        return {"model": {"id": "m", "name": given["project"], "entity": entity, "bucket": bucket}}

    def UpsertBucket(self, given):
        known = {run: f"id-{run}" for run in self.runs}
        name = given.get("name") or next(run for run, its in known.items() if its == given["id"])
        inserted = name not in self.runs
        run = self.runs.setdefault(name, StubRun(name))
        run.project = given.get("project") or run.project
        run.display_name = given.get("displayName") or run.display_name or name
        run.group = given.get("groupName") or run.group
        run.job_type = given.get("jobType") or run.job_type
        run.sweep = given.get("sweep") or run.sweep
        run.tags = given["tags"] if given.get("tags") is not None else run.tags
        run.config = json.loads(given["config"]) if given.get("config") else run.config
        project = {"id": "p", "name": run.project, "entity": {"id": ENTITY, "name": ENTITY}}
        bucket = {
            "id": f"id-{name}",
            "name": name,
            "displayName": run.display_name,
            "description": None,
            "config": json.dumps(run.config),
            "sweepName": run.sweep,
            "project": project,
            "historyLineCount": len(run.lines),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def CreateRunFiles(self, given):
        files = [
            {"name": name, "uploadUrl": f"{self.url}/storage/run/{given['run']}/{name}"}
            for name in given["files"]
        ]
        made = {"runID": f"id-{given['run']}", "uploadHeaders": [], "files": files}
        return {"createRunFiles": made}

    def Run(self, given):
        run = self.runs.get(given["name"])
        return {"project": {"run": run and self.described(run)}}

    def described(self, run: StubRun) -> dict:
        nothing = dict.fromkeys(("commit", "description", "notes", "heartbeatAt", "createdAt"))
        return nothing | {
            "id": f"id-{run.name}",
            "projectId": "1",
            "name": run.name,
            "displayName": run.display_name,
            "state": "finished" if run.exits else "running",
            "tags": run.tags,
            "config": json.dumps(run.config),
            "summaryMetrics": json.dumps(run.summary),
            "systemMetrics": "{}",
            "historyLineCount": len(run.lines),
            "sweepName": run.sweep,
            "group": run.group,
            "jobType": run.job_type,
            "readOnly": False,
            "user": {"name": ENTITY, "username": ENTITY},
        }

    def RunHistoryKeys(self, given):
        last = max((row.get("_step", 0) for row in self.runs[given["name"]].history), default=-1)
        return {"project": {"run": {"historyKeys": {"lastStep": last}}}}

    def RunFiles(self, given):
        names = sorted(self.runs[given["name"]].files)
        fields = dict.fromkeys(("id", "url", "sizeBytes", "mimetype", "updatedAt", "md5", "directUrl"))
        edges = [{"node": fields | {"name": name}, "cursor": name} for name in names]
        files = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "run": {"fileCount": len(names), "files": files}}}

    def MarkRunFilesUploaded(self, _):
        return {"markRunFilesUploaded": {"success": True}}

    def ClientIDMapping(self, given):
        return {"clientIDMapping": {"serverID": given["clientID"]}}

    def ArtifactType(self, _):
        return {"project": None}  # none of that name yet

    def CreateArtifact(self, given):
        artifact = f"artifact-{len(self.artifacts)}"
        self.artifacts[artifact] = given | {"files": {}, "state": "PENDING"}
        latest = {"latestArtifact": None}
        made = {"id": artifact, "state": "PENDING", "artifactSequence": latest}
        return {"createArtifact": {"artifact": made}}

    def CreateArtifactManifest(self, given):
        url = f"{self.url}/storage/artifact/{given['artifactID']}/{given['name']}"
        file = {"id": "f", "uploadUrl": url, "uploadHeaders": []}
        manifest = {"id": f"manifest-{given['artifactID']}", "file": file}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def CreateArtifactFiles(self, given):
        nodes = [
            {
                "storagePath": f"wandb_artifacts/{file['name']}",
                "uploadUrl": f"{self.url}/storage/artifact/{file['artifactID']}/{file['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            for file in given["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def CommitArtifact(self, given):
        artifact = self.artifacts[given["artifactID"]]
        artifact["state"] = "COMMITTED"
        done = {"id": given["artifactID"], "digest": artifact["digest"]}
        return {"commitArtifact": {"artifact": done}}

    def stream(self, name: str, said: dict) -> None:
        """A request to a run's file stream: lines of its files at offsets, and perhaps its end."""
        run = self.runs.setdefault(name, StubRun(name))
        for file, chunk in (said.get("files") or {}).items():
            if file == "wandb-summary.json":
                for line in chunk["content"]:
                    run.summary = json.loads(line)
                continue
            target = {"wandb-history.jsonl": run.lines, "wandb-events.jsonl": run.events}.get(file)
            if target is not None:
                at = chunk["offset"]
                target[at : at + len(chunk["content"])] = chunk["content"]
        if said.get("complete"):
            run.exits.append(said["exitcode"])
        if self.turn and self.rows >= self.turn[0]:
            (_, how), self.turn = self.turn, None
            self.fail(how)

    def store(self, kind: str, owner: str, name: str, content: bytes) -> None:
        if kind == "run":
            self.runs[owner].files[name] = content
        else:
            self.artifacts[owner]["files"][name] = content


class Handler(BaseHTTPRequestHandler):
    stub: Stub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def fails(self, where: str) -> bool:
        """Whether the stub is to fail here; it then has."""
        how = self.stub.failing.get(where)
        if how == "hang":
            self.stub.healed.wait()
            how = "drop"
        if how == "drop":
            self.close_connection = True
            return True
        if how:
            self.reply({"error": SAID[how], "errors": [{"message": SAID[how]}]}, how)
        return bool(how)

    def reply(self, content: dict, status: int = 200) -> None:
        body = json.dumps(content).encode()
        with contextlib.suppress(OSError):  # the client has gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def key_is_known(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        return base64.b64decode(given).decode().partition(":")[2] in self.stub.keys

    def do_POST(self) -> None:
        body, stub = self.body(), self.stub
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
        if self.fails("file_stream" if stream else "graphql"):
            return
        if not self.key_is_known():
            self.reply({"errors": [{"message": SAID[401]}]}, 401)
            return
        said = json.loads(body)
        with stub.lock:
            if stream:
                stub.stream(unquote(stream[1]), said)
                self.reply({})
                return
            operation = re.search(r"(?:query|mutation)\s+(\w+)", said["query"])[1]
            answer = stub.answer(operation, said.get("variables") or {})
        self.reply({"data": answer})

    def do_PUT(self) -> None:
        body = self.body()
        if self.fails("storage"):
            return
        _, _, kind, owner, name = unquote(self.path).split("/", 4)
        with self.stub.lock:
            self.stub.store(kind, owner, name, body)
        self.reply({})
