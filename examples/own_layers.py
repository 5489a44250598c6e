"""Layers that are in no list: three ways to open them.

1. A module with other names than the original: a mapping of names to a known layout.
2. Layers with another parametrization, inside a larger network: a layout with a function of ten lines.
3. A recurrence that no family describes: a family of one's own in one file, ``oscillator.py`` beside this one.

Every exported layer is run on what entered the layer in its own network, and compared with what left it.

    python examples/own_layers.py
"""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import oscillator
import torch
from torch import nn

import ssm_analysis as ssm

TOKENS, WIDTH, STATES = 200, 16, 24
Signals = tuple[np.ndarray, np.ndarray]
"""What entered a layer and what left it."""


class Parts(nn.Module):
    """Real and imaginary part of a complex weight."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.re, self.im = (nn.Parameter(torch.randn(shape) / shape[-1] ** 0.5) for _ in "ab")

    def forward(self) -> torch.Tensor:
        """The weight."""
        return torch.complex(self.re, self.im)


class Remembering(nn.Module):
    """1. An LRU by another programmer: (documents, tokens, width) in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.forgetting = nn.Parameter(torch.rand(STATES).mul(4).sub(6))
        self.turning = nn.Parameter(torch.rand(STATES).log())
        self.loudness = nn.Parameter(torch.zeros(STATES))
        self.read, self.write = Parts(STATES, WIDTH), Parts(WIDTH, STATES)
        self.skip = nn.Parameter(torch.ones(WIDTH))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """One token after the other."""
        pole = torch.exp(torch.complex(-self.forgetting.exp(), self.turning.exp()))
        h, out = torch.zeros(len(u), STATES, dtype=pole.dtype), []
        for x in u.unbind(1):
            h = pole * h + self.loudness.exp() * (x.to(pole.dtype) @ self.read().mT)
            out.append((h @ self.write().mT).real + self.skip * x)
        return torch.stack(out, dim=1)


REMEMBERING = ssm.FAMILIES["lru"].layouts[0].with_names({
    "nu_log": "forgetting", "theta_log": "turning", "gamma_log": "loudness", "D": "skip",
    "B_re": "read.re", "B_im": "read.im", "C_re": "write.re", "C_im": "write.im",
})  # fmt: skip


class Filters(nn.Module):
    """2. Diagonal filters as S4D has them, one for each feature, with a parametrization of their own and no B."""

    def __init__(self) -> None:
        super().__init__()
        self.log_neg_real = nn.Parameter(torch.full((WIDTH, STATES), 0.5).log())
        self.freq = nn.Parameter(torch.pi * torch.arange(STATES).repeat(WIDTH, 1))
        self.log_step = nn.Parameter(torch.empty(WIDTH).uniform_(-6, -2))
        self.C = nn.Parameter(torch.randn(WIDTH, STATES, 2))
        self.through = nn.Parameter(torch.randn(WIDTH))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """By the convolution kernel of zero-order hold."""
        A = torch.complex(-self.log_neg_real.exp(), self.freq)
        step, length = A * self.log_step.exp()[:, None], u.shape[1]
        weights = torch.view_as_complex(self.C) * step.exp().sub(1) / A
        kernel = 2 * (weights[..., None] * torch.exp(step[..., None] * torch.arange(length))).sum(1).real
        spectrum = torch.fft.rfft(kernel, n=2 * length) * torch.fft.rfft(u.mT, n=2 * length)
        return torch.fft.irfft(spectrum)[..., :length].mT + self.through * u


def to_s4d(tensors: Mapping[str, np.ndarray], options: Mapping[str, object]) -> Sequence[ssm.Part]:
    """What the family calls them: A = -exp(A_real) - i A_imag with a step of exp(inv_dt), and here B = 1."""
    C = tensors["C"][..., 0] + 1j * tensors["C"][..., 1]
    params = {"A_real": tensors["log_neg_real"], "A_imag": -tensors["freq"], "inv_dt": tensors["log_step"][:, None]}
    return [ssm.Part(params={**params, "B": np.ones_like(C), "C": C[None], "D": tensors["through"][None]})]


FILTERS = ssm.Layout(
    title="my filters",
    family="s4d",
    shapes={"log_neg_real": "H n", "freq": "H n", "log_step": "H", "C": "H n 2", "through": "H"},
    decode=to_s4d,
)


class Network(nn.Module):
    """A larger network with the filters in every other block."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, WIDTH), nn.Linear(WIDTH, 50)
        mix = [nn.Sequential(nn.LayerNorm(WIDTH), Filters() if i % 2 else nn.Linear(WIDTH, WIDTH), nn.GELU()) for i in range(6)]
        self.blocks = nn.ModuleList(mix)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits."""
        h = self.embedding(tokens)
        for block in self.blocks:
            h = h + block(h)
        return self.head(h)


def main() -> int:
    """Open all three, and compare."""
    torch.manual_seed(0)
    print("1. other names")
    module = Remembering().double()
    compare(module, [module], torch.randn(1, TOKENS, WIDTH, dtype=torch.float64), layouts=[REMEMBERING])

    print("2. another parametrization, in a larger network")
    network = Network().double()
    filters = [part for part in network.modules() if isinstance(part, Filters)]
    compare(network, filters, torch.randint(50, (1, TOKENS)), layouts=[FILTERS])

    print("3. a family of its own")
    ssm.FAMILIES["oscillator"] = oscillator.FAMILY
    layer = oscillator.init(d_model=WIDTH, d_state=STATES)
    u = np.random.default_rng(0).standard_normal((TOKENS, WIDTH))
    report({f"mixer.{name}": x for name, x in layer.params.items()}, [(u, layer.reference(u))])
    return 0


@torch.no_grad()
def compare(network: nn.Module, parts: Sequence[nn.Module], given: torch.Tensor, *, layouts: Sequence[ssm.Layout]) -> None:
    """Run the network, and each exported layer on what entered its part."""
    seen: list[Signals] = []
    hooks = [part.register_forward_hook(lambda _, entered, left: seen.append((entered[0][0].numpy(), left[0].numpy()))) for part in parts]
    network(given)
    for hook in hooks:
        hook.remove()
    report(network, seen, layouts=layouts)


def report(source: object, seen: Sequence[Signals], *, layouts: Sequence[ssm.Layout] = ()) -> None:
    """For each layer its row, and whether its system does to ``u`` what the layer did."""
    layers, rows = ssm.load(source, layouts=layouts), ssm.inspect(source, layouts=layouts)
    for layer, row, (u, wanted) in zip(layers.values(), rows, seen, strict=True):
        y = ssm.simulate(layer.system(), layer.core_input(u)).reshape(wanted.shape)
        error = np.max(np.abs(y - wanted)) / np.max(np.abs(wanted))
        print(f"   {row['name'] or '(bare)':12} {row['layout']:21} {row['systems']:>2} x {row['states']} states,", end=" ")
        print(f"slowest mode {row['time_constant_max']:6,.1f} tokens, within 1e-6 of the module: {error < 1e-6}")


if __name__ == "__main__":
    sys.exit(main())
