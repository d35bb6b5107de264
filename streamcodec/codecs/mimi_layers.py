"""The layers that Mimi and its kin are made of, and the names of their weights in the files of transformers."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..nn.attention import NormalisedRows, SelfAttention, transformer_layer
from ..nn.conv import Conv1d, ConvTranspose1d
from ..nn.layer import Sequential
from ..nn.residual import Residual
from ..nn.rms_norm import RMSNorm
from ..nn.scaled import Scaled
from ..nn.seanet import seanet_encoder
from ..program import Padding
from .mimi_config import AttentiveSEANetConfig, MimiConfig
from .tensors import TensorReader

__all__ = [
    "codebook_names",
    "give_codebooks",
    "give_convolutions",
    "mimi_encoder",
    "mimi_transformer",
    "seanet_convolutions",
    "take_codebooks",
    "take_convolutions",
    "take_matrices",
    "transformer_matrices",
]

Convolutions = Iterable[tuple[str, Conv1d | ConvTranspose1d]]
Matrices = Iterable[tuple[str, Tensor]]

EMBED_EPSILON = 1e-5  # the least usage of an entry, by which its sum is divided


def mimi_transformer(settings: AttentiveSEANetConfig, kind: str = "gelu") -> Sequential:
    """Rows [B, T, hidden_size] to the same shape; kind: of its layers (see `transformer_layer`)."""
    layers = (
        transformer_layer(
            settings.hidden_size, settings.num_attention_heads, settings.head_size, settings.intermediate_size,
            reach=settings.sliding_window, base=settings.rope_theta, epsilon=settings.norm_eps,
            scale=settings.layer_scale_initial_scale, kind=kind,
        )
        for _ in range(settings.num_hidden_layers)
    )  # fmt: skip
    return Sequential(layers)


def mimi_encoder(settings: MimiConfig) -> Sequential:
    """Audio [B, N, 1] to latents [B, ceil(N / hop), hidden_size]: SEANet, transformer, half the rate."""
    width = settings.hidden_size
    half = Conv1d(width, width, 4, stride=2, padding=Padding(2, 0, "replicate", extend=True), bias=False)
    return Sequential([seanet_encoder(settings), mimi_transformer(settings), half])


# -- convolutions ------------------------------------------------------------------------------------------------------


def seanet_convolutions(prefix: str, seanet: Sequential) -> Iterator[tuple[str, Conv1d | ConvTranspose1d]]:
    """Those of a SEANet, under the names that Hugging Face gives them."""
    for path, module in seanet.named_modules():
        if isinstance(module, (Conv1d, ConvTranspose1d)):
            yield f"{prefix}.{path.replace('branch.layers', 'block')}.conv", module


def take_convolutions(reader: TensorReader, convolutions: Convolutions) -> None:
    """Hand a checkpoint's tensors to convolutions."""
    for path, conv in convolutions:
        weight = reader.take(f"{path}.weight", tuple(conv.torch_weight().shape))
        bias = None if conv.bias is None else reader.take(f"{path}.bias", (len(conv.bias),))
        if weight is not None:
            conv.set_weight(weight, bias)


def give_convolutions(convolutions: Convolutions) -> dict[str, Tensor]:
    """The inverse of `take_convolutions`."""
    tensors: dict[str, Tensor] = {}
    for path, conv in convolutions:
        tensors[f"{path}.weight"] = conv.torch_weight().detach().contiguous()
        if conv.bias is not None:
            tensors[f"{path}.bias"] = conv.bias.detach()
    return tensors


# -- all else but codebooks: views of our weights, in the layout of the file -------------------------------------------


@torch.no_grad()
def take_matrices(reader: TensorReader, matrices: Matrices) -> None:
    """Fill views of our weights."""
    for name, matrix in matrices:
        tensor = reader.take(name, tuple(matrix.shape))
        if tensor is not None:
            matrix.copy_(tensor)


def transformer_matrices(prefix: str, transformer: Sequential) -> Iterator[tuple[str, Tensor]]:
    """Those of `transformer_layer`s, one after the other."""
    for i, layer in enumerate(transformer.chain):
        assert isinstance(layer, Sequential)
        for name, weight in _layer_matrices(layer):
            yield f"{prefix}.layers.{i}.{name}", weight


def _layer_matrices(layer: Sequential) -> Iterator[tuple[str, Tensor]]:
    branches = [half.branch for half in layer.chain if isinstance(half, Residual)]
    parts = [part for branch in branches if isinstance(branch, Sequential) for part in branch.chain]
    norms = [part for part in parts if isinstance(part, (NormalisedRows, RMSNorm))]
    (attention,) = (part for part in parts if isinstance(part, SelfAttention))
    (up,) = (part for part in parts if isinstance(part, Conv1d))
    out, down = (part for part in parts if isinstance(part, Scaled))
    for place, matrix in zip("qkv", attention.inputs.weight[0].chunk(3, 1), strict=True):
        yield f"self_attn.{place}_proj.weight", matrix.T
    yield "self_attn.o_proj.weight", out.conv.weight[0].T
    if isinstance(norms[0], RMSNorm):
        for name, matrix in zip(("gate_proj", "up_proj"), up.weight[0].chunk(2, 1), strict=True):
            yield f"mlp.{name}.weight", matrix.T
        yield "mlp.down_proj.weight", down.conv.weight[0].T
    else:
        yield "mlp.fc1.weight", up.weight[0].T
        yield "mlp.fc2.weight", down.conv.weight[0].T
    for name, norm in zip(("input_layernorm", "post_attention_layernorm"), norms, strict=True):
        for kind, weight in norm.named_parameters():
            yield f"{name}.{kind}", weight
    yield "self_attn_layer_scale.scale", out.scale
    yield "mlp_layer_scale.scale", down.scale


# -- codebooks ---------------------------------------------------------------------------------------------------------


def codebook_names(semantic: int, count: int) -> Iterator[str]:
    """Where a file of Mimi has its codebooks, `count` in all."""
    for stage in range(count):
        part, place = ("semantic", stage) if stage < semantic else ("acoustic", stage - semantic)
        yield f"quantizer.{part}_residual_vector_quantizer.layers.{place}.codebook"


def take_codebooks(reader: TensorReader, named: Iterable[tuple[str, Tensor]], entry: str = "embed_sum") -> Tensor:
    """Codebooks [K, N, d]: sums of what their entries stood for in training, by how often they were used.

    named: where each is, and what it is where an entry is missing (`reader` says so in the end); entry: the sums' name.
    """
    books = []
    for prefix, codebook in named:
        total = reader.take(f"{prefix}.{entry}", tuple(codebook.shape))
        usage = reader.take(f"{prefix}.cluster_usage", (len(codebook),))
        reader.drop(f"{prefix}.initialized")
        if total is None or usage is None:
            books.append(codebook)
        else:
            books.append(total / usage.clamp_min(EMBED_EPSILON)[:, None])
    return torch.stack(books)


def give_codebooks(named: Iterable[tuple[str, Tensor]], entry: str = "embed_sum") -> dict[str, Tensor]:
    """The inverse of `take_codebooks`, each entry used once; Mimi's own have a mark besides that they were filled."""
    tensors: dict[str, Tensor] = {}
    for prefix, entries in named:
        tensors[f"{prefix}.{entry}"] = entries
        tensors[f"{prefix}.cluster_usage"] = entries.new_ones(len(entries))
        if entry == "embed_sum":
            tensors[f"{prefix}.initialized"] = entries.new_ones(1)
    return tensors
