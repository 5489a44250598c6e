"""The short depthwise convolution in front of selective recurrences."""

from jaxtyping import Float

from ssm_analysis.xp import Array, array_namespace


def depthwise(
    x: Float[Array, "l c"], weight: Float[Array, "c k"], bias: Float[Array, " c"] | None, *, padding: str = "causal"
) -> Float[Array, "l c"]:
    """Convolve each channel with its own k taps: y[t, c] = bias[c] + sum_j weight[c, j] x[t - left + j, c].

    Outside its L tokens, x is 0. Equivalent to a depthwise ``torch.nn.Conv1d`` with that padding.

    Parameters
    ----------
    x
        The signal of one document, one column for each channel.
    weight
        The k taps of each channel.
    bias
        One number for each channel, or None for no bias.
    padding
        ``causal``: left = k - 1, so the last tap multiplies the current token. ``same``: left = (k - 1) // 2, so the filter is
        centered and looks k // 2 tokens ahead.

    Raises
    ------
    ValueError
        If ``padding`` is neither ``causal`` nor ``same``.
    """
    if padding not in ("causal", "same"):
        raise ValueError(f"padding must be 'causal' or 'same', got {padding!r}")
    xp, (length, k) = array_namespace(x, weight), (x.shape[0], weight.shape[1])
    left = k - 1 if padding == "causal" else (k - 1) // 2
    zeros = xp.zeros_like(x[:1, :])
    padded = xp.concat([xp.broadcast_to(zeros, (left, x.shape[1])), x, xp.broadcast_to(zeros, (k - 1 - left, x.shape[1]))])
    y = sum(weight[:, j] * padded[j : j + length, :] for j in range(k))
    return y if bias is None else y + bias
