"""Decides what a caller's source means, and names the local files it comes down to."""

import os
import re
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from ..errors import CheckpointError, InputError, UnknownCodecError
from . import downloads, hub, tflite
from .files import PICKLE_SUFFIXES, SAFETENSORS, verify_hash

__all__ = ["ALIASES", "DEFAULT_CODEC", "Located", "locate"]

# The codec that comes with the package, a folder of streamcodec/bundled/.
DEFAULT_CODEC = "streamcodec_24khz"

# Short names of published checkpoints, and the hub repositories that hold them.
ALIASES = {
    "dac_16khz": "descript/dac_16khz",
    "dac_24khz": "descript/dac_24khz",
    "dac_44khz": "descript/dac_44khz",
    "encodec_24khz": "facebook/encodec_24khz",
    "encodec_32khz": "facebook/encodec_32khz",
    "encodec_48khz": "facebook/encodec_48khz",
    "higgs_audio_v2_tokenizer": "bosonai/higgs-audio-v2-tokenizer",
    "mimi": "kyutai/mimi",
    "pocket_tts": "eustlb/pocket-tts-audio-tokenizer",  # the layout of transformers, which names this repository
    "qwen3_tts_12hz": "Qwen/Qwen3-TTS-Tokenizer-12Hz",
    "snac_24khz": "hubertsiuzdak/snac_24khz",
    "snac_32khz": "hubertsiuzdak/snac_32khz",
    "snac_44khz": "hubertsiuzdak/snac_44khz",
    "xcodec_hubert_general": "hf-audio/xcodec-hubert-general",
    "xcodec_hubert_general_balanced": "hf-audio/xcodec-hubert-general-balanced",
    "xcodec_hubert_librispeech": "hf-audio/xcodec-hubert-librispeech",
    "xcodec_wavlm_mls": "hf-audio/xcodec-wavlm-mls",
    "xcodec_wavlm_more_data": "hf-audio/xcodec-wavlm-more-data",
}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# torch.hub's convention for downloads: name-<first 8 hex digits of the SHA-256>.suffix
_HASHED_NAME = re.compile(r"(?P<name>\w+)-(?P<hash>[0-9a-f]{8})")


class Located(NamedTuple):
    """Files to read: `config` is None for a bare weight file; `origin` is what error messages call the source."""

    config: Path | None
    weights: Path
    name: str
    origin: str


def locate(source: str | os.PathLike[str] | None, revision: str | None) -> Located:
    """Find (or fetch) the files of `source`; what is allowed is listed in `streamcodec.load`."""
    if source is None:
        source = _bundled()  # before all else, so that no folder of the caller's takes its place
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"a codec's source is a str or a path, this is a {type(source).__name__}. {_forms()}")
    if source == "":
        raise UnknownCodecError(f"the codec's source is an empty string. {_forms()}")
    path, exists = _look_up(source)
    if exists:
        if revision is not None:
            raise InputError(f"revision={revision!r} is for hub ids; {path} is local")
        return _in_directory(path) if path.is_dir() else _file(path)
    if source == DEFAULT_CODEC:
        return _in_directory(_bundled())
    if source in downloads.FOLDERS:
        return _in_directory(downloads.fetch(str(source)))._replace(name=str(source), origin=str(source))
    if isinstance(source, str):
        repo = ALIASES.get(source, source)
        if _HUB_ID.fullmatch(repo) and not _looks_like_file(repo):
            return _on_hub(repo, revision)
    if isinstance(source, os.PathLike) or _looks_like_file(source) or path.is_absolute():
        raise CheckpointError(f"{path}: no such file or directory")
    raise UnknownCodecError(f"unknown codec {source!r}. {_forms()}")


def _look_up(source: str | os.PathLike[str]) -> tuple[Path, bool]:
    try:
        path = Path(source).expanduser()
        return path, path.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, a forbidden directory, an unknown ~user
        raise CheckpointError(f"{source}: cannot be looked up ({error})") from error


def _forms() -> str:
    names = ", ".join(sorted((*ALIASES, *downloads.FOLDERS)))
    return (
        f"Give nothing or {DEFAULT_CODEC} for the bundled codec; or a published name ({names}); "
        f'or a hub id ("owner/name"); or a directory with {hub.CONFIG} and {hub.WEIGHTS[0]}; or a weight file '
        f"({', '.join((*PICKLE_SUFFIXES, SAFETENSORS))})"
    )


def _bundled() -> Path:
    with resources.as_file(resources.files("streamcodec") / "bundled" / DEFAULT_CODEC) as path:
        if not path.is_dir():
            raise CheckpointError(f"{path}: the bundled codec is not in this installation; install the package again")
        return path


def _looks_like_file(source: str) -> bool:
    return source.startswith((".", "~")) or source.endswith((*PICKLE_SUFFIXES, SAFETENSORS, ".json"))


def _in_directory(directory: Path) -> Located:
    config = directory / hub.CONFIG
    networks = sorted(directory.glob(f"*{tflite.SUFFIX}"))
    if networks and not config.is_file():
        return Located(None, networks[0], directory.resolve().name, str(directory))
    if not config.is_file():
        raise CheckpointError(
            f"{directory}: no {hub.CONFIG} in this directory; a codec in Hugging Face layout has {hub.CONFIG} and "
            f"{hub.WEIGHTS[0]}. For an original checkpoint pass the file itself"
        )
    for filename in hub.WEIGHTS:
        if (directory / filename).is_file():
            return Located(config, directory / filename, directory.resolve().name, str(directory))
    raise CheckpointError(f"{directory}: {hub.CONFIG} is there but no weights: none of {', '.join(hub.WEIGHTS)}")


def _file(path: Path) -> Located:
    hashed = _HASHED_NAME.fullmatch(path.stem)
    if hashed and hashed["name"] in ALIASES:
        verify_hash(path, hashed["hash"])
        return Located(None, path, hashed["name"], str(path))
    config = path.parent / hub.CONFIG
    # .th, .pt and .pth are the upstream projects' own spellings: a config.json near them belongs to something else.
    if path.suffix in (SAFETENSORS, ".bin") and config.is_file():
        return Located(config, path, path.resolve().parent.name, str(path))
    return Located(None, path, path.stem, str(path))


def _on_hub(repo: str, revision: str | None) -> Located:
    fetched = hub.fetch(repo, revision)
    origin = f"{repo} at {fetched.config.parent.name} ({fetched.weights})"
    return Located(fetched.config, fetched.weights, repo.partition("/")[2], origin)
