"""TLS: a session over wss, the page over https, and files that do not fit."""

import asyncio
import shutil
import ssl
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from raw import closed, tcp
from talk import Talk, encoded, hello, served, small_codec, wave
from test_http import get

from streamcodec.errors import InputError
from streamcodec.server import sockets
from streamcodec.server.config import Config

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
CODEC = small_codec()


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """A folder with two self-signed certificates and their keys: a.crt, a.key, b.crt, b.key."""
    folder = tmp_path_factory.mktemp("tls")
    for name in "ab":
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt", "-days", "2"]
        command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        subprocess.run(command, check=True, capture_output=True)
    command = ["openssl", "ec", "-in", folder / "a.key", "-out", folder / "locked.key", "-aes256"]
    subprocess.run([*command, "-passout", "pass:secret"], check=True, capture_output=True)
    (folder / "both.pem").write_text((folder / "a.crt").read_text() + (folder / "a.key").read_text())
    return folder


@pytest.mark.parametrize("files", [("a.crt", "a.key"), ("both.pem", None)])
def test_a_session_over_wss(pem, files):
    async def main():
        trust = ssl.create_default_context(cafile=pem / "a.crt")
        options = {"tls_certificate": str(pem / files[0]), "tls_key": files[1] and str(pem / files[1])}
        async with served({"small": CODEC}, handshake_seconds=1.0, **options) as server:
            async with Talk(server, hello("encode"), scheme="wss", ssl=trust) as talk:
                version = talk.ws.transport.get_extra_info("ssl_object").version()
                assert version in ("TLSv1.2", "TLSv1.3")
                samples = wave(0.5)
                await talk.say(samples[:, :2000])
                await talk.cut()
                await talk.again()
                await talk.say(samples[:, 2000:])
                await talk.flush()
                np.testing.assert_array_equal(talk.codes(), encoded(CODEC, samples)[0])
            status, _, body = await get(server, "/readyz", scheme="https", context=trust)
            assert (status, body) == (200, b"ready\n")
            for data in (b"", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n\r\n"):  # nothing, half a hello, no TLS at all
                async with tcp(server, data) as (reader, _):
                    assert b"HTTP" not in await closed(reader)
            with pytest.raises(ssl.SSLCertVerificationError):
                await Talk(server, scheme="wss", ssl=ssl.create_default_context(cafile=pem / "b.crt")).open()

    asyncio.run(main())


def test_old_versions_of_tls_are_refused(pem):
    context = sockets.tls_context(Config(tls_certificate=str(pem / "a.crt"), tls_key=str(pem / "a.key")))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("certificate", "key"),
    [("a.crt", name) for name in ("b.key", "nowhere", "locked.key", None)] + [("nowhere", "a.key"), ("a.key", "a.crt")],
)
def test_files_that_do_not_fit_are_explained(pem, certificate, key):
    options = Config(tls_certificate=str(pem / certificate), tls_key=key and str(pem / key))
    with pytest.raises(InputError, match="--tls-certificate") as error:
        sockets.tls_context(options)
    text = str(error.value)
    assert str(pem / certificate) in text
    assert key is None or str(pem / key) in text
    assert "--tls-key" in text


def test_the_command_explains_a_wrong_key(pem):
    command = [sys.executable, "-m", "streamcodec", "serve", "--port", "0"]
    command += ["--tls-certificate", str(pem / "a.crt"), "--tls-key", str(pem / "b.key")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert str(pem / "b.key") in done.stderr
    assert "Traceback" not in done.stderr
