"""What the server tells of its codecs."""

from ..codecs import Codec
from ..entropy import EntropyModel
from ..errors import InputError, StreamcodecError
from ..protocol import CodecFacts, codec_facts

__all__ = ["check_live", "facts_of"]


def facts_of(name: str, codec: Codec, model: EntropyModel | None = None) -> CodecFacts:
    """A codec as the wire tells of it, under the name that clients use. model: for entropy coding of its codes."""
    spec = codec.spec
    return codec_facts(
        name=name, sample_rate=spec.sample_rate, channels=spec.channels, hop_length=spec.hop_length,
        num_codebooks=spec.num_codebooks, codebook_size=spec.codebook_size, bandwidths=spec.bandwidths,
        bandwidth_codebooks=tuple(spec.codebooks(bandwidth) for bandwidth in spec.bandwidths),
        default_bandwidth=spec.default_bandwidth, encoder_delay=spec.encoder_delay, decoder_delay=spec.decoder_delay,
        scaled=codec.framing.scaled, fingerprint=codec.fingerprint,
        entropy=None if model is None else model.hash,
        pre_roll=codec.pre_roll.frames, segment_frames=spec.segment_frames, segment_stride=spec.segment_stride,
    )  # fmt: skip


def check_live(name: str, codec: Codec) -> None:
    """Raises InputError for a codec that has no streams."""
    try:
        codec.open_encoder(batch=1)
        codec.open_decoder(batch=1)
    except StreamcodecError as error:
        raise InputError(f"codec {name!r} cannot be served live: {error}") from error
