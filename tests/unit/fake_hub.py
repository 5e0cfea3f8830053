"""A hub on loopback, with the few answers that a download needs; and base models of a few bytes to put on it."""

import hashlib
import json
import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import numpy as np
import safetensors.numpy

from lvjobs.forecasting.models import TINY_DIRECTORY

SHAPE = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 18,
    "hidden_act": "silu",
}


def make_model(directory, *, template=True, shards=1, merges=()):
    """A model's files, with `tiny`'s tokenizer: enough for all that is checked without torch."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(SHAPE))
    weights = {f"layer.{index}.weight": np.full((2, 3), index, dtype="f4") for index in range(4)}
    if shards == 1:
        safetensors.numpy.save_file(weights, directory / "model.safetensors")
    else:
        names = {key: f"model-{index % shards:05d}.safetensors" for index, key in enumerate(weights)}
        for name in set(names.values()):
            part = {key: weights[key] for key in weights if names[key] == name}
            safetensors.numpy.save_file(part, directory / name)
        (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    shutil.copy(TINY_DIRECTORY / "tokenizer.json", directory)
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    if merges:  # nothing that would keep digits apart before they can be merged
        tokenizer["pre_tokenizer"] = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        }
    for pair in merges:
        tokenizer["model"]["vocab"]["".join(pair)] = len(tokenizer["model"]["vocab"])
        tokenizer["model"]["merges"].append(list(pair))
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ x }}"} if template else {}))
    return directory


def put_in_cache(cache, hub_id, model):
    """A model's files in a cache, as a download leaves them."""
    home = cache / f"models--{hub_id.replace('/', '--')}"
    commit = "0" * 40
    shutil.copytree(model, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    return home / "snapshots" / commit


def commit_of(directory):
    """A commit's name: another one for another set of files."""
    names = sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
    return hashlib.sha1(repr(names).encode()).hexdigest()


@contextmanager
def serve(models, *, refused=()):
    """Serve {hub id: directory}; yields the URL and a list of what was downloaded. `refused` ids are gated."""
    fetched = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def answer(self, status, body=b"", **headers):
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self):
            path = unquote(self.path.partition("?")[0]).strip("/")
            is_api = path.startswith("api/models/")
            path = path.removeprefix("api/models/")
            hub_id, rest = "/".join(path.split("/")[:2]), path.split("/")[2:]
            if hub_id in refused:
                self.answer(403, b"{}", X_Error_Code="GatedRepo")
            elif hub_id not in models:
                self.answer(404, b"{}", X_Error_Code="RepoNotFound")
            elif is_api:
                self.answer(200, json.dumps(self.listing(hub_id, rest)).encode(), Content_Type="application/json")
            else:
                self.file(models[hub_id], "/".join(rest[2:]))

        do_HEAD = do_GET  # noqa: N815

        def listing(self, hub_id, rest):
            files = sorted(path for path in models[hub_id].rglob("*") if path.is_file())
            names = [str(path.relative_to(models[hub_id])) for path in files]
            if rest[:1] == ["tree"]:
                sizes = [path.stat().st_size for path in files]
                return [
                    {"type": "file", "path": name, "size": size, "oid": "0" * 40}
                    for name, size in zip(names, sizes, strict=True)
                ]
            return {"id": hub_id, "sha": commit_of(models[hub_id]), "siblings": [{"rfilename": name} for name in names]}

        def file(self, directory, name):
            path = directory / name
            if not path.is_file():
                self.answer(404, X_Error_Code="EntryNotFound")
                return
            body = path.read_bytes()
            if self.command == "GET":
                fetched.append(path.name)
            self.answer(200, body, ETag=f'"{hashlib.sha256(body).hexdigest()}"', X_Repo_Commit=commit_of(directory))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", fetched
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
