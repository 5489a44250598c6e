"""Small time-varying systems, by name, and their operators written out from the definition, entry by entry.

>>> @pytest.mark.parametrize("name", LTV)
... def test_law(name):
...     sys = LTV[name]
"""

import numpy as np

from ssm_analysis import DiagonalLTV
from tests.support.systems_table import TIME_VARYING, random_fields

LTV = {name: sys for name, sys in TIME_VARYING.items() if isinstance(sys, DiagonalLTV)}
LTV["ltv_wide"] = DiagonalLTV(**random_fields(70, 2, 3, 1, batch=(11, 2)))
LTV["ltv_growing"] = DiagonalLTV(
    **(random_fields(71, 3, 1, 1, batch=(11,)) | {"log_poles": np.random.default_rng(71).normal(size=(11, 3)) + 0.2j})
)
LTV["ltv_many_states"] = DiagonalLTV(**random_fields(72, 15, 1, 1, batch=(11,)))
LTV["ltv_one_token"] = DiagonalLTV(**random_fields(73, 3, 2, 2, batch=(1,)))
LONGER = [name for name in LTV if LTV[name].length > 1]


def entries(sys):
    """All members of the batch, () included."""
    return list(np.ndindex(sys.batch_shape))


def operator(sys, index=()):
    """T[t, s] of one member of the batch, (L, L, p, m): products of matrices, multiplied one after the other."""
    lam, B, C, D = (np.asarray(x, dtype=complex)[(slice(None), *index)] for x in (np.exp(sys.log_poles), sys.B, sys.C, sys.D))
    T = np.zeros((sys.length, sys.length, sys.noutputs, sys.ninputs), dtype=complex)
    for t in range(sys.length):
        T[t, t] = D[t]
        for s in range(t):
            product = np.eye(sys.nstates, dtype=complex)
            for k in range(s + 1, t):
                product = np.diag(lam[k]) @ product
            T[t, s] = C[t] @ product @ B[s]
    return T


def flat(T):
    """(t, s, p, m) -> (t p, s m)."""
    return np.moveaxis(T, 1, 2).reshape(T.shape[0] * T.shape[2], T.shape[1] * T.shape[3])


def constant(sys, length):
    """A time-invariant diagonal system as a time-varying one that does not vary."""
    return DiagonalLTV(**{name: np.broadcast_to(getattr(sys, name), (length, *getattr(sys, name).shape)) for name in sys.AXES}, dt=sys.dt)


def rescaled(sys, seed=80):
    """The same map with other coordinates of the state, constant in time."""
    rng = np.random.default_rng(seed)
    s = np.exp(rng.normal(size=(*sys.batch_shape, sys.nstates)) + 1j * rng.normal(size=(*sys.batch_shape, sys.nstates)))
    return DiagonalLTV(log_poles=sys.log_poles, B=s[..., :, None] * sys.B, C=sys.C / s[..., None, :], D=sys.D, dt=sys.dt)
