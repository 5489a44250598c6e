"""A batch of systems is indexed, iterated and broadcast like an array of systems, in the manner of its library."""

import numpy as np
import pytest
import torch

from ssm_analysis import DiagonalLTV, DiagonalSSM
from tests.support.systems_table import INVARIANT, LENGTH, in_torch, random_fields

TALL = DiagonalSSM(**random_fields(72, 2, 1, 1, batch=(4, 3, 2)))
TALL_LTV = DiagonalLTV(**random_fields(73, 2, 1, 1, batch=(5, 4, 3, 2)))
MASK = np.array([True, False, True, True])
INDICES = {
    "int": 1,
    "negative": -1,
    "numpy_int": np.int64(2),
    "slice": slice(1, None),
    "empty_slice": slice(0, 0),
    "step": slice(None, None, 2),
    "ints": (1, 2),
    "all_ints": (1, 2, 0),
    "ellipsis": ...,
    "ellipsis_last": (..., 1),
    "ellipsis_middle": (1, ..., 0),
    "ellipsis_for_nothing": (1, 2, ..., 0),
    "none": None,
    "none_inside": (1, None, slice(1)),
    "none_after_ellipsis": (..., None),
    "array": np.array([2, 0]),
    "array_2d": np.array([[0, 1], [2, 3]]),
    "array_2d_last": (..., np.array([[0, 1], [1, 0]])),
    "two_arrays_2d": (np.array([[0, 1], [2, 3]]), np.array([[0, 1], [2, 0]])),
    "list": [2, 0],
    "empty_list": [],
    "list_last": (..., [1, 0, 1]),
    "two_arrays": (np.array([0, 1]), np.array([2, 0])),
    "two_arrays_apart": (np.array([0, 1, 2]), slice(None), np.array([1, 0, 1])),
    "int_and_array_apart": (0, slice(None), np.array([1, 0, 1])),
    "mask": MASK,
    "mask_list": [True, False, True, True],
    "mask_2d": np.arange(12).reshape(4, 3) % 5 == 0,
    "mask_3d": np.arange(24).reshape(4, 3, 2) % 5 == 0,
    "mask_3d_list": (np.arange(24).reshape(4, 3, 2) % 5 == 0).tolist(),
    "mask_2d_last": (..., np.arange(6).reshape(3, 2) % 4 == 0),
    "mask_2d_list_last": (..., (np.arange(6).reshape(3, 2) % 4 == 0).tolist()),
    "mask_2d_and_int": (np.arange(12).reshape(4, 3) % 5 == 0, 1),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
@pytest.mark.parametrize("sys", [TALL, TALL_LTV], ids=["invariant", "varying"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_indexing_is_that_of_an_array_of_systems(sys, index, library):
    numbers, parts = np.arange(24).reshape(4, 3, 2), index if isinstance(index, tuple) else (index,)
    if library == "torch":  # which has its own order of axes for a number and an array apart
        sys, numbers = in_torch(sys), torch.tensor(numbers)
        parts = tuple(torch.tensor(p) if isinstance(p, list | np.ndarray) and len(p) else p for p in parts)
    numbers = np.asarray(numbers[parts])
    found = sys[index]
    assert found.batch_shape == numbers.shape
    assert found.nstates == sys.nstates
    for name, axes in sys.AXES.items():
        field = np.asarray(getattr(found, name))
        flat = np.reshape(np.asarray(getattr(sys, name)), (*(5,) * sys.TIME_AXES, 24, *field.shape[field.ndim - len(axes) :]))
        np.testing.assert_array_equal(field, flat[:, numbers] if sys.TIME_AXES else flat[numbers])


@pytest.mark.parametrize("sys", [TALL, TALL_LTV], ids=["invariant", "varying"])
@pytest.mark.parametrize("index", [(0, 0, 0, 0), (0, 0, 0, slice(None)), (..., 0, 0, 0, 0), np.ones((4, 3, 2, 1), bool), (MASK, 0, 0, 0)])
def test_an_index_never_reaches_into_a_system(sys, index):
    with pytest.raises(IndexError, match=r"the batch shape is \(4, 3, 2\), got 4 indices"):
        sys[index]
    with pytest.raises(IndexError, match=r"the batch shape is \(\), got 1 indices: 0"):
        sys[0, 0, 0][0]


@pytest.mark.parametrize("sys", [TALL, TALL_LTV, in_torch(TALL), in_torch(TALL_LTV)])
def test_an_index_outside_raises(sys):
    with pytest.raises(IndexError):
        sys[4]
    with pytest.raises(IndexError):
        sys[np.array([0, 4])]


def test_indexing_keeps_dt():
    assert INVARIANT["complex_half_period"][None].dt == 0.5


@pytest.mark.parametrize("sys", [TALL, TALL_LTV], ids=["invariant", "varying"])
def test_iteration_and_length(sys):
    assert len(sys) == 4
    members = list(sys)
    assert [member.batch_shape for member in members] == [(3, 2)] * 4
    np.testing.assert_array_equal(members[2].B, sys[2].B)
    for f in (len, iter, list):
        with pytest.raises(TypeError, match=r"a single system has no length; its batch shape is \(\)"):
            f(sys[0, 0, 0])


def test_batch_axes_broadcast():
    rng = np.random.default_rng(74)
    log_poles, B, C, D = -rng.random((3, 1, 2)), rng.normal(size=(2, 1)), rng.normal(size=(4, 1, 2)), rng.normal(size=(3, 4, 1, 1))
    sys = DiagonalSSM(log_poles=log_poles, B=B, C=C, D=D)
    assert sys.batch_shape == (3, 4)
    assert (sys.nstates, sys.ninputs, sys.noutputs) == (2, 1, 1)
    G = sys(2.0)
    for i, j in np.ndindex(3, 4):
        np.testing.assert_allclose(G[i, j], DiagonalSSM(log_poles=log_poles[i, 0], B=B, C=C[j], D=D[i, j])(2.0), rtol=1e-14)


def test_time_varying_fields_without_time_are_constant():
    f = random_fields(75, 2, 1, 1, batch=(LENGTH, 3))
    sys = DiagonalLTV(**(f | {"C": f["C"][0]}))
    assert sys.batch_shape == (3,)
    np.testing.assert_array_equal(sys.frozen(7).C, f["C"][0])
