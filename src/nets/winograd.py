"""Convolutions of 3 x 3 on a CPU by Winograd's algorithm (Winograd 1980, Lavin & Gray 2016).

An m x m tile of the output needs (m + 2)^2 multiplications per pair of channels instead of 9 m^2:
with d the tile of the input and g the filter, it is A^T [(G g G^T) * (B^T d B)] A. The product in
the middle is one matrix product over the channels for each of its (m + 2)^2 positions.

Here B^T and A^T of all tiles of a row (or column) make one matrix, so that two matrix products
transform a whole image, and pixels that tiles share need no copies. Where the output is one tile,
one product transforms both sides.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# m: the points, besides infinity, at which the polynomials of F(m, 3) are evaluated; among simple
# fractions they have a small error in float32
POINTS = {
    2: (0, 1, -1),
    3: (0, 1, -1, 2),
    4: (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2),
    5: (0, 1, -1, 1 / 2, -1 / 2, -3),
    6: (0, 1 / 2, -1 / 2, 1, -1, 2, -2),
    7: (0, 1 / 2, -1 / 2, 3 / 4, -3 / 4, 4 / 3, -4 / 3, -4),
    8: (0, 1 / 2, -1 / 2, 3 / 4, -3 / 4, 4 / 3, -4 / 3, 3, -3),
}
# Outside these limits, PyTorch's convolution is about as fast or faster.
MIN_CHANNELS = 48  # below, transforming the images is the larger part
MIN_TILES = 64  # tiles in a batch; below, transforming the filters is the larger part
MAX_SIDE = 64  # pixels; above, the transforms multiply mostly by zeros
ROW = 2**22  # bytes of a transformed row at a time, so that it stays in the cache of a core


class Conv2d(nn.Conv2d):
    """nn.Conv2d, which computes large convolutions of 3 x 3 faster on a CPU, in float32.

    The results differ from those of nn.Conv2d by rounding, at most 1e-4 of their norm.

    Args:
        multiple: the output may lack its last rows and columns beyond a multiple of this number,
            because the next layer is a pooling of this size, which ignores them.

    All other arguments are those of nn.Conv2d.
    """

    def __init__(self, *args: Any, multiple: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.multiple = multiple
        self.is_suitable = (
            self.kernel_size == (3, 3)
            and self.stride == self.dilation == (1, 1)
            and self.padding in ((0, 0), (1, 1))
            and self.padding_mode == "zeros"
            and self.groups == 1
            and min(self.in_channels, self.out_channels) >= MIN_CHANNELS
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution (B, out_channels, H', W') of x (B, in_channels, H, W)."""
        if not (self.is_suitable and _is_supported(x)):
            return super().forward(x)
        padding = int(self.padding[0])
        sizes = [n + 2 * padding - 2 for n in x.shape[2:]]
        height, width = (n - n % self.multiple for n in sizes)
        if min(height, width) < 1 or self._tiles(x, padding, height, width) < MIN_TILES:
            return super().forward(x)
        function = WinogradTile if max(height, width) <= max(POINTS) else Winograd
        y: Tensor = function.apply(x, self.weight, padding, height, width)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)

    @staticmethod
    def _tiles(x: Tensor, padding: int, height: int, width: int) -> int:
        h, w = side(x.shape[2], padding, height), side(x.shape[3], padding, width)
        return len(x) * h.tiles * w.tiles


def _is_supported(x: Tensor) -> bool:
    """Return whether x is a batch of small float32 images on a CPU and is not traced."""
    return (
        x.ndim == 4
        and max(x.shape[2:]) <= MAX_SIDE
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
    )


class Side(NamedTuple):
    """The transforms of one side of the image, of n pixels: B^T, A^T and G of F(m, 3).

    b is (m + 2) * tiles x n, a is n_out x (m + 2) * tiles, g is (m + 2) x 3.
    """

    m: int
    tiles: int
    b: Tensor
    a: Tensor
    g: Tensor


@lru_cache
def side(n: int, padding: int, n_out: int) -> Side:
    """Return the transforms with the fewest products, for tiles of 2 to 8 outputs."""
    m = min(POINTS, key=lambda m: (m + 2) * -(-n_out // m))
    tiles = -(-n_out // m)
    at, g, bt = cook_toom(m)
    b, a = np.zeros((m + 2, tiles, n)), np.zeros((n_out, m + 2, tiles))
    for tile in range(tiles):
        first = tile * m - padding  # pixel of the tile's first input
        inside = [i for i in range(m + 2) if 0 <= first + i < n]
        b[:, tile, [first + i for i in inside]] = bt[:, inside]
        rows = range(min(m, n_out - tile * m))
        a[tile * m : tile * m + len(rows), :, tile] = at[rows]
    matrices = b.reshape(-1, n), a.reshape(n_out, -1), g
    with torch.inference_mode(False):  # later calls may train
        return Side(m, tiles, *(torch.tensor(matrix, dtype=torch.float32) for matrix in matrices))


def cook_toom(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A^T (m, m + 2), G (m + 2, 3) and B^T (m + 2, m + 2) of F(m, 3), in float64.

    A product of polynomials is evaluated at m + 2 points, multiplied there, and interpolated; the
    convolution is its transpose (Blahut 2010, section 5.4). Rows are scaled to norm 1, which
    reduces rounding.
    """
    points = np.array(POINTS[m], dtype=np.float64)

    def values(n: int) -> np.ndarray:
        """Return the powers 0 to n - 1 of the points, and the highest for the point at infinity."""
        return np.vstack([np.vander(points, n, increasing=True), np.eye(n)[-1]])

    at, g, bt = values(m).T, values(3), np.linalg.inv(values(m + 2)).T
    at_norm, bt_norm = np.linalg.norm(at, axis=0), np.linalg.norm(bt, axis=1)
    return at / at_norm, g * (at_norm * bt_norm)[:, None], bt / bt_norm[:, None]


class Winograd(torch.autograd.Function):
    """The convolution (N, K, height, width) of x (N, C, H, W) with a weight (K, C, 3, 3).

    The rows of a part of the batch are transformed at once. Then each of the transformed rows goes
    through all other steps before the next one, while it is in the cache.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, padding: int, height: int, width: int
    ) -> Tensor:
        h, w = side(x.shape[2], padding, height), side(x.shape[3], padding, width)
        ctx.save_for_backward(x, weight)
        ctx.sides = h, w
        filters = transformed(weight, h, w)
        y = like(x, len(weight), height, width)
        for part in parts(x, weight, w):
            rows = transform_rows(h.b, x[part])
            products = x.new_empty(len(rows), width, rows.shape[2], len(weight))
            for i, row in enumerate(rows):
                product = torch.bmm(transform(w.b, row, w), filters[i // h.tiles])
                torch.mm(w.a, product.view(len(w.b), -1), out=products[i].view(width, -1))
            y[part] = restore(h.a, products)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        h, w = ctx.sides
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        filters = transformed(weight, h, w).mT
        grad_x = like(x, *x.shape[1:]) if needs_x else None
        grad_filters = torch.zeros_like(filters.mT) if needs_weight else None
        at_h, at_w, bt_h, bt_w = (matrix.T.contiguous() for matrix in (h.a, w.a, h.b, w.b))
        for part in parts(x, weight, w):
            rows, grad_rows = transform_rows(h.b, x[part]), transform_rows(at_h, grad[part])
            for i, (row, grad_row) in enumerate(zip(rows, grad_rows, strict=True)):
                grad_product = transform(at_w, grad_row, w)
                if grad_filters is not None:
                    grad_filters[i // h.tiles].baddbmm_(transform(w.b, row, w).mT, grad_product)
                if grad_x is not None:
                    # the row is not needed any more: its gradient takes its place
                    grad_tile = torch.bmm(grad_product, filters[i // h.tiles])
                    torch.mm(bt_w, grad_tile.view(len(w.b), -1), out=row.view(len(row), -1))
            if grad_x is not None:
                grad_x[part] = restore(bt_h, rows)
        grad_weight = None
        if grad_filters is not None:
            grad_weight = restore_filters(grad_filters.flatten(0, 1), h, w)
        return grad_x, grad_weight, None, None, None


class WinogradTile(torch.autograd.Function):
    """`Winograd` for outputs of one tile. It leaves the images in the order of channels_last."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, padding: int, height: int, width: int
    ) -> Tensor:
        h, w = side(x.shape[2], padding, height), side(x.shape[3], padding, width)
        filters = transformed(weight, h, w).flatten(0, 1)  # (positions, C, K)
        inputs = transform_images(torch.kron(h.b, w.b), x)
        ctx.save_for_backward(inputs, filters)
        ctx.sides, ctx.size, ctx.layout = (h, w), x.shape[2:], layout(x)
        y = restore_images(torch.kron(h.a, w.a), torch.bmm(inputs, filters), (height, width))
        return y.contiguous(memory_format=ctx.layout)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, filters = ctx.saved_tensors
        h, w = ctx.sides
        grad_x = grad_weight = None
        grad_products = transform_images(torch.kron(h.a, w.a).T, grad)
        if ctx.needs_input_grad[0]:
            grad_inputs = torch.bmm(grad_products, filters.mT)
            grad_x = restore_images(torch.kron(h.b, w.b).T, grad_inputs, ctx.size)
            grad_x = grad_x.contiguous(memory_format=ctx.layout)
        if ctx.needs_input_grad[1]:
            grad_weight = restore_filters(torch.bmm(inputs.mT, grad_products), h, w)
        return grad_x, grad_weight, None, None, None


def parts(x: Tensor, weight: Tensor, w: Side) -> Iterator[slice]:
    """Split the batch so that a transformed row of a part's images takes `ROW` bytes."""
    size = len(w.b) * sum(weight.shape[:2]) * x.element_size()
    length = -(-len(x) // max(1, round(len(x) * size / ROW)))
    for start in range(0, len(x), length):
        yield slice(start, start + length)


def like(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Return an uninitialized tensor (len(x), channels, height, width) with the layout of x."""
    return torch.empty(len(x), channels, height, width, memory_format=layout(x))


def layout(x: Tensor) -> torch.memory_format:
    """Return channels_last if x has this layout, else the usual one."""
    is_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format


def transformed(weight: Tensor, h: Side, w: Side) -> Tensor:
    """Return G g G^T of each filter g of weight (K, C, 3, 3): (m_h + 2, m_w + 2, C, K)."""
    filters = weight.permute(2, 3, 1, 0)
    y = torch.kron(h.g, w.g) @ filters.reshape(9, -1)
    return y.view(len(h.g), len(w.g), *filters.shape[2:])


def restore_filters(grad: Tensor, h: Side, w: Side) -> Tensor:
    """Return the gradient (K, C, 3, 3) of a weight, from that of G g G^T (positions, C, K)."""
    y = torch.kron(h.g, w.g).T @ grad.flatten(1)
    return y.view(3, 3, *grad.shape[1:]).permute(3, 2, 0, 1)


def transform_images(matrix: Tensor, x: Tensor) -> Tensor:
    """Multiply a matrix (positions, H W) by images (N, C, H, W): (positions, N, C)."""
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.bmm(matrix.expand(len(x), -1, -1), pixels).transpose(0, 1)


def restore_images(matrix: Tensor, products: Tensor, size: Sequence[int]) -> Tensor:
    """Multiply a matrix (H W, positions) by products (positions, N, C): images (N, C, H, W)."""
    y = torch.bmm(matrix.expand(products.shape[1], -1, -1), products.transpose(0, 1))
    return y.unflatten(1, size).permute(0, 3, 1, 2)


def transform_rows(matrix: Tensor, x: Tensor) -> Tensor:
    """Multiply a matrix (P, H) by images (n, C, H, W): (P, W, n, C)."""
    x = x.permute(2, 3, 0, 1).contiguous()
    return (matrix @ x.view(len(x), -1)).view(len(matrix), *x.shape[1:])


def transform(matrix: Tensor, row: Tensor, w: Side) -> Tensor:
    """Multiply a matrix (Q, W) by a row (W, n, C): (position in the tile, rest, C)."""
    return (matrix @ row.view(len(row), -1)).view(w.m + 2, -1, row.shape[2])


def restore(matrix: Tensor, rows: Tensor) -> Tensor:
    """Multiply a matrix (H, P) by rows (P, W, n, C): images (n, C, H, W)."""
    y = (matrix @ rows.view(len(rows), -1)).view(len(matrix), *rows.shape[1:])
    return y.permute(2, 3, 0, 1)
