"""Reverse proxies with the configurations that stand in docs/proxies.md, on free ports."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "proxies.md"
PUBLIC = "codec.example.org"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def certificate(folder):
    """PEM files that openssl makes: of the certificate, of the key, of both."""
    crt, key, both = folder / "a.crt", folder / "a.key", folder / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", key, "-out", crt, "-days", "2", "-subj", f"/CN={PUBLIC}"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    both.write_text(crt.read_text() + key.read_text())
    return crt, key, both


def configuration(name, changes):
    """What the page has for this proxy, with other ports and files; each of the changes must find its place."""
    text = re.search(rf"```{name}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    for old, new in changes.items():
        assert old in text, f"docs/proxies.md no longer has {old!r}"
        text = text.replace(old, new)
    return text


def nginx(folder, port, upstream, changes):
    crt, key, _ = certificate(folder)
    files = {f"/etc/ssl/{PUBLIC}.pem": str(crt), f"/etc/ssl/{PUBLIC}.key": str(key)}
    ports = {"listen 443": f"listen 127.0.0.1:{port}", "127.0.0.1:8765": f"127.0.0.1:{upstream}"}
    kept = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; {kept}\n"
        f"{configuration('nginx', {**changes, **files, **ports})} }}\n"
    )
    return ["nginx", "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"]


def caddy(folder, port, upstream, changes):
    crt, key, _ = certificate(folder)
    places = {
        f"{PUBLIC} {{": f"https://127.0.0.1:{port} {{\n    tls {crt} {key}",
        "127.0.0.1:8765": f"127.0.0.1:{upstream}",
    }
    own = ("admin off", "auto_https disable_redirects", "skip_install_trust", f"storage file_system {folder}")
    lines = ["{", *own, "}", configuration("caddy", {**changes, **places})]
    (folder / "Caddyfile").write_text("\n".join(lines))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]


def haproxy(folder, port, upstream, changes):
    *_, both = certificate(folder)
    places = {
        "bind :443": f"bind 127.0.0.1:{port}", f"/etc/haproxy/{PUBLIC}.pem": str(both),
        "127.0.0.1:8765": f"127.0.0.1:{upstream}",
    }  # fmt: skip
    (folder / "haproxy.cfg").write_text(configuration("haproxy", {**changes, **places}))
    return ["haproxy", "-db", "-f", folder / "haproxy.cfg"]


@contextlib.contextmanager
def behind(command_of, folder, upstream, changes):
    """A proxy in front of the port `upstream`; its own port."""
    for needed in (command_of.__name__, "openssl"):
        if shutil.which(needed) is None:
            pytest.skip(f"{needed} is not installed; .ci/packages has it")
    port = free_port()
    command = command_of(folder, port, upstream, changes)
    with (folder / "log").open("w") as log:
        home = {**os.environ, "HOME": str(folder)}
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=home)
    try:
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError((folder / "log").read_text())
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(30)
