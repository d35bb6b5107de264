"""`streamcodec serve` as a command: what it needs, where it listens, and whom it lets in."""

import asyncio
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from streamcodec_kernels.native.compiler import compiler, ready

import streamcodec
from streamcodec.checkpoint import save
from streamcodec.cli import main
from streamcodec.errors import InputError
from streamcodec.server.config import LIMIT, Config, limits_of


def run(code, *arguments):
    """A Python of its own, in which modules can be missing."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def without(*modules):
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in modules)
    return f"import sys\n{blocked}from streamcodec.cli import main\nsys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("missing", [("websockets",), ("h11",), ("websockets", "prometheus_client")])
def test_what_is_missing_is_named_with_the_extra_that_has_it(missing):
    done = run(without(*missing), "serve", "--port", "0")
    assert done.returncode == 2
    assert all(name in done.stderr for name in missing)
    assert "pip install '.[server]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(without(*missing), "serve", "--help").returncode == 0


def test_the_loop_is_uvloops_only_where_there_is_one():
    pytest.importorskip("websockets", reason="the extra `server` is not installed")
    pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")
    code = (
        "import sys\nsys.modules['uvloop'] = None\nimport asyncio\nfrom streamcodec.server.start import run_loop\n"
        "async def main():\n    print(type(asyncio.get_running_loop()).__module__)\nrun_loop(main())"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("asyncio.")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "gpu"], "device 'gpu' cannot be used here"),
        (["--codec", "no_such_codec"], "unknown codec 'no_such_codec'"),
        (["--codec", "small="], "empty"),
        (["--codec", "=streamcodec_24khz"], "a name before the ="),
        (["--codec", ""], "empty"),
        (["--codec", "streamcodec_24khz", "--codec", "streamcodec_24khz"], "two codecs have the name"),
        (["--port", "70000"], "--port is 70000; it must be 0 to 65535"),
        (["--port", "-1"], "--port is -1"),
        (["--limit", "drain-seconds=inf"], "--limit drain-seconds is inf; it must be above 0, and finite"),
        (["--limit", "retry-seconds=nan"], "--limit retry-seconds is nan"),
        (["--limit", "slots=-3"], "--limit slots is -3; it must be above 0"),
        (["--limit", "slots=3.5"], "'3.5' is not a whole number"),
        (["--limit", "slots"], "--limit slots: it must be NAME=VALUE"),
        (["--limit", "port=1"], "with one of these names: acknowledge-every, burst, connections"),
        (["--key-file", "."], "--key-file . cannot be read"),
        (["--tls-certificate", "."], "--tls-certificate . with --tls-key . cannot be used"),
        (["--tls-directory", "x"], "--tls-self-signed"),
        (["--engines", "0"], "--engines is 0; it must be above 0"),
    ],
)
def test_what_keeps_the_server_from_starting_is_a_sentence(options, said, capfd):
    pytest.importorskip("websockets", reason="the extra `server` is not installed")
    pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")
    assert main(["serve", *options]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    assert err.startswith("streamcodec: error: ")
    assert said in err


@pytest.mark.parametrize("host", [70 * "a" + ".x", "nowhere.invalid", "203.0.113.9"])
def test_an_address_that_cannot_be_had_is_a_sentence(host):
    talk = pytest.importorskip("talk")

    async def run():
        with pytest.raises(InputError, match=f"cannot listen at {host} port 0"):
            async with talk.served(host=host, no_key=True):
                pass

    asyncio.run(run())


def test_every_option_that_the_documentation_names_is_there():
    text = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
    named = set(re.findall(r"--[a-z][a-z-]+", text))
    fields = [field for field in dataclasses.fields(Config) if field.metadata["group"] != LIMIT]
    options = {"--limit", *("--" + field.name.replace("_", "-") for field in fields)}
    assert named - options == {"--ca"}  # of `connect`
    assert {"--log-format", "--tls-self-signed", "--tls-directory"} <= named


def test_the_codec_of_the_package_is_offered_beside_another(tmp_path):
    start = pytest.importorskip("streamcodec.server.start")
    talk = pytest.importorskip("talk")
    save(talk.small_codec(), tmp_path / "small")
    for entries, names in [
        ((), ["streamcodec_24khz"]),
        (("streamcodec_24khz", str(tmp_path / "small")), ["streamcodec_24khz", "small"]),
        ((f"other={tmp_path / 'small'}", "own=streamcodec_24khz"), ["other", "own"]),
    ]:
        codecs = start.load_codecs(Config(codec=entries))
        assert list(codecs) == names
        own = codecs.get("streamcodec_24khz") or codecs["own"]
        assert own.fingerprint == streamcodec.load().fingerprint


def test_codecs_decode_in_the_precision_that_is_asked_for():
    start = pytest.importorskip("streamcodec.server.start")
    if not (ready() or compiler()):
        pytest.skip("nothing can compile the native executor here")
    codec = start.load_codecs(Config(backend="native", precision="int8"))["streamcodec_24khz"]
    assert (codec.served_by()["encoder"], codec.served_by()["decoder"]) == ("native", "native in int8")


def test_strangers_are_let_in_only_by_name():
    assert Config().host == "127.0.0.1"
    for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost"):
        Config(host=host)
    for host in ("0.0.0.0", "::", "", "192.168.1.5", "example.org", "127.0.0.1.example.org", "localhost.example.org"):
        with pytest.raises(InputError, match=r"--key-file.*--no-key"):
            Config(host=host)
        Config(host=host, no_key=True)
        Config(host=host, key_file="key")


def test_a_command_that_would_let_strangers_in_does_not_start():
    pytest.importorskip("websockets", reason="the extra `server` is not installed")
    pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")
    done = run(without(), "serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "--key-file" in done.stderr


@pytest.mark.parametrize("text", ["short", "with a space in its middle", "k" * 513, "schlüssel-schlüssel", ""])
def test_a_key_that_is_none_is_explained(tmp_path, text):
    auth = pytest.importorskip("streamcodec.server.auth")
    (tmp_path / "key").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="--key-file"):
        auth.AccessPolicy.from_file(str(tmp_path / "key"), ())
    with pytest.raises(InputError, match="--key-file"):
        auth.AccessPolicy.from_file(str(tmp_path / "nowhere"), ())


def test_keys_are_compared_in_constant_time(monkeypatch):
    """All that was shown is compared, also after one that fits, by the comparison made for that."""
    auth = pytest.importorskip("streamcodec.server.auth")
    seen = []
    compare = auth.hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda *pair: seen.append(pair) or compare(*pair))
    key = "a-key-of-the-operator"
    policy = auth.AccessPolicy(key, ())
    assert policy.admits(key, None)
    assert policy.admits("wrong", key)
    assert not policy.admits(key[:-1], key + "x")
    assert not policy.admits(None, None)
    assert not policy.admits("ké", "\ud800")  # what is no ASCII, and no text
    assert len(seen) == 10
    assert all(one == key.encode() for one, _ in seen)


def test_the_page_on_the_server_has_every_limit_with_its_default():
    text = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
    limits = [field for field in dataclasses.fields(Config) if field.metadata["group"] == LIMIT]
    rows = [f"| `{f.name.replace('_', '-')}` | {f.default:,} | {f.metadata['help']} |" for f in limits]
    assert rows == re.findall(r"^\| `[a-z-]+` \| [\d,.]+ \| .* \|$", text, re.MULTILINE)


def test_limits_are_set_by_name_and_the_last_one_counts():
    assert limits_of(["slots=3", "idle-seconds=1.5", "slots=4", "room_members=2"]) == {
        "slots": 4, "idle_seconds": 1.5, "room_members": 2,
    }  # fmt: skip
