"""Plain torch modules under the original names of their parameters: Mamba in one and two directions, minimal S4D, RG-LRU, typeseg.

Written step by step from the equations; nothing of the package is imported.
"""

from types import SimpleNamespace

import torch
from torch import nn


def selective_scan(x, delta, A, B, C, D):
    """h = exp(delta A) h + delta B x, y = C h + D x: (documents, L, d_inner)."""
    h, y = torch.zeros_like(x[:, 0, :, None] * A), []
    for k in range(x.shape[1]):
        h = torch.exp(delta[:, k, :, None] * A) * h + (delta * x)[:, k, :, None] * B[:, k, None, :]
        y.append((h * C[:, k, None, :]).sum(-1) + D * x[:, k])
    return torch.stack(y, dim=1)


class Mamba(nn.Module):
    """(documents, L, d_model) in and out. ``scans`` keeps what each scan returned."""

    def __init__(self, d_model, d_inner, d_state, *, taps=4, dt_rank=2, dt_offset=0.0, conv_padding="causal"):
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(d_model, 2 * d_inner), nn.Linear(d_inner, d_model)
        self.dt_offset, self.conv_padding, self.scans = dt_offset, conv_padding, []
        self._direction("", d_inner, d_state, taps, dt_rank)

    def _direction(self, suffix, d_inner, d_state, taps, dt_rank):
        around = taps // 2 if self.conv_padding == "same" else taps - 1
        self.add_module(f"conv1d{suffix}", nn.Conv1d(d_inner, d_inner, taps, groups=d_inner, padding=around))
        self.add_module(f"x_proj{suffix}", nn.Linear(d_inner, dt_rank + 2 * d_state))
        self.add_module(f"dt_proj{suffix}", nn.Linear(dt_rank, d_inner))
        rates = torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1)
        self.register_parameter(f"A{suffix}_log", nn.Parameter(rates))
        self.register_parameter(f"D{suffix}", nn.Parameter(torch.ones(d_inner)))

    def _scanned(self, x, suffix=""):
        part = SimpleNamespace(**{name: getattr(self, name + suffix) for name in ("conv1d", "x_proj", "dt_proj", "D")})
        x = nn.functional.silu(part.conv1d(x.mT)[..., : x.shape[1]].mT)
        A = -getattr(self, f"A{suffix}_log").exp()
        r, B, C = part.x_proj(x).split([part.dt_proj.in_features, A.shape[1], A.shape[1]], dim=-1)
        y = selective_scan(x, nn.functional.softplus(part.dt_proj(r)) + self.dt_offset, A, B, C, part.D)
        self.scans.append(y.detach())
        return y

    def _mixed(self, x):
        return self._scanned(x)

    def forward(self, u):
        x, z = self.in_proj(u).chunk(2, dim=-1)
        return self.out_proj(self._mixed(x) * nn.functional.silu(z))


class BiMamba(Mamba):
    """A second set of parameters reads from the end, as in Vision Mamba."""

    def __init__(self, d_model, d_inner, d_state, *, taps=5, dt_rank=2, dt_offset=0.0, conv_padding="same"):
        super().__init__(d_model, d_inner, d_state, taps=taps, dt_rank=dt_rank, dt_offset=dt_offset, conv_padding=conv_padding)
        self._direction("_b", d_inner, d_state, taps, dt_rank)

    def _mixed(self, x):
        return self._scanned(x) + self._scanned(x.flip(1), "_b").flip(1)


class S4D(nn.Module):
    """The minimal S4D of state-spaces/s4: (documents, features, L) in and out; ``outputs`` keeps what left the recurrence."""

    def __init__(self, H, n):
        super().__init__()
        self.transposed, self.outputs = True, []
        self.kernel, self.D = nn.Module(), nn.Parameter(torch.randn(H))
        self.kernel.log_dt = nn.Parameter(torch.empty(H).uniform_(-4, -1))
        self.kernel.C = nn.Parameter(torch.randn(H, n, 2))
        self.kernel.log_A_real = nn.Parameter(torch.full((H, n), 0.5).log())
        self.kernel.A_imag = nn.Parameter(torch.pi * torch.arange(n).repeat(H, 1))

    def forward(self, u):
        L, kernel = u.shape[-1], self.kernel
        A = torch.complex(-kernel.log_A_real.exp(), kernel.A_imag)
        dtA = A * kernel.log_dt.exp()[:, None]
        C = torch.view_as_complex(kernel.C) * dtA.exp().sub(1) / A
        K = 2 * (C[..., None] * torch.exp(dtA[..., None] * torch.arange(L))).sum(1).real
        y = torch.fft.irfft(torch.fft.rfft(u, n=2 * L) * torch.fft.rfft(K, n=2 * L), n=2 * L)[..., :L] + self.D[:, None] * u
        self.outputs.append(y.detach())
        return torch.tanh(y)


class RgLru(nn.Module):
    """The bare recurrence of recurrentgemma: (documents, L, width) in and out, the first token with gain 1."""

    def __init__(self, width, heads):
        super().__init__()
        block = width // heads
        self.a_param = nn.Parameter(torch.randn(width) / 2 - 2)
        for name in ("a_gate", "input_gate"):
            gate = nn.Module()
            gate.w, gate.b = nn.Parameter(torch.randn(heads, block, block)), nn.Parameter(torch.randn(heads, block))
            self.add_module(name, gate)

    def forward(self, x):
        documents, L, width = x.shape
        blocks = x.unflatten(-1, (self.a_gate.w.shape[0], -1))
        r, i = (
            torch.sigmoid(torch.einsum("dlhb,hbc->dlhc", blocks, gate.w) + gate.b).flatten(2) for gate in (self.a_gate, self.input_gate)
        )
        log_a = -8 * r * nn.functional.softplus(self.a_param)
        gain = torch.sqrt(-torch.expm1(2 * log_a))
        h, y = torch.zeros(documents, width, dtype=x.dtype), []
        for k in range(L):
            h = torch.exp(log_a[:, k]) * h + (gain[:, k] if k else 1) * i[:, k] * x[:, k]
            y.append(h)
        return torch.stack(y, dim=1)


class Block(nn.Module):
    """h + mixer(norm(h))."""

    def __init__(self, d_model, mixer):
        super().__init__()
        self.norm, self.mixer = nn.LayerNorm(d_model, eps=1e-6), mixer

    def forward(self, h):
        return h + self.mixer(self.norm(h))


class Typeseg(nn.Module):
    """The network of the PyPI package typeseg 0.2.7 from the arrays of its npz.

    Its two directions share all weights; its four taps look one token back and two ahead, and of a fifth, 0, center them.
    """

    def __init__(self, weights):
        super().__init__()
        w = {name.replace("__", "/"): torch.tensor(x) for name, x in weights.items()}
        classes = w["Dense_0/bias"].shape[0]
        vocabulary, d_model = w["Embed_0/embedding"].shape
        self.embedding, self.blocks = nn.Embedding(vocabulary, d_model), nn.ModuleList()
        self.norm, self.head = nn.LayerNorm(d_model, eps=1e-6), nn.Linear(d_model, classes)
        own = {"embedding.weight": w["Embed_0/embedding"], **_norm("norm", w, ""), **_dense("head", w, "Dense_0")}
        count = sum(name.endswith("/A_log") for name in w)
        for i in range(count):
            p, d_inner = f"CheckpointMambaBlock1D_{i}/", w[f"CheckpointMambaBlock1D_{i}/D"].shape[0]
            mixer = BiMamba(d_model, d_inner, w[p + "A_log"].shape[1], dt_rank=w[p + "Dense_2/kernel"].shape[0], dt_offset=1e-4)
            self.blocks.append(Block(d_model, mixer))
            here, taps = f"blocks.{i}.mixer.", w[p + "Conv_0/kernel"].permute(2, 1, 0)
            own |= (
                _norm(f"blocks.{i}.norm", w, p) | _dense(here + "in_proj", w, p + "Dense_0") | _dense(here + "out_proj", w, p + "Dense_3")
            )
            for suffix, kernel in (("", nn.functional.pad(taps, (1, 0))), ("_b", nn.functional.pad(taps.flip(-1), (0, 1)))):
                own |= {f"{here}A{suffix}_log": w[p + "A_log"], f"{here}D{suffix}": w[p + "D"]}
                own |= {f"{here}conv1d{suffix}.weight": kernel, f"{here}conv1d{suffix}.bias": w[p + "Conv_0/bias"]}
                own |= _dense(f"{here}x_proj{suffix}", w, p + "Dense_1") | _dense(f"{here}dt_proj{suffix}", w, p + "Dense_2")
        self.to(w["Dense_0/bias"].dtype).load_state_dict(own)

    def forward(self, tokens):
        h = self.embedding(tokens)
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def _dense(ours, w, theirs):
    return {f"{ours}.weight": w[f"{theirs}/kernel"].T, f"{ours}.bias": w[f"{theirs}/bias"]}


def _norm(ours, w, prefix):
    return {f"{ours}.weight": w[f"{prefix}LayerNorm_0/scale"], f"{ours}.bias": w[f"{prefix}LayerNorm_0/bias"]}
