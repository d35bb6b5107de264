import torch
from torch import Tensor


def _unfold(z: Tensor, kernel: int, stride: int, dilation: int) -> Tensor:
    batch, rows, channels = z.shape
    count = (rows - (kernel - 1) * dilation - 1) // stride + 1
    if kernel == 1 and stride == 1:
        return z.reshape(batch * rows, channels)
    b, r, c = z.stride()
    windows = z.as_strided((batch, count, kernel, channels), (b, r * stride, r * dilation, c))
    return windows.reshape(batch * count, kernel * channels)


def conv1d(z: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, dilation: int = 1) -> Tensor:
    kernel, channels, outputs = weight.shape
    windows = _unfold(z, kernel, stride, dilation)
    matrix = weight.view(kernel * channels, outputs)
    y = torch.mm(windows, matrix) if bias is None else torch.addmm(bias, windows, matrix)
    return y.view(z.shape[0], -1, outputs)


def conv_transpose1d(z: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    taps, channels, stride, outputs = weight.shape
    windows = _unfold(z, taps, 1, 1)
    matrix = weight.view(taps * channels, stride * outputs)
    y = torch.mm(windows, matrix) if bias is None else torch.addmm(bias.repeat(stride), windows, matrix)
    return y.view(z.shape[0], -1, outputs)


def lstm(x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, h: Tensor, c: Tensor, hold: Tensor | None = None) -> Tensor:
    batch, rows, width = x.shape
    gates = torch.addmm(bias, x.reshape(batch * rows, width), w_ih.t()).view(batch, rows, -1)
    out = torch.empty((batch, rows, h.shape[1]), dtype=x.dtype, device=x.device)
    w_hh = w_hh.t()
    for t in range(rows):
        g = torch.addmm(gates[:, t], h, w_hh)
        i, f, n, o = g.chunk(4, 1)
        new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(n)
        new_h = torch.sigmoid(o) * torch.tanh(new_c)
        if hold is not None:
            keep = hold[:, t, None]
            new_c, new_h = torch.where(keep, c, new_c), torch.where(keep, h, new_h)
        c.copy_(new_c)
        h.copy_(new_h)
        out[:, t] = new_h
    return out
