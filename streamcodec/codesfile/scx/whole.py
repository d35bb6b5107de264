"""The header of a codec's codes, and a whole file at once."""

from ...codecs import Codec, Start
from ...codes import Codes
from ...errors import AudioError
from ..safetensors_file import CodesHeader
from .header import ScxHeader
from .reader import ScxReader

__all__ = ["header_of", "load"]


def header_of(
    codec: Codec, *, bandwidth: float, start: Start, source: str = "", metadata: dict[str, str] | None = None
) -> ScxHeader:
    """The header for codes of this codec. bandwidth: kbps, with which they begin; start, source: see `CodesHeader`."""
    spec, pre_roll = codec.spec, codec.pre_roll
    codes = CodesHeader(
        codec=spec.name,
        source=source,
        fingerprint=codec.fingerprint,
        bandwidth=bandwidth,
        sample_rate=spec.sample_rate,
        channels=spec.channels,
        hop_length=spec.hop_length,
        codebook_size=spec.codebook_size,
        start=start,
    )
    return ScxHeader(
        codes,
        metadata=metadata or {},
        pre_roll=pre_roll.frames,
        pre_roll_exact=pre_roll.exact,
        decoder_delay=spec.decoder_delay,
        segment_frames=spec.segment_frames or 0,
        segment_stride=spec.segment_stride or 0,
    )


def load(reader: ScxReader) -> Codes:
    """All codes of a file of one section. Raises AudioError where they do not make one `Codes`."""
    pieces = list(reader.pieces())
    if not pieces:
        raise AudioError(f"{reader.path} has no codes yet")
    depths = {piece.data.shape[0] for piece in pieces if piece.data.shape[1]}
    for found, what in (
        (any(piece.header is not pieces[0].header for piece in pieces), "several sections"),
        (pieces[0].header.pre_skip > 0, "frames that nobody hears"),
        (any(piece.missing for piece in pieces) or reader.damaged > 0, "frames that are missing"),
        (len(depths) > 1, f"stretches of {sorted(depths)} codebooks"),
    ):
        if found:
            raise AudioError(f"{reader.path} has {what}; codesfile.scx.ScxReader gives its pieces, `decode` its audio")
    kept = [piece for piece in pieces if piece.data.shape[1]] or pieces[:1]
    return Codes.cat(piece.codes() for piece in kept)
