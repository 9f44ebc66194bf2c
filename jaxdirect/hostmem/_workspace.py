"""Sizes of the workspace that CUDA handlers take as an extra result."""

from __future__ import annotations


def order_workspace_bytes(count: int) -> int:
    """Bytes that ordering `count` ids may take on the device; mirrors ffi/hostmem/order.h."""
    return 18 * count + (4 << 20)


def scatter_workspace_bytes(count: int, columns: int) -> int:
    """Bytes that summing `count` rows of `columns` may take; mirrors ffi/hostmem/scatter_add.h."""
    chunks = -(-count // 64)
    return order_workspace_bytes(count) + chunks * 2 * columns * 8 + 256
