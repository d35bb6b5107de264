"""Fetches a codec's configuration and weights from the Hugging Face hub, through the hub's own cache."""

from pathlib import Path
from typing import NamedTuple

from ..errors import HubError, UnknownCodecError
from .files import INDEX_SUFFIX, shard_names

__all__ = ["CONFIG", "WEIGHTS", "Fetched", "fetch"]

CONFIG = "config.json"
# In the order in which they are tried: safetensors before pickles, whole before sharded.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


class Fetched(NamedTuple):
    """Local copies of a repository's files at one commit."""

    config: Path
    weights: Path


def fetch(repo: str, revision: str | None) -> Fetched:
    """The files of hub repository `repo` ("owner/name") at `revision` (a branch, tag or commit; None: main).

    Only config.json and one form of the weights are fetched. The environment is huggingface_hub's: HF_HOME,
    HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, and HF_HUB_OFFLINE=1, which uses the cache alone. So does a hub that cannot
    be reached.

    Raises HubError: unreachable and not cached, no such repository or revision, gated, or without a codec's files.
    """
    # hf_hub_download retries for half a minute a file before it gives up. One request tells whether it is of use.
    failure = _probe(repo, revision)
    config = _download(repo, CONFIG, revision, cached_only=failure is not None)
    if config is None:
        raise _explain(repo, revision, failure) from failure
    # The cache keeps one directory per commit. Naming that commit from here on keeps the configuration and the
    # weights together even if somebody pushes to the branch between two requests.
    commit = config.parent.name
    for filename in WEIGHTS:
        weights = _download(repo, filename, commit, cached_only=failure is not None)
        if weights is None:
            continue
        if filename.endswith(INDEX_SUFFIX):
            for shard in sorted(set(shard_names(weights).values())):
                if _download(repo, shard, commit, cached_only=failure is not None) is None:
                    raise _explain(
                        repo, revision, failure, f"{filename} names a shard {shard} that is not there"
                    ) from failure
        return Fetched(config, weights)
    raise _explain(repo, revision, failure, f"it has none of {', '.join(WEIGHTS)}") from failure


def _probe(repo: str, revision: str | None) -> Exception | None:
    """Ask the hub for the configuration's metadata, once; the error if that fails."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repo, CONFIG, revision=revision))
    except Exception as error:  # requests, httpx or the hub's own, by the version of huggingface_hub
        return error
    return None


def _download(repo: str, filename: str, revision: str | None, *, cached_only: bool) -> Path | None:
    """One file's path in the cache, fetched if need be; None where the repository (or the cache) has no such file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, filename, revision=revision, local_files_only=cached_only))
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError) and not cached_only:  # the connection was lost after the probe
            raise _explain(repo, revision, error) from error
        return None
    except Exception as error:
        raise _explain(repo, revision, error) from error


def _explain(
    repo: str, revision: str | None, failure: Exception | None, missing: str = ""
) -> HubError | UnknownCodecError:
    """The error to raise after `failure`; after none, `missing` says what the repository lacks."""
    from huggingface_hub import errors

    at = f"{repo} at revision {revision}" if revision else repo
    log_in = "`hf auth login`, or the variable HF_TOKEN"
    if isinstance(failure, errors.HFValidationError):
        return UnknownCodecError(f"{repo!r} is no hub id: {failure}")
    if failure is None:
        return HubError(f"{at} on the hub is no codec in Hugging Face layout: {missing}")
    if isinstance(failure, errors.GatedRepoError):
        return HubError(f"{repo} on the hub is gated: accept its terms at https://huggingface.co/{repo}, then {log_in}")
    if isinstance(failure, errors.RevisionNotFoundError):
        return HubError(f"{repo} on the hub has no revision {revision!r} (a branch, tag or commit hash)")
    if isinstance(failure, errors.RepositoryNotFoundError):
        return HubError(
            f"there is no {repo} on the hub (nor a local file or directory of that name), or it is private and you "
            f"are not logged in ({log_in})"
        )
    if isinstance(failure, errors.EntryNotFoundError) and not isinstance(failure, errors.LocalEntryNotFoundError):
        return HubError(f"{at} on the hub is no codec in Hugging Face layout: it has no {CONFIG}")
    if isinstance(failure, errors.OfflineModeIsEnabled):
        reason = "HF_HUB_OFFLINE is set"
    else:
        lines = str(failure).strip().splitlines()
        reason = f"the hub cannot be reached ({type(failure).__name__}: {lines[0] if lines else 'no details'})"
    return HubError(
        f"{reason} and the cache does not hold {at} in full. To work offline, put {CONFIG} and {WEIGHTS[0]} in a "
        f"directory and pass its path; or run `hf download {repo}` where there is a network, bring its cache here "
        "(HF_HUB_CACHE) and set HF_HUB_OFFLINE=1"
    )
