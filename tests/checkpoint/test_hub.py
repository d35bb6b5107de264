"""The hub through the real huggingface_hub client: a server of our own, an unreachable one, and offline.

huggingface_hub reads its environment when it is imported, so every test runs its reads in a fresh interpreter.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import COMMIT, serve
from safetensors.torch import save

READ = """
import json, sys, time
from streamcodec.checkpoint import read
results = []
for source, revision in json.loads(sys.argv[1]):
    start = time.perf_counter()
    try:
        checkpoint = read(source, revision=revision)
    except Exception as error:
        result = {"error": type(error).__name__, "message": str(error)}
    else:
        tensors = {name: tensor.tolist() for name, tensor in checkpoint.tensors.items()}
        result = {"config": checkpoint.config, "tensors": tensors, "name": checkpoint.name}
    results.append(result | {"seconds": time.perf_counter() - start})
print(json.dumps(results))
"""

CONFIG = {"model_type": "encodec", "x": 1}
FILES = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": save({"a": torch.ones(2)})}
EXPECTED = {"config": CONFIG, "tensors": {"a": [1.0, 1.0]}}
INDEX = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
SHARDED = {
    "config.json": FILES["config.json"],
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    "model-1.safetensors": save({"a": torch.ones(1)}),
    "model-2.safetensors": save({"b": torch.zeros(1)}),
}


def read_all(cache: Path, sources: list[tuple[str, str | None]], **environment: str) -> list[dict[str, Any]]:
    """`read` of each (source, revision) in a new interpreter with an empty directory as its working directory."""
    empty = cache.parent / "empty"
    empty.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env = clean | {"HF_HOME": str(cache.parent / "home"), "HF_HUB_CACHE": str(cache)} | environment
    env["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    command = [sys.executable, "-c", READ, json.dumps(sources)]
    done = subprocess.run(command, env=env, cwd=empty, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return results


def populate(cache: Path, repo: str, files: dict[str, bytes]) -> None:
    """Lay `files` out as huggingface_hub's cache does."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    for name, content in files.items():
        (folder / "snapshots" / COMMIT / name).write_bytes(content)


def is_expected(result: dict[str, Any]) -> bool:
    return EXPECTED.items() <= result.items()


def test_offline_reads_the_cache_alone(tmp_path: Path) -> None:
    populate(tmp_path / "cache", "facebook/encodec_24khz", FILES)
    populate(tmp_path / "cache", "some/sharded", SHARDED)
    populate(tmp_path / "cache", "some/half", {"config.json": FILES["config.json"]})
    sources = ["encodec_24khz", "facebook/encodec_24khz", "some/sharded", "some/half", "encodec_48khz"]
    by_alias, by_id, sharded, half, absent = read_all(
        tmp_path / "cache", [(source, None) for source in sources], HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9"
    )
    assert is_expected(by_alias)
    assert is_expected(by_id)
    assert by_alias["name"] == by_id["name"] == "encodec_24khz"
    assert sharded["tensors"] == {"a": [1.0], "b": [0.0]}
    for result, repo in ((half, "some/half"), (absent, "facebook/encodec_48khz")):
        assert result["error"] == "HubError"
        assert "HF_HUB_OFFLINE is set" in result["message"]
        assert repo in result["message"]


def test_an_unreachable_hub_fails_fast_and_says_how_to_work_offline(tmp_path: Path) -> None:
    populate(tmp_path / "cache", "some/cached", FILES)
    populate(tmp_path / "cache", "some/half", {"config.json": FILES["config.json"]})
    sources: list[tuple[str, str | None]] = [("some/cached", None), ("encodec_24khz", None), ("some/half", None)]
    cached, *others = read_all(tmp_path / "cache", sources, HF_ENDPOINT="http://127.0.0.1:9")
    assert is_expected(cached)
    for result in others:
        assert result["error"] == "HubError"
        assert "cannot be reached" in result["message"]
        assert "HF_HUB_OFFLINE=1" in result["message"]
        assert "put config.json and model.safetensors in a directory" in result["message"]
        assert result["seconds"] < 10


@pytest.mark.slow
def test_downloads_and_refusals(tmp_path: Path) -> None:
    repositories = {
        "some/codec": FILES | {"preprocessor_config.json": b"{}", "pytorch_model.bin": b"never fetched"},
        "some/sharded": SHARDED,
        "some/torn": {name: content for name, content in SHARDED.items() if name != "model-2.safetensors"},
        "some/unconfigured": {"model.safetensors": FILES["model.safetensors"]},
        "some/weightless": {"config.json": FILES["config.json"]},
    }
    sources: list[tuple[str, str | None]] = [
        ("some/codec", None),
        ("some/codec", COMMIT),
        ("some/sharded", None),
        ("some/codec", "v9"),
        *[(f"some/{name}", None) for name in ("torn", "unconfigured", "weightless", "absent")],
        ("gated/codec", None),
        ("private/codec", None),
        ("not--an/id", None),
    ]
    with serve(repositories) as hub:
        results = read_all(tmp_path / "cache", sources, HF_ENDPOINT=hub.endpoint)
    first, at_commit, sharded, *refused = results
    assert is_expected(first)
    assert is_expected(at_commit)
    assert sharded["tensors"] == {"a": [1.0], "b": [0.0]}
    expected = [
        ("HubError", "no revision 'v9'"),
        ("HubError", "model-2.safetensors"),
        ("HubError", "no config.json"),
        ("HubError", "none of model.safetensors"),
        ("HubError", "no some/absent on the hub"),
        ("HubError", "gated: accept its terms at https://huggingface.co/gated/codec"),
        ("HubError", "private and you are not logged in"),
        ("UnknownCodecError", "no hub id"),
    ]
    for result, (error, message) in zip(refused, expected, strict=True):
        assert result["error"] == error
        assert message in result["message"]
    fetched = {path.rsplit("/", 1)[1] for method, path in hub.requests if method == "GET" and "some/codec" in path}
    assert fetched == {"config.json", "model.safetensors"}
    # Weights are asked for at the commit that the configuration came from, whatever main is by then.
    assert {path.split("/")[4] for _, path in hub.requests if path.endswith("model.safetensors")} == {COMMIT}
    # What was downloaded is there without a network, by its name and by its commit.
    for again in read_all(tmp_path / "cache", sources[:2], HF_HUB_OFFLINE="1"):
        assert is_expected(again)
