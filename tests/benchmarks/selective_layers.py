"""A selective layer seen along an input, beside one pass of the original scan (transformers, without compiled kernels) over the same.

Mamba's layer of 1,536 channels and 16 states, 1,024 tokens, float32 parameters; windows of 64 channels.
"""

import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import ssm_analysis as ssm
from benchmarks.measure import Contender, Job
from ssm_analysis.analyses.along.forgetting import receptive_field, retention
from ssm_analysis.analyses.along.poles import EffectivePoles, effective_poles, joined_channels

WIDTH, TOKENS, WINDOW = 768, 1024, 64


def effective_poles_of_a_layer() -> Job:
    layer, u, scan = _layer_and_scan()

    def ours() -> EffectivePoles:
        return joined_channels(effective_poles(sys) for sys in layer.windows(u, channels=WINDOW))

    def accuracy() -> str:
        found, times = ours(), ssm.time_constants(layer.along(u))
        want = np.histogram(times, np.concatenate([[0], found.edges, [np.inf]]))[0]
        wrong = int(np.abs(found.counts - want).sum()) // 2
        return f"{wrong} of {times.size:,} poles in another bin than by numpy.histogram; {_peak(ours)}"

    return _job("along and effective poles", ours, scan, accuracy)


def retention_of_a_layer() -> Job:
    layer, u, scan = _layer_and_scan()

    def ours() -> np.ndarray:
        """What every token leaves in each state, its mean over the states, and the receptive field, of the last token."""
        parts = [(np.mean(retention(sys)[0], axis=-1), receptive_field(sys)[0]) for sys in layer.windows(u, channels=WINDOW)]
        return np.concatenate([field for _, field in parts])

    def accuracy() -> str:
        layer64, u64 = layer.map(np.float64), u.astype(np.float64)
        sys = layer64.along(u64, channels=slice(0, 4))
        lam, field = np.exp(sys.log_poles), receptive_field(sys)[0]
        seen, energy = sys.C[-1, :, 0, :], [sys.D[-1, :, 0, 0] ** 2]
        for s in range(TOKENS - 2, -1, -1):
            energy.append(np.sum(seen * sys.B[s, :, :, 0], axis=-1) ** 2)
            seen = seen * lam[s]
        passed = np.cumsum(energy, axis=0)
        want = np.stack([np.argmax(passed >= share * passed[-1], axis=0) for share in (0.5, 0.9, 0.99)], axis=-1)
        return f"{int(np.sum(field != want))} of {want.size} fields differ from a loop's; {_peak(ours)}"

    return _job("along, retention and receptive field of the last token", ours, scan, accuracy)


def _job(what: str, ours: Callable[[], Any], scan: Callable[[], Any], accuracy: Callable[[], str]) -> Job:
    return Job(
        name=f"{what}, 1,536 channels x 16 states x 1,024 tokens",
        ours=Contender(name="ours", run=ours),
        peers=[Contender(name="one pass of the scan of transformers, float32", run=scan)],
        target="0.33x",
        accuracy=accuracy,
    )


def _layer_and_scan() -> tuple[ssm.Layer, np.ndarray, Callable[[], Any]]:
    """A fresh layer, an input, and the scan of the same layer in transformers with what it is given along that input."""
    from transformers import MambaConfig
    from transformers.models.mamba import modeling_mamba

    layer = ssm.FAMILIES["s6"].init(d_model=WIDTH).map(lambda x: x.astype(np.float32))
    u = np.random.default_rng(0).standard_normal((TOKENS, WIDTH)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = modeling_mamba.MambaMixer(MambaConfig(hidden_size=WIDTH, state_size=16, num_hidden_layers=1), layer_idx=0).eval()
    module.load_state_dict({name: torch.tensor(x) for name, x in layer.params.items()}, strict=False)
    scan, seen = modeling_mamba.mamba_selective_scan, []

    def spy(*arguments: Any, **keywords: Any) -> Any:
        seen.append((arguments, keywords))
        return scan(*arguments, **keywords)

    modeling_mamba.mamba_selective_scan = spy
    try:
        with torch.no_grad():
            module(torch.tensor(u)[None])
    finally:
        modeling_mamba.mamba_selective_scan = scan
    arguments, keywords = seen[0]

    def run() -> Any:
        with torch.no_grad():
            return scan(*arguments, **keywords)

    return layer, u, run


def _peak(run: Callable[[], Any]) -> str:
    """Memory that numpy asks for at the same time."""
    tracemalloc.start()
    run()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return f"peak {size / 2**20:.0f} MB"


JOBS = [effective_poles_of_a_layer, retention_of_a_layer]
