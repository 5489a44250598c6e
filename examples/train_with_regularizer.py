"""Train a small S4D network twice, without and with the Hankel nuclear norm as a penalty: the same task, fewer states.

The task is to remember: one of eight tokens comes first, then blanks, and after the last blank the network says which it
was. An S4D layer carries it there,

    logits = W GELU(y[L-1]) + b,   y = simulate(family.system(params), embedding(tokens)),

so that the model which is trained *is* the system which is analyzed: the penalty of a training step is a function of the
system of that step. Hankel singular values say what each state carries from past inputs to future outputs. Their sum could
also be made small by moving the scale of the layer into W; the states needed for 99 % of it, and the accuracy with few states
left, cannot be fooled like that.

    python examples/train_with_regularizer.py [--weight W] [--steps N] [--length L] [--out FILE]
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, gelu

from ssm_analysis import FAMILIES, RealDiagonalSSM, simulate
from ssm_analysis.analyses.gramians.hankel import hsv
from ssm_analysis.analyses.memory.memory_curves import effective_order
from ssm_analysis.analyses.norms.losses import hankel_nuclear_norm
from ssm_analysis.analyses.reduction.balanced import balanced_truncation
from ssm_analysis.xp import to_numpy

TOKENS, BLANK = 8, 8
CHANNELS, STATES = 8, 16
KEPT = (64, 32, 16)
"""States of the whole layer that balanced truncation leaves."""
BATCH, TEST, RATE = 32, 512, 3e-2


class Recall(nn.Module):
    """Embedding, one S4D layer, GELU, read-out of the last moment."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        layer = FAMILIES["s4d"].init(d_model=CHANNELS, d_state=STATES, init="lin", dt_min=1e-2, dt_max=2e-1, seed=seed)
        self.params = nn.ParameterDict({name: nn.Parameter(_single(x)) for name, x in layer.params.items()})
        self.embedding, self.head = nn.Embedding(TOKENS + 1, CHANNELS), nn.Linear(CHANNELS, TOKENS)

    def system(self) -> RealDiagonalSSM:
        """The systems of all channels as the parameters are now, with gradients."""
        return FAMILIES["s4d"].system(dict(self.params))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits for (L, documents) tokens."""
        return self.read_out(simulate(self.system(), self.embedding(tokens)[..., None])[..., 0])

    def read_out(self, y: torch.Tensor) -> torch.Tensor:
        """Logits from the output of the layer at the last moment."""
        return self.head(gelu(y[-1]))


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What a network can do and what its systems carry."""

    loss: float
    accuracy: float
    hankel_values: np.ndarray
    """Of the whole layer, decreasing."""
    states_needed: float
    """For 99 % of their sum."""
    accuracy_with: tuple[float, ...]
    """After balanced truncation to so many states as in ``KEPT``."""


def main(argv: list[str] | None = None) -> int:
    """Train, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description="Hankel nuclear norm as a regularizer of an S4D network.")
    parser.add_argument("--weight", type=float, default=3e-3, metavar="W", help="of the penalty (default 0.003)")
    parser.add_argument("--steps", type=int, default=300, metavar="N", help="of training (default 300)")
    parser.add_argument("--length", type=int, default=50, metavar="L", help="tokens of a document (default 50)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="picture of the Hankel singular values (default: none)")
    arguments = parser.parse_args(argv)
    if arguments.weight <= 0 or arguments.steps < 1 or arguments.length < 2:
        parser.error("--weight must be positive, --steps at least 1, --length at least 2")
    torch.set_num_threads(1)
    test = documents(TEST, arguments.length, torch.Generator().manual_seed(0))
    rows = {"before training": outcome(train(0.0, steps=0, length=arguments.length), *test)}
    rows["trained"] = outcome(train(0.0, steps=arguments.steps, length=arguments.length), *test)
    rows["... with penalty"] = outcome(train(arguments.weight, steps=arguments.steps, length=arguments.length), *test)
    print_table(rows)
    if arguments.out is not None:
        draw(rows, arguments.out)
        print(f"\ndrawn: {arguments.out}")
    return 0


def documents(count: int, length: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(tokens, answers): a token and blanks, time first; and the token."""
    answers = torch.randint(TOKENS, (count,), generator=generator)
    tokens = torch.full((length, count), BLANK)
    tokens[0] = answers
    return tokens, answers


def train(weight: float, *, steps: int, length: int, seed: int = 0) -> Recall:
    """Cross-entropy plus ``weight`` times the Hankel singular values of all channels."""
    torch.manual_seed(seed)
    generator, model = torch.Generator().manual_seed(seed + 1), Recall(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for _ in range(steps):
        tokens, answers = documents(BATCH, length, generator)
        loss = cross_entropy(model(tokens), answers)
        if weight:
            loss = loss + weight * hankel_nuclear_norm(model.system()).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


@torch.no_grad()
def outcome(model: Recall, tokens: torch.Tensor, answers: torch.Tensor) -> Outcome:
    """Measured on documents that were not trained on."""
    layer, logits = as_one_system(model.system()), model(tokens)

    def accuracy(logits: torch.Tensor) -> float:
        return float((logits.argmax(dim=1) == answers).float().mean())

    def accuracy_with(states: int) -> float:
        reduced = balanced_truncation(layer, order=states).system.map(lambda x: x.to(torch.float32))
        return accuracy(model.read_out(simulate(reduced, model.embedding(tokens))))

    return Outcome(
        loss=float(cross_entropy(logits, answers)),
        accuracy=accuracy(logits),
        hankel_values=to_numpy(hsv(layer)),
        states_needed=float(effective_order(layer, share=0.99)),
        accuracy_with=tuple(accuracy_with(states) for states in KEPT),
    )


def as_one_system(channels: RealDiagonalSSM) -> RealDiagonalSSM:
    """All channels next to each other, one input and output each, so that their states compete for the same places."""
    B, C, D = (torch.block_diag(*x) for x in (channels.B, channels.C, channels.D))
    return RealDiagonalSSM(log_poles=torch.flatten(channels.log_poles), B=B, C=C, D=D)


def print_table(rows: dict[str, Outcome]) -> None:
    """One row for each network."""
    print(f"One of {TOKENS} tokens is to be remembered by {CHANNELS} channels of {STATES} states, {CHANNELS * STATES} in all.\n")
    few = " ".join(f"{k:>6}" for k in KEPT)
    print(f"{'':17}{'task':>8} {'':>9} {'Hankel singular values':>24}   {'accuracy with so many states':^{len(few)}}")
    print(f"{'network':17}{'loss':>8} {'accuracy':>9} {'sum':>9} {'99 % of it in':>14}   {few}")
    for name, row in rows.items():
        total = f"{row.hankel_values.sum():>9.1f} {f'{row.states_needed:.0f} states':>14}"
        print(f"{name:17}{row.loss:>8.4f} {row.accuracy:>9.1%} {total}   " + " ".join(f"{a:>6.1%}" for a in row.accuracy_with))


def draw(rows: dict[str, Outcome], path: Path) -> None:
    """Hankel singular values, relative to the largest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.add_subplot()
    for name, row in rows.items():
        label = f"{name}: accuracy {row.accuracy:.0%}, {row.states_needed:.0f} states for 99 %"
        ax.semilogy(np.arange(1, len(row.hankel_values) + 1), row.hankel_values / row.hankel_values[0], label=label)
    ax.set(xlabel="state", ylabel="Hankel singular value / largest", ylim=(1e-6, 2))
    ax.set_title("What each state carries: with the penalty, few do all the work")
    ax.legend()
    figure.savefig(path, dpi=150)


def _single(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.array(x), dtype=torch.complex64 if np.iscomplexobj(x) else torch.float32)


if __name__ == "__main__":
    sys.exit(main())
