"""A certificate that the server signs itself: for a try on one's own network, where no authority can vouch for it."""

import contextlib
import dataclasses
import datetime
import ipaddress
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..install import how_to_install
from . import machine
from .config import Config
from .logs import Log

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["CERTIFICATE", "KEY", "certified"]

CERTIFICATE, KEY = "streamcodec-certificate.pem", "streamcodec-key.pem"
VALID = datetime.timedelta(days=365)  # some systems take none of more than 825 days
LEFT = datetime.timedelta(days=1)  # with less left a kept one is replaced
CLOCKS = datetime.timedelta(hours=1)  # by which a client's clock may be behind
UNSPECIFIED = ("", "0.0.0.0", "::")


@contextlib.contextmanager
def certified(config: Config, log: Log) -> Iterator[Config]:
    """The configuration with the files of its self-signed certificate, which are there for as long as this lasts.

    Any other configuration is given back as it is. In `tls_directory` the files stay and are used again; else they are
    in a directory that only this user can enter, and go with it. The log has the SHA-256 fingerprint.

    Raises InputError.
    """
    if not config.tls_self_signed:
        yield config
        return
    with contextlib.ExitStack() as stack:
        kept = config.tls_directory
        folder = Path(kept or stack.enter_context(tempfile.TemporaryDirectory(prefix="streamcodec-"))).expanduser()
        certificate = _provide(folder, config.host)
        _tell(log, certificate, folder / CERTIFICATE if kept else None)
        yield dataclasses.replace(
            config, tls_self_signed=False, tls_directory=None,
            tls_certificate=str(folder / CERTIFICATE), tls_key=str(folder / KEY),
        )  # fmt: skip


def _provide(folder: Path, host: str) -> "x509.Certificate":
    """The certificate in the folder, made where there is none that is still valid. A key that is there is kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key, old = _read(folder)
        certificate = old or _make(key, _subject_names(host))
        if old is None:
            _write(folder / KEY, _private_pem(key), 0o600)
            _write(folder / CERTIFICATE, _public_pem(certificate), 0o644)
    except ImportError as error:
        raise InputError(
            f"--tls-self-signed needs the package cryptography; install it with: {how_to_install('server')}"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"the server's own certificate cannot be kept in {folder}: {error}; give a --tls-directory that can be "
            f"written to, or remove {CERTIFICATE} and {KEY} from it for new ones"
        ) from error
    return certificate


def _read(folder: Path) -> "tuple[EllipticCurvePrivateKey, x509.Certificate | None]":
    """The key of the folder, or a new one, and its certificate if that is valid for some time. Raises ValueError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not (folder / KEY).exists():
        return ec.generate_private_key(ec.SECP256R1()), None
    key = load_pem_private_key((folder / KEY).read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{KEY} holds another kind of key")
    if not (folder / CERTIFICATE).exists():
        return key, None
    certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    if certificate.public_key() != key.public_key():
        raise ValueError(f"{CERTIFICATE} is not for the key in {KEY}")
    valid = certificate.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc) > LEFT
    return key, certificate if valid else None


def _subject_names(host: str) -> "list[x509.GeneralName]":
    """localhost, this machine's names and addresses, and the host where the server listens at a certain one."""
    from cryptography import x509

    found = ["localhost", "127.0.0.1", "::1", *machine.names(), *machine.addresses()]
    found += [] if host in UNSPECIFIED else [host]
    return [
        x509.IPAddress(ipaddress.ip_address(text)) if machine.is_address(text) else x509.DNSName(text)
        for text in dict.fromkeys(found)
    ]


def _make(key: "EllipticCurvePrivateKey", names: "list[x509.GeneralName]") -> "x509.Certificate":
    """RFC 5280. It is no authority: who trusts it trusts nothing else by it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now, public = datetime.datetime.now(datetime.timezone.utc), key.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "streamcodec, self-signed")])
    unused = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **unused), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _private_pem(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public_pem(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all; never readable to more than `mode` says."""
    handle, name = tempfile.mkstemp(dir=path.parent)  # 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _tell(log: Log, certificate: "x509.Certificate", kept: Path | None) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    log("info", "certificate", sha256=fingerprint, names=", ".join(str(name.value) for name in names), path=kept)
    where = f"trust it by that file (streamcodec connect --ca {kept})" if kept else "can trust it with --tls-directory"
    log.say(
        "Browsers warn of this certificate, since the server signed it itself: compare what they show with its sha256.",
        f"Other clients {where}.",
    )
