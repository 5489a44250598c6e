"""Forward and backward pass of trainable layers against layers written by hand, float32, one thread."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import ssm_analysis as ssm
from benchmarks.measure import Contender, Job


def s4d() -> Job:
    """S4D, 64 features, 64 states, 1,024 tokens, 16 documents."""
    H, L, batch, family = 64, 1024, 16, ssm.FAMILIES["s4d"]
    layer = family.init(d_model=H, d_state=64).map(_single)
    u = torch.randn(L, batch, H, 1, generator=torch.Generator().manual_seed(0))
    by_hand = u[..., 0].permute(1, 2, 0).contiguous()
    p = layer.params

    def ours() -> torch.Tensor:
        return ssm.simulate(family.system(p), u)[..., 0].permute(1, 2, 0)

    def hand() -> torch.Tensor:
        A = -torch.exp(p["A_real"]) - 1j * p["A_imag"]
        z = A * torch.exp(p["inv_dt"])
        C = p["C"][0] * p["B"] * (torch.exp(z) - 1) / A
        K = 2 * torch.einsum("hn,hnl->hl", C, torch.exp(z[..., None] * torch.arange(L))).real
        y = torch.fft.irfft(torch.fft.rfft(by_hand, n=2 * L) * torch.fft.rfft(K, n=2 * L), n=2 * L)[..., :L]
        return y + by_hand * p["D"][0][:, None]

    return _job("S4D forward and backward, d = 64, N = 64, L = 1,024, batch 16", ours, hand, "a layer by hand (Vandermonde, FFT)")


def selective() -> Job:
    """A selective layer, 128 channels, 16 states, 1,024 tokens, 2 documents."""
    d, n, L, batch = 128, 16, 1024, 2
    g = torch.Generator().manual_seed(0)
    u = torch.randn(L, batch, d, generator=g)
    delta = torch.nn.functional.softplus(torch.randn(L, batch, d, generator=g) - 4).requires_grad_()
    B, C = (torch.randn(L, batch, n, generator=g).requires_grad_() for _ in range(2))
    A_log = torch.log(torch.arange(1, n + 1.0)).repeat(d, 1).requires_grad_()

    def ours() -> torch.Tensor:
        sys = ssm.DiagonalRecurrence(
            log_poles=-delta[..., None] * torch.exp(A_log), B=B[:, :, None, :, None], C=C[:, :, None, None, :], D=torch.zeros(1, 1, 1, 1, 1)
        )
        return ssm.simulate(sys, (delta * u)[..., None])[..., 0]  # the step folded into the input

    def hand() -> torch.Tensor:
        decay = torch.exp(-delta[..., None] * torch.exp(A_log))
        inflow = (delta * u)[..., None] * B[:, :, None, :]
        h, y = torch.zeros(batch, d, n), []
        for a, v, c in zip(decay.unbind(0), inflow.unbind(0), C.unbind(0), strict=True):
            h = a * h + v
            y.append((h * c[:, None, :]).sum(-1))
        return torch.stack(y)

    return _job(
        "selective layer forward and backward, d = 128, n = 16, L = 1,024, batch 2", ours, hand, "a loop by hand over unbound tensors"
    )


def _job(name: str, ours: Callable[[], torch.Tensor], hand: Callable[[], torch.Tensor], peer: str) -> Job:
    def trained(forward: Callable[[], torch.Tensor]) -> Callable[[], Any]:
        return lambda: forward().square().mean().backward()

    def accuracy() -> str:
        with torch.no_grad():
            a, b = ours(), hand()
        return f"{float((a - b).abs().max() / b.abs().max()):.1e} (float32)"

    return Job(
        name=name,
        ours=Contender(name="ours", run=trained(ours)),
        peers=[Contender(name=peer, run=trained(hand))],
        target="1x, 1e-5",
        accuracy=accuracy,
    )


def _single(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.complex64 if np.iscomplexobj(x) else torch.float32, requires_grad=True)


JOBS = [s4d, selective]
