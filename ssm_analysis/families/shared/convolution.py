"""The short depthwise convolution in front of selective recurrences."""

from jaxtyping import Float

from ssm_analysis.xp import Array, array_namespace


def depthwise(
    x: Float[Array, "l c"], weight: Float[Array, "c k"], bias: Float[Array, " c"] | None, *, padding: str = "causal"
) -> Float[Array, "l c"]:
    """y[t, c] = bias[c] + sum_j weight[c, j] x[t - left + j, c], zeros outside.

    ``causal``: left = k - 1, the last tap multiplies the current sample, as ``torch.nn.Conv1d`` with left padding.
    ``same``: left = (k - 1) // 2, centered; it looks k // 2 tokens ahead.

    Raises
    ------
    ValueError
        If ``padding`` is neither.
    """
    if padding not in ("causal", "same"):
        raise ValueError(f"padding must be 'causal' or 'same', got {padding!r}")
    xp, (length, k) = array_namespace(x, weight), (x.shape[0], weight.shape[1])
    left = k - 1 if padding == "causal" else (k - 1) // 2
    zeros = xp.zeros_like(x[:1, :])
    padded = xp.concat([xp.broadcast_to(zeros, (left, x.shape[1])), x, xp.broadcast_to(zeros, (k - 1 - left, x.shape[1]))])
    y = sum(weight[:, j] * padded[j : j + length, :] for j in range(k))
    return y if bias is None else y + bias
