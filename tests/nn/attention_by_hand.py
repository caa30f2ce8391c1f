"""Attention written out with NumPy in float64, with every option of `MultiHeadAttention`."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from graphnode import nn


def attend(
    layer: nn.MultiHeadAttention,
    x: Any,
    context: Any = None,
    value: Any = None,
    mask: Any = True,
    bias: Any = 0.0,
    positions: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What the layer gives for `[batch, time, width]`, and its weights, without dropout."""
    source = x if context is None else context
    query = of_heads(layer, "query", x)
    key = of_heads(layer, "key", source)
    values = of_heads(layer, "value", source if value is None else value)
    time, length = query.shape[1], key.shape[1]
    at = np.broadcast_to(np.arange(time) if positions is None else positions, x.shape[:2])
    rotate = nn.Rotary(layer.rotary_base) if layer.rotary_base is not None else layer.rotary
    if rotate is not None:
        query, key = rotated(rotate, query, at), rotated(rotate, key, at)
    groups = layer.num_heads // key.shape[2]
    key, values = np.repeat(key, groups, 2), np.repeat(values, groups, 2)
    scores = np.einsum("bthd,bshd->bhts", query, key)
    scores = scores * (1 / np.sqrt(query.shape[-1]) if layer.scale is None else layer.scale)
    if layer.soft_cap is not None:
        scores = layer.soft_cap * np.tanh(scores / layer.soft_cap)
    scores = scores + bias
    if layer.score_bias is not None:
        scores = scores + np.stack([np.asarray(layer.score_bias(row, row)) for row in map(jnp.asarray, at)])
    i, j = np.arange(time)[:, None], np.arange(length)[None]
    seen = np.full((time, length), True)
    if layer.is_causal:
        seen &= j <= i
    if layer.window is not None:
        before, after = layer.window if isinstance(layer.window, tuple) else (layer.window - 1, layer.window - 1)
        seen &= (j >= i - before) & (j <= i + after)
    scores = np.where(seen & mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    y = np.einsum("bhts,bshd->bthd", weights, values)
    return affine(layer.out, y.reshape(*y.shape[:2], -1)), weights


def of_heads(layer: nn.MultiHeadAttention, name: str, x: Any) -> np.ndarray:
    """Queries, keys or values by heads, normalised."""
    y = affine(getattr(layer, name), x)
    norm = {"query": layer.query_norm, "key": layer.key_norm}.get(name)
    size: Any = layer.value_head_size if name == "value" and layer.value_head_size else layer.head_size
    if norm is not None and norm.width != size:
        y, norm = normalised(norm, y), None
    heads = y.reshape(*y.shape[:2], -1, size)
    return heads if norm is None else normalised(norm, heads)


def affine(linear: nn.Linear, x: Any) -> np.ndarray:
    y = np.asarray(x, np.float64) @ np.asarray(linear.weight.value, np.float64)
    return y if linear.bias is None else y + np.asarray(linear.bias.value, np.float64)


def normalised(norm: Any, x: Any) -> Any:
    """By an `RMSNorm`, or a `LayerNorm` without a bias."""
    if isinstance(norm, nn.LayerNorm):
        x = x - x.mean(-1, keepdims=True)
    assert norm.scale is not None
    y = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + norm.epsilon)
    return y * np.asarray(norm.scale.value, np.float64)


def rotated(rotate: nn.Rotary, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Pairs as complex numbers."""
    count = int(x.shape[-1] * rotate.fraction)
    part, rest = x[..., :count], x[..., count:]
    turns = np.exp(1j * positions[..., None, None] * rotate.rates(count))
    if rotate.scaling is not None:
        turns = turns * rotate.scaling.magnitude()
    if rotate.pairs == "halves":
        pairs = (part[..., : count // 2] + 1j * part[..., count // 2 :]) * turns
        return np.concatenate([pairs.real, pairs.imag, rest], -1)
    pairs = (part[..., ::2] + 1j * part[..., 1::2]) * turns
    turned = np.stack([pairs.real, pairs.imag], -1).reshape(part.shape)
    return np.concatenate([turned, rest], -1)
