"""SEANet, the encoder and decoder of EnCodec (Défossez et al. 2022, section 3.1; Tagliasacchi et al. 2020)."""

import math
from dataclasses import dataclass

from torch import nn

from ..errors import ConfigError
from .conv import Conv1d, ConvTranspose1d
from .layer import Elementwise, Layer, Sequential
from .lstm import LSTM
from .padding import encodec_padding
from .residual import Residual

__all__ = ["SEANetConfig", "seanet_decoder", "seanet_encoder"]


@dataclass(frozen=True)
class SEANetConfig:
    """The sizes of a SEANet, under the names of `transformers.EncodecConfig`.

    upsampling_ratios are the decoder's strides in order; the encoder uses them reversed.
    """

    audio_channels: int = 1
    num_filters: int = 32
    hidden_size: int = 128
    num_residual_layers: int = 1
    upsampling_ratios: tuple[int, ...] = (8, 5, 4, 2)
    norm_type: str = "weight_norm"
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_growth_rate: int = 2
    use_causal_conv: bool = True
    pad_mode: str = "reflect"
    compress: int = 2
    num_lstm_layers: int = 2
    trim_right_ratio: float = 1.0
    use_conv_shortcut: bool = True

    def __post_init__(self) -> None:
        if self.norm_type not in ("weight_norm", "time_group_norm"):
            raise ConfigError(f"norm_type is {self.norm_type!r}; supported are 'weight_norm' and 'time_group_norm'")
        if self.num_filters < self.compress:
            raise ConfigError(
                f"num_filters is {self.num_filters}; compress={self.compress} leaves a residual branch no channel"
            )
        if not self.use_causal_conv and self.trim_right_ratio != 1.0:
            raise ConfigError(f"trim_right_ratio is {self.trim_right_ratio}; without use_causal_conv it must be 1.0")
        if not 0.0 <= self.trim_right_ratio <= 1.0:
            raise ConfigError(f"trim_right_ratio is {self.trim_right_ratio}; it must lie in 0..1")

    def conv(self, channels: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> Conv1d:
        padding = encodec_padding(kernel, stride, dilation, causal=self.use_causal_conv, mode=self.pad_mode)
        norm = self._norm(outputs)
        return Conv1d(channels, outputs, kernel, stride=stride, dilation=dilation, padding=padding, norm=norm)

    def conv_transpose(self, channels: int, outputs: int, ratio: int) -> ConvTranspose1d:
        """Kernel 2 * ratio; the overlap (kernel - stride) is trimmed by EnCodec's `unpad1d` rule."""
        overlap = ratio
        right = math.ceil(overlap * self.trim_right_ratio) if self.use_causal_conv else overlap // 2
        return ConvTranspose1d(
            channels,
            outputs,
            2 * ratio,
            stride=ratio,
            trim_left=overlap - right,
            trim_right=right,
            norm=self._norm(outputs),
        )

    def _norm(self, channels: int) -> nn.Module | None:
        return nn.GroupNorm(1, channels) if self.norm_type == "time_group_norm" else None

    def residual(self, channels: int, dilation: int) -> Residual:
        hidden = channels // self.compress
        branch = [
            Elementwise("elu"),
            self.conv(channels, hidden, self.residual_kernel_size, dilation=dilation),
            Elementwise("elu"),
            self.conv(hidden, channels, 1),
        ]
        shortcut = self.conv(channels, channels, 1) if self.use_conv_shortcut else None
        return Residual(Sequential(branch), shortcut)

    def residuals(self, channels: int) -> list[Layer]:
        return [self.residual(channels, self.dilation_growth_rate**j) for j in range(self.num_residual_layers)]


def seanet_encoder(config: SEANetConfig) -> Sequential:
    """Audio [B, N, audio_channels] to latents [B, ceil(N / hop), hidden_size]."""
    channels = config.num_filters
    layers: list[Layer] = [config.conv(config.audio_channels, channels, config.kernel_size)]
    for ratio in reversed(config.upsampling_ratios):
        layers += config.residuals(channels)
        layers += [Elementwise("elu"), config.conv(channels, 2 * channels, 2 * ratio, stride=ratio)]
        channels *= 2
    if config.num_lstm_layers:
        layers.append(LSTM(channels, config.num_lstm_layers))
    layers += [Elementwise("elu"), config.conv(channels, config.hidden_size, config.last_kernel_size)]
    return Sequential(layers)


def seanet_decoder(config: SEANetConfig) -> Sequential:
    """Latents [B, T, hidden_size] to audio [B, T * hop, audio_channels]."""
    channels = config.num_filters * 2 ** len(config.upsampling_ratios)
    layers: list[Layer] = [config.conv(config.hidden_size, channels, config.kernel_size)]
    if config.num_lstm_layers:
        layers.append(LSTM(channels, config.num_lstm_layers))
    for ratio in config.upsampling_ratios:
        layers += [Elementwise("elu"), config.conv_transpose(channels, channels // 2, ratio)]
        channels //= 2
        layers += config.residuals(channels)
    layers += [Elementwise("elu"), config.conv(channels, config.audio_channels, config.last_kernel_size)]
    return Sequential(layers)
