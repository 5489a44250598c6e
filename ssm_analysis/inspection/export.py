"""The matrices of one layer in the hands of other tools: numpy, scipy, MATLAB, python-control.

Everything is in control's convention, x[k+1] = A x[k] + B u[k], y[k] = C x[k] + D u[k], with real matrices and dt = 1 token.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssm_analysis.analyses.responses.simulation import simulate
from ssm_analysis.families.base import Layer
from ssm_analysis.inspection.atomic_files import write_atomically
from ssm_analysis.systems import LTI
from ssm_analysis.xp import double, to_numpy

if TYPE_CHECKING:
    import scipy.signal

FORMATS = {"npz": ".npz", "mat": ".mat", "control-script": ".py"}
"""What `export` writes, and how the name of the file ends."""


def matrices(layer: Layer, *, u: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return the arrays that describe a layer in full, by name, in 64 bits.

    Parameters
    ----------
    layer
        The layer.
    u
        For selective layers: the input (L, d_model) along which they are a system. Leave it out for the others.

    Returns
    -------
    dict
        Time-invariant: "A" (*batch, n, n), "B", "C", "D", "dt". Selective: "log_poles" (L, *batch, n), "B", "C", "D" with time
        first, "dt", "u", the input "x" (L, *batch, m) of the recurrence, and its output "y" (L, *batch, p).

    Raises
    ------
    ValueError
        If an input is missing or not wanted.

    Examples
    --------
    >>> import ssm_analysis as ssm
    >>> from ssm_analysis.inspection.export import matrices
    >>> {name: x.shape for name, x in matrices(ssm.FAMILIES["s4d"].init(d_model=3, d_state=8)).items()}
    {'A': (3, 8, 8), 'B': (3, 8, 1), 'C': (3, 1, 8), 'D': (3, 1, 1), 'dt': ()}
    """
    layer = layer.map(lambda x: to_numpy(double(x)))
    if not layer.time_varying:
        if u is not None:
            raise ValueError(f"layer {layer.name!r} of family {layer.family!r} does not depend on its input; leave u out")
        sys = layer.system().to_dense()
        fields = {name: getattr(sys, name) for name in "ABCD"}
        return {**{name: np.broadcast_to(x, (*sys.batch_shape, *x.shape[-2:])) for name, x in fields.items()}, "dt": np.asarray(sys.dt)}
    if u is None:
        raise ValueError(
            f"layer {layer.name!r} of family {layer.family!r} depends on its input: it has matrices along an input alone, u of shape "
            "(L, d_model), what enters the layer from the first token"
        )
    u = np.asarray(u, dtype=np.float64)
    along, x = layer.along(u), layer.core_input(u)
    fields = {name: getattr(along, name) for name in ("log_poles", "B", "C", "D")}
    return {**fields, "dt": np.asarray(along.dt), "u": u, "x": x, "y": simulate(along, x)}


def to_scipy(sys: LTI) -> "scipy.signal.StateSpace":
    """Return the same system as a ``scipy.signal.StateSpace`` with real matrices; ``sys.to_control()`` is its counterpart.

    Raises
    ------
    ValueError
        If this is a batch of several systems.
    """
    import scipy.signal

    if sys.batch_shape:
        raise ValueError(f"to_scipy() takes one system, got the batch shape {sys.batch_shape}; index it first, e.g. sys[0]")
    same = sys.to_control()  # the door that makes real matrices, or says why there are none
    return scipy.signal.StateSpace(same.A, same.B, same.C, same.D, dt=sys.dt)


def export(layer: Layer, path: Path, *, to: str, u: np.ndarray | None = None) -> list[Path]:
    """Write a layer as npz, as mat, or as a script for python-control with its matrices beside it; the files written.

    In a .mat file the batch comes last, as MATLAB's ``ss(A, B, C, D, 1)`` takes an array of models. Files are written
    beside their places first: a failure leaves what was there before.

    Raises
    ------
    ValueError
        If the format is unknown, or as `matrices`; or if a selective layer shall become a script of one time-invariant system.
    """
    if to not in FORMATS:
        raise ValueError(f"the format must be one of {', '.join(FORMATS)}, got {to!r}")
    if path.suffix != FORMATS[to]:
        raise ValueError(f"a {to} file must end in {FORMATS[to]}, got {str(path)!r}")
    if to == "control-script" and layer.time_varying:
        raise ValueError(f"layer {layer.name!r} is time-varying, which python-control does not describe; export npz or mat with an input")
    arrays = matrices(layer, u=u)
    if to == "mat":
        import scipy.io

        last = {name: _batch_last(name, x, time_varying=layer.time_varying) for name, x in arrays.items()}
        return [write_atomically(path, lambda part: scipy.io.savemat(part, last, appendmat=False))]
    described = {**arrays, "about": np.asarray(json.dumps(_about(layer)))}
    data = path.with_suffix(".npz")

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **described)

    written = [write_atomically(data, write)]
    if to == "control-script":
        name = repr(layer.name or layer.family).replace('"', "'")  # names come from files: nothing in one may end the docstring
        script = SCRIPT.format(layer=name, data=repr(data.name), count=int(np.prod(arrays["A"].shape[:-2], dtype=int)))
        written.insert(0, write_atomically(path, lambda part: part.write_text(script, encoding="utf-8")))
    return written


def _about(layer: Layer) -> dict[str, Any]:
    assumed = {name: [str(found.value), found.source] for name, found in layer.assumptions.items()}
    convention = "x[k+1] = A x[k] + B u[k], y[k] = C x[k] + D u[k]"
    return {"layer": layer.name, "family": layer.family, "assumed": assumed, "convention": convention}


def _batch_last(name: str, x: np.ndarray, *, time_varying: bool) -> np.ndarray:
    if time_varying or name not in "ABCD" or x.ndim == 2:
        return x
    return np.moveaxis(x.reshape(-1, *x.shape[-2:]), 0, -1)


SCRIPT = '''\
"""Layer {layer} for python-control: {count} system(s), dt = 1 token. Run it to see poles and response of one of them."""

from pathlib import Path

import control
import numpy as np

DATA = np.load(Path(__file__).with_name({data}))


def system(index: int = 0) -> control.StateSpace:
    """One of the {count} systems of the layer."""
    A, B, C, D = (DATA[name].reshape(-1, *DATA[name].shape[-2:])[index] for name in "ABCD")
    return control.ss(A, B, C, D, float(DATA["dt"]))


if __name__ == "__main__":
    sys = system()
    print(sys.nstates, "states, largest |pole|", abs(sys.poles()).max())
    control.bode_plot(sys, omega_limits=(1e-4, np.pi))
'''
