"""The settings of a training: TOML in, TOML out with every default and what it means."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["BALANCED", "Settings", "parse_settings", "read_settings", "to_toml"]


def _of(default: Any, meaning: str) -> Any:
    """A setting with its default; the meaning becomes the comment in TOML."""
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class RunSettings:
    """Where a training ends, and what it leaves behind on its way."""

    steps: int = _of(0, "the planned end, in updates; 0: minutes decide")
    minutes: float = _of(60.0, "the planned end, in minutes of training, where steps is 0")
    seed: int = _of(0, "of everything random")
    device: str = _of("auto", "auto (a GPU if there is one), cpu, cuda, cuda:1 ...")
    precision: str = _of(
        "bfloat16",
        "of the networks while training: bfloat16 or float32; losses are float32. Layers are measured in bfloat16 "
        "before the first update; where one is wrong on this processor, it is float32",
    )
    log_every: int = _of(50, "updates between two rows of log.csv and of TensorBoard")
    audio_every: int = _of(1000, "updates between two audio samples for TensorBoard; 0: none")
    save_minutes: float = _of(3.0, "minutes between two checkpoints")
    tensorboard: bool = _of(True, "write TensorBoard files if the package tensorboard is installed")


@dataclass(frozen=True)
class DataSettings:
    """What the networks hear."""

    batch: int = _of(4, "crops of an update, in each process")
    crop_samples: int = _of(9600, "length of a crop")
    shares: dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "folder name to its share of the crops; a folder left out: by its duration"},
    )
    threads: int = _of(1, "threads that prepare batches ahead; 0: none")


@dataclass(frozen=True)
class AugmentSettings:
    """How crops are changed before the networks hear them, and have to give them back."""

    gain_low: float = _of(-10.0, "random gain, dB: the lowest")
    gain_high: float = _of(6.0, "random gain, dB: the highest; full scale is never passed")
    speed: float = _of(0.0, "chance that a crop is played faster or slower: other voices, other keys")
    speed_low: float = _of(0.85, "by how much: the lowest factor")
    speed_high: float = _of(1.2, "by how much: the highest")
    mix: float = _of(0.1, "chance that another crop is mixed in")
    mix_low: float = _of(-15.0, "its level, dB relative to the crop: the lowest")
    mix_high: float = _of(0.0, "its level: the highest")
    band_limit: float = _of(
        0.1, "chance that high frequencies are cut off, as a telephone or a 16 kHz recording has it"
    )
    cutoff_low: float = _of(3400.0, "the cut-off, Hz: the lowest")
    cutoff_high: float = _of(10000.0, "the cut-off: the highest")


@dataclass(frozen=True)
class CodecSettings:
    """What is trained. Sizes are those of a fresh codec; with init_from they are not used."""

    init_from: str = _of("", "begin with a codec's weights: bundled, a directory or a hub id; empty: random weights")
    architecture: str = _of(
        "encodec",
        "encodec, dac, or spectral: blocks at the frame rate, which learn more in the same time. A spectral codec has "
        "the sizes of [spectral], and of this section the five from sampling_rate to codebook_size; a dac those of "
        "[dac], and of this section sampling_rate and codebook_size",
    )
    start: str = _of(
        "random", "fresh weights: random, or transform (a cosine transform, see streamcodec.train.transform)"
    )
    audio_channels: int = _of(1, "1, or 2 for stereo, which an encodec can have")
    sampling_rate: int = _of(24000, "Hz")
    target_bandwidths: tuple[float, ...] = _of((1.5, 3.0, 6.0), "kbps")
    default_bandwidth: float = _of(6.0, "kbps, one of them")
    hidden_size: int = _of(64, "channels of a frame's latents, and of a codebook's entries")
    codebook_size: int = _of(1024, "entries of a codebook")
    num_filters: int = _of(16, "channels of the first convolution")
    num_residual_layers: int = _of(1, "residual blocks of each stage")
    upsampling_ratios: tuple[int, ...] = _of((8, 5, 4, 2), "strides of the decoder; the encoder has them reversed")
    kernel_size: int = _of(7, "of the first convolution")
    last_kernel_size: int = _of(7, "of the last one")
    residual_kernel_size: int = _of(3, "of a residual block's first one")
    dilation_growth_rate: int = _of(2, "of the residual blocks")
    compress: int = _of(2, "by how much a residual block is narrower inside")
    num_lstm_layers: int = _of(1, "LSTM layers in encoder and decoder")
    use_causal_conv: bool = _of(True, "no look-ahead")
    use_conv_shortcut: bool = _of(False, "1x1 convolutions beside residual blocks instead of identities")
    norm_type: str = _of("weight_norm", "weight_norm, or time_group_norm over a segment, as EnCodec 48 kHz")
    normalize: bool = _of(False, "divide each segment by its level, as EnCodec 48 kHz")
    chunk_length_s: float = _of(0.0, "seconds of a segment, EnCodec 48 kHz has 1; 0: none, all runs frame by frame")
    overlap: float = _of(0.01, "share of a segment that the next one repeats")
    pad_mode: str = _of("constant", "constant (a stream starts at once), reflect or replicate")

    def to_huggingface(self) -> dict[str, Any]:
        """As the config.json of an EnCodec model."""
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        del values["init_from"], values["start"], values["architecture"]
        if not self.chunk_length_s:
            values |= {"chunk_length_s": None, "overlap": None}
        values["trim_right_ratio"] = 1.0
        return values | {"model_type": "encodec", "streamcodec_default_bandwidth": values.pop("default_bandwidth")}


@dataclass(frozen=True)
class SpectralSettings:
    """Sizes that a fresh codec of the architecture spectral has beside those of [codec]."""

    hop_length: int = _of(320, "samples of a frame; the delay is two frames")
    encoder_width: int = _of(384, "channels of the encoder's blocks")
    encoder_blocks: int = _of(6, "how many")
    decoder_width: int = _of(384, "channels of the decoder's blocks")
    decoder_blocks: int = _of(8, "how many")
    expansion: int = _of(3, "by how much a block is wider inside")
    kernel_size: int = _of(7, "frames that a block hears: its own and those before")
    bands: int = _of(32, "of the spectrum, whose levels are told apart from it")

    def to_config(self, codec: CodecSettings) -> dict[str, Any]:
        """As a config.json, with the sizes of `codec` that the architecture shares."""
        names = ("sampling_rate", "target_bandwidths", "default_bandwidth", "hidden_size", "codebook_size")
        shared = {name: getattr(codec, name) for name in names}
        return asdict(self) | shared | {"model_type": "streamcodec_spectral"}


@dataclass(frozen=True)
class DacSettings:
    """Sizes that a fresh codec of the architecture dac has beside those of [codec]."""

    encoder_hidden_size: int = _of(32, "channels of the first convolution, doubled by each stage; DAC has 64")
    downsampling_ratios: tuple[int, ...] = _of((2, 4, 5, 8), "strides of the encoder; the decoder has them reversed")
    decoder_hidden_size: int = _of(512, "channels that the decoder begins with, halved by each stage; DAC has 1536")
    n_codebooks: int = _of(8, "how many; DAC has 9 at 44.1 kHz, 32 at 24 and 12 at 16")
    codebook_dim: int = _of(8, "dimensions in which an entry is looked up")

    def to_config(self, codec: CodecSettings) -> dict[str, Any]:
        """As a config.json, with the sizes of `codec` that the architecture shares."""
        shared = {"sampling_rate": codec.sampling_rate, "codebook_size": codec.codebook_size}
        return asdict(self) | shared | {"model_type": "dac"}


# Losses that pass through the balancer.
BALANCED = ("mel", "loudness", "linear", "wave", "envelope", "adversarial", "feature")


@dataclass(frozen=True)
class LossSettings:
    """Balanced losses: each weight is a fraction of the gradient that reaches the output, whatever the loss's scale."""

    mel: float = _of(3.0, "log-mel spectra, L1, at every window")
    loudness: float = _of(0.0, "loudness of mel bands, L1, at every window: near to PESQ, for speech")
    linear: float = _of(0.0, "magnitude spectra, L1, at every window")
    wave: float = _of(0.3, "waveform, L1")
    envelope: float = _of(0.0, "third-octave envelopes, their correlation over 384 ms: near to STOI, for speech")
    adversarial: float = _of(1.0, "hinge loss of the discriminators")
    feature: float = _of(2.0, "feature matching of the discriminators")
    windows: tuple[int, ...] = _of((64, 128, 256, 512, 1024, 2048), "STFT lengths in samples, hop a quarter")
    bands: int = _of(320, "mel bands of the longest window, and of shorter ones in proportion")
    total: float = _of(0.2, "norm of a crop's balanced gradient, times the crop's level")
    balance_decay: float = _of(0.999, "of the moving averages of gradient norms")
    commitment: float = _of(0.25, "of the encoder to the codebooks, relative to the latents' variance; not balanced")
    semantic: float = _of(1.0, "X-Codec's semantic reconstruction, for codecs that have it; not balanced")


@dataclass(frozen=True)
class DiscriminatorSettings:
    """STFT discriminators, and periodic ones; not used while the weights of adversarial and feature are 0."""

    windows: tuple[int, ...] = _of((2048, 1024, 512, 256, 128), "STFT lengths in samples, hop a quarter")
    bands: tuple[float, ...] = _of(
        (0.0, 1.0),
        "edges of the bands that are looked at apart, as shares of the spectrum; DAC has 0, 0.1, 0.25, 0.5, 0.75, 1",
    )
    filters: int = _of(16, "channels of each convolution; EnCodec has 32")
    stride: int = _of(1, "of the first convolution, over frequencies; EnCodec has 1, and 8 costs a sixth of it")
    periods: tuple[int, ...] = _of(
        (), "samples side by side, for discriminators that hear the waveform; DAC has 2, 3, 5, 7, 11; empty: none"
    )
    period_filters: int = _of(8, "channels of their first convolution, up to 32 times as many in the last; DAC has 32")
    learning_rate: float = _of(3e-4, "of AdamW; annealed as the codec's is")
    start: float = _of(0.0, "share of the planned end before which discriminators neither learn nor judge")
    alone: int = _of(200, "updates that discriminators learn before they judge")
    chance: float = _of(0.67, "of an update of the discriminators in an update of the codec")


@dataclass(frozen=True)
class QuantizerSettings:
    """How the codebooks are learnt."""

    warm_share: float = _of(0.06, "share of the planned end without quantiser, for fresh codecs")
    start_batches: int = _of(200, "batches of the k-means start")
    refit: int = _of(
        0, "with init_from: steps of k-means, on those batches, that fit its codebooks to its encoder first"
    )
    books: tuple[int, ...] = _of((2, 4, 8), "numbers of codebooks that a row of a batch may use")
    chances: tuple[float, ...] = _of((0.2, 0.2, 0.6), "of each number")
    decay: float = _of(0.99, "of the codebooks' moving averages, per update; rises to a tenth of the distance from 1")
    dead: float = _of(0.1, "an entry used less than this share of even use is revived")


@dataclass(frozen=True)
class TeacherSettings:
    """A codec of the same frame rate that the codec learns from; it is in nothing that is exported."""

    codec: str = _of("", "a directory or a hub id; empty: no teacher")
    latents: float = _of(
        0.0, "its latents as the encoder's target: weight of the mean squared error, of latents at unit variance"
    )
    answers: bool = _of(
        False,
        "its decoder's answer to the quantised latents as the decoder's target; the recording's own sound above its "
        "band. The encoder then hears nothing of the decoder",
    )


@dataclass(frozen=True)
class OptimizerSettings:
    """How the codec's networks follow their gradients."""

    kind: str = _of("adamw", "adamw, or muon: Muon for matrices, which learn more in an update, and AdamW for the rest")
    learning_rate: float = _of(8e-4, "at its peak")
    rise_steps: int = _of(150, "updates of a linear rise; then half a cosine down to a hundredth")
    clip: float = _of(10.0, "largest norm of the gradient; 0: any")
    decoder_only: bool = _of(False, "leave the encoder and the codebooks, and so the codes, as they are")
    average: float = _of(0.999, "of the moving average of the weights, which is what is exported")


@dataclass(frozen=True)
class Settings:
    """Everything that a training can be told."""

    run: RunSettings = field(default_factory=RunSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    codec: CodecSettings = field(default_factory=CodecSettings)
    spectral: SpectralSettings = field(default_factory=SpectralSettings)
    dac: DacSettings = field(default_factory=DacSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    discriminator: DiscriminatorSettings = field(default_factory=DiscriminatorSettings)
    quantizer: QuantizerSettings = field(default_factory=QuantizerSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def __post_init__(self) -> None:
        _check(self)

    def codec_config(self) -> dict[str, Any]:
        """The config.json of a fresh codec."""
        if self.codec.architecture == "encodec":
            return self.codec.to_huggingface()
        return (self.dac if self.codec.architecture == "dac" else self.spectral).to_config(self.codec)

    @property
    def adversarial(self) -> bool:
        """Whether there are discriminators."""
        return self.loss.adversarial > 0 or self.loss.feature > 0


def _check(settings: Settings) -> None:
    """Raises ConfigError for values that do not go together or are out of range."""
    run, data, quantizer, augment = settings.run, settings.data, settings.quantizer, settings.augment
    if run.steps < 0 or (run.steps == 0 and run.minutes <= 0):
        raise ConfigError(f"run.steps is {run.steps} and run.minutes {run.minutes}; one must be above 0")
    _check_start(settings.codec)
    if settings.optimizer.decoder_only and not settings.codec.init_from:
        raise ConfigError("optimizer.decoder_only trains a decoder on a codec's codes; name the codec: codec.init_from")
    if not settings.teacher.codec and (settings.teacher.latents or settings.teacher.answers):
        raise ConfigError("teacher.latents and teacher.answers need a teacher; name it: teacher.codec")
    if settings.teacher.latents < 0:
        raise ConfigError(f"teacher.latents is {settings.teacher.latents}; it must be at least 0")
    if settings.optimizer.kind not in ("adamw", "muon"):
        raise ConfigError(f"optimizer.kind {settings.optimizer.kind!r} is not known; adamw and muon are")
    if run.precision not in ("float32", "bfloat16"):
        raise ConfigError(f"run.precision {run.precision!r} is not known; float32 and bfloat16 are")
    if not quantizer.books or len(quantizer.books) != len(quantizer.chances):
        raise ConfigError(
            f"quantizer.books {list(quantizer.books)} and chances {list(quantizer.chances)} must have one chance for "
            "each number"
        )
    for name, value in (
        ("data.batch", data.batch),
        ("data.crop_samples", data.crop_samples),
        ("run.log_every", run.log_every),
        ("quantizer.start_batches", quantizer.start_batches),
        ("optimizer.rise_steps", settings.optimizer.rise_steps),
        ("discriminator.filters", settings.discriminator.filters),
        ("discriminator.stride", settings.discriminator.stride),
        ("discriminator.period_filters", settings.discriminator.period_filters),
        *(("each of discriminator.periods", period) for period in settings.discriminator.periods),
    ):
        if value < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1")
    edges = settings.discriminator.bands
    if len(edges) < 2 or (edges[0], edges[-1]) != (0, 1) or any(a >= b for a, b in pairwise(edges)):
        raise ConfigError(f"discriminator.bands is {list(edges)}; it must rise from 0 to 1, such as [0.0, 0.25, 1.0]")
    weights = {name: getattr(settings.loss, name) for name in BALANCED}
    if min(weights.values()) < 0 or not any(weights[name] for name in ("mel", "loudness", "linear", "wave")):
        raise ConfigError(f"the weights of loss are {weights}; none may be below 0, and one of the first four above 0")
    used = settings.discriminator.windows if settings.adversarial else ()
    if not settings.loss.windows or data.crop_samples < max(*settings.loss.windows, *used, 1):
        raise ConfigError(
            f"data.crop_samples is {data.crop_samples}; a crop must hold the longest window of loss.windows "
            f"{list(settings.loss.windows)} and discriminator.windows {list(used)}"
        )
    for name in ("gain", "speed", "mix", "cutoff"):
        low, high = f"{name}_low", f"{name}_high"
        if getattr(augment, low) > getattr(augment, high):
            raise ConfigError(f"augment.{low} is {getattr(augment, low)}, above {high}, {getattr(augment, high)}")
    if augment.speed_low < 0.25 or augment.speed_high > 4:
        raise ConfigError(
            f"augment.speed_low and speed_high are {augment.speed_low} and {augment.speed_high}; they must lie in "
            "0.25 to 4"
        )


def _check_start(codec: CodecSettings) -> None:
    if codec.architecture not in ("encodec", "dac", "spectral"):
        raise ConfigError(f"codec.architecture {codec.architecture!r} is not known; encodec, dac and spectral are")
    if codec.audio_channels not in (1, 2) or (codec.audio_channels == 2 and codec.architecture != "encodec"):
        raise ConfigError(
            f"codec.audio_channels is {codec.audio_channels} with the architecture {codec.architecture}; it must be 1, "
            "or with encodec 1 or 2"
        )
    _check_segments(codec)
    if codec.architecture == "spectral" and codec.start != "random":
        raise ConfigError(
            f"codec.start is {codec.start!r}; a spectral codec begins with a transform anyway: set codec.start = "
            '"random"'
        )
    if codec.start == "transform" and (codec.architecture, codec.audio_channels) != ("encodec", 1):
        raise ConfigError('codec.start transform is for a mono encodec; set codec.start = "random"')
    if codec.start not in ("random", "transform"):
        raise ConfigError(f"codec.start {codec.start!r} is not known; random and transform are")
    if (
        codec.start == "transform"
        and not codec.init_from
        and not (codec.use_causal_conv and codec.pad_mode == "constant")
    ):
        raise ConfigError(
            "codec.start transform is for causal codecs with constant padding: their frames do not overlap; set "
            'codec.use_causal_conv = true and codec.pad_mode = "constant", or codec.start = "random"'
        )
    if codec.start == "transform" and codec.num_filters < 2:
        raise ConfigError(
            f"codec.num_filters is {codec.num_filters}; codec.start transform carries audio in two channels"
        )


def _check_segments(codec: CodecSettings) -> None:
    if codec.norm_type not in ("weight_norm", "time_group_norm"):
        raise ConfigError(f"codec.norm_type {codec.norm_type!r} is not known; weight_norm and time_group_norm are")
    if codec.chunk_length_s < 0 or not 0 <= codec.overlap < 1:
        raise ConfigError(
            f"codec.chunk_length_s is {codec.chunk_length_s} and codec.overlap {codec.overlap}; the first must be at "
            "least 0, and the second from 0 to below 1"
        )
    whole = codec.normalize or codec.norm_type == "time_group_norm"
    if whole and not codec.chunk_length_s:
        raise ConfigError(
            "codec.normalize and codec.norm_type time_group_norm are over whole segments, without which nothing could "
            "be streamed: set codec.chunk_length_s = 1.0"
        )
    if whole and codec.start == "transform":
        raise ConfigError('codec.start transform knows no norms; set codec.start = "random"')


def _convert(name: str, value: Any, default: Any) -> Any:
    """`value` with the type of `default`; raises ConfigError where it has another."""
    if isinstance(default, tuple):
        like = default or (1,)  # a list that may be empty is one of whole numbers
        if isinstance(value, (list, tuple)) and (value or not default):
            return tuple(_convert(f"{name}[{i}]", item, like[0]) for i, item in enumerate(value))
        raise ConfigError(f"{name} is {value!r}; it must be a list such as {list(like)}")
    if isinstance(default, dict):
        if isinstance(value, Mapping):
            return {str(key): _convert(f"{name}.{key}", item, 0.0) for key, item in value.items()}
        raise ConfigError(f"{name} is {value!r}; it must be a table of names and numbers")
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise ConfigError(f"{name} is {value!r}; it must be a {type(default).__name__} such as {default!r}")
    return value


def parse_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from nested tables; what is left out has its default. Raises ConfigError for an unknown name."""
    defaults = Settings()
    sections = {section.name: getattr(defaults, section.name) for section in fields(defaults)}
    if unknown := sorted(set(values) - set(sections)):
        raise ConfigError(f"settings {unknown} are not known; the sections are {sorted(sections)}")
    made: dict[str, Any] = {}
    for section, table in values.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"{section} is {table!r}; it is a section: [{section}] and lines below it")
        known = {setting.name: getattr(sections[section], setting.name) for setting in fields(sections[section])}
        if unknown := sorted(set(table) - set(known)):
            raise ConfigError(f"settings {unknown} of [{section}] are not known; these are: {sorted(known)}")
        converted = {name: _convert(f"{section}.{name}", value, known[name]) for name, value in table.items()}
        made[section] = type(sections[section])(**converted)
    return Settings(**made)


def _override(values: dict[str, Any], text: str) -> None:
    """Apply one ``section.name=value``, the value in TOML or a bare word."""
    path, equals, value = text.partition("=")
    section, dot, name = path.strip().partition(".")
    if not (equals and section and dot and name):
        raise ConfigError(f"{text!r} is no setting; write section.name=value, such as loss.mel=2")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    values.setdefault(section, {})[name] = parsed


def read_settings(path: Path | None, overrides: Sequence[str] = ()) -> Settings:
    """The settings of a TOML file (None: the defaults) with some of them changed: ``section.name=value``.

    Raises ConfigError.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    for text in overrides:
        _override(values, text)
    return parse_settings(values)


def _literal(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value)  # a JSON string is a basic string of TOML
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, dict):
        inside = ", ".join(f"{json.dumps(key)} = {_literal(item)}" for key, item in value.items())
        return "{ " + inside + " }" if inside else "{}"
    return repr(value)


def to_toml(settings: Settings) -> str:
    """Every setting with its meaning; `read_settings` gives the same settings back."""
    lines: list[str] = []
    for section in fields(settings):
        table = getattr(settings, section.name)
        assert is_dataclass(table)
        meaning = " ".join((table.__doc__ or "").split())
        lines += [f"# {meaning}", f"[{section.name}]"]
        for setting in fields(table):
            value = _literal(getattr(table, setting.name))
            lines.append(f"{setting.name} = {value}  # {setting.metadata['help']}")
        lines.append("")
    return "\n".join(lines)
