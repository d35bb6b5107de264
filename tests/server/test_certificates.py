"""`--tls-self-signed`: what the certificate says, who takes it, and that it lasts where it is kept."""

import asyncio
import datetime
import hashlib
import io
import json
import ssl
import stat
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import RATE, encoded, served, small_codec, wave
from test_http import get

from streamcodec.cli import main
from streamcodec.client import SessionError, connect
from streamcodec.errors import InputError
from streamcodec.server import certificates
from streamcodec.server.certificates import CERTIFICATE, KEY, certified
from streamcodec.server.config import Config
from streamcodec.server.logs import Log
from streamcodec.server.sockets import tls_context


def config(folder=None, **options):
    return Config(tls_self_signed=True, tls_directory=folder and str(folder), **options)


def made(folder):
    """The certificate in a folder, as cryptography reads it, after a start of the server."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed")
    with certified(config(folder), Log(stream=io.StringIO())) as files:
        assert tls_context(files) is not None
        return x509.load_pem_x509_certificate(Path(files.tls_certificate).read_bytes())


def test_a_client_that_trusts_it_has_its_session_and_others_are_told_how(tmp_path):
    pytest.importorskip("cryptography", reason="cryptography is not installed")

    async def talk(port, context):
        url = f"wss://localhost:{port}"
        async with connect(url, "encode", sample_rate=RATE, pcm_format="f32le", ssl=context) as session:
            await session.send(wave(0.5)[0])
            await session.flush()
            return np.concatenate([p.codes async for p in session.packets() if p.codes.size], axis=1)

    async def run():
        async with served(tls_self_signed=True, tls_directory=str(tmp_path)) as server:
            trust = ssl.create_default_context(cafile=tmp_path / CERTIFICATE)
            trust.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 has it
            codes = await talk(server.port, trust)
            np.testing.assert_array_equal(codes, encoded(small_codec(), wave(0.5))[0])
            assert (await get(server, "/readyz", scheme="https", context=trust))[0] == 200
            with pytest.raises(SessionError, match="connect --ca FILE"):
                await talk(server.port, None)
            with pytest.raises(SessionError, match="cannot be reached"):
                async with connect(f"ws://127.0.0.1:{server.port}"):
                    pass
            (line,) = [json.loads(line) for line in server.stream.getvalue().splitlines() if '"certificate"' in line]
            der = ssl.PEM_cert_to_DER_cert((tmp_path / CERTIFICATE).read_text())
            assert line["sha256"] == hashlib.sha256(der).digest().hex(":").upper()
            assert line["path"] == str(tmp_path / CERTIFICATE)
            assert "PRIVATE KEY" not in server.stream.getvalue()

    asyncio.run(run())


def test_it_names_this_machine_and_is_no_authority(tmp_path, monkeypatch):
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed")
    monkeypatch.setattr(certificates.machine, "names", lambda: ["box", "box.local"])
    monkeypatch.setattr(certificates.machine, "addresses", lambda: ["192.168.1.5", "fd00::2"])
    certificate = made(tmp_path)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == [
        "localhost", "127.0.0.1", "::1", "box", "box.local", "192.168.1.5", "fd00::2",
    ]  # fmt: skip
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    valid = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert datetime.timedelta(days=365) <= valid <= datetime.timedelta(days=397)


def test_it_lasts_where_it_is_kept_and_its_key_is_for_this_user_alone(tmp_path, monkeypatch):
    folder = tmp_path / "new" / "folder"
    first = made(folder)
    assert made(folder) == first
    assert sorted(path.name for path in folder.iterdir()) == [CERTIFICATE, KEY]
    if sys.platform != "win32":
        assert stat.S_IMODE((folder / KEY).stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setattr(certificates, "LEFT", datetime.timedelta(days=366))  # as if its time were over
    renewed = made(folder)
    assert renewed != first
    assert renewed.public_key() == first.public_key()


@pytest.mark.parametrize("name", [CERTIFICATE, KEY])
@pytest.mark.parametrize("text", ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_is_another_thing_is_explained_and_kept(tmp_path, name, text):
    made(tmp_path)
    (tmp_path / name).write_text(text)
    with (
        pytest.raises(InputError, match=rf"{tmp_path}.*remove"),
        certified(config(tmp_path), Log(stream=io.StringIO())),
    ):
        pass
    assert (tmp_path / name).read_text() == text


def test_a_directory_that_is_none_is_explained(tmp_path):
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--tls-directory"), certified(config(tmp_path / "file"), Log()):
        pass


def test_without_a_directory_nothing_is_left_and_each_start_has_another(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert made(None) != made(None)
    assert not list(tmp_path.iterdir())


def test_processes_that_share_a_port_share_the_certificate(tmp_path):
    """Each gets the files that the first has made."""
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    log = Log(stream=io.StringIO())
    with certified(config(), log) as shared, certified(shared, log) as again:
        assert again is shared
        assert Path(shared.tls_certificate).is_file()
    assert not Path(shared.tls_certificate).exists()


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(InputError, match=r"--tls-self-signed.*cryptography"), certified(config(), Log()):
        pass


@pytest.mark.parametrize(
    "options", [{"tls_self_signed": True, "tls_certificate": "a.pem"}, {"tls_directory": "somewhere"}]
)
def test_options_that_contradict_each_other_are_refused(options):
    with pytest.raises(InputError, match="--tls-self-signed"):
        Config(**options)


@pytest.mark.parametrize("text", [None, "no PEM"])
def test_connect_explains_a_file_that_holds_no_certificate(tmp_path, capsys, text):
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    sent = tmp_path / "sent.wav"
    sent.touch()
    assert main(["connect", "wss://127.0.0.1:1", "--input", str(sent), "--ca", str(path)]) == 2
    assert f"--ca {path}" in capsys.readouterr().err
    with pytest.raises(InputError, match="wss://"):
        connect("ws://127.0.0.1:1", ssl=ssl.create_default_context())
