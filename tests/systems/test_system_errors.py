"""What the containers refuse, and in which words."""

import numpy as np
import pytest
import torch

from ssm_analysis import DiagonalLTV, DiagonalRecurrence, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system
from tests.support.systems_table import INVARIANT, TIME_VARYING

ONE = np.ones((1, 1))


def one_pole(**changes):
    return {"log_poles": np.array([-0.5]), "B": ONE, "C": ONE, "D": ONE} | changes


def refusal(error, match, kind=DiagonalSSM, **changes):
    with pytest.raises(error, match=match):
        kind(**one_pole(**changes))


@pytest.mark.usefixtures("unchecked_annotations")
class TestRefusals:
    @pytest.mark.parametrize("name", ["log_poles", "B", "C", "D"])
    def test_lists(self, name):
        value = one_pole()[name].tolist()
        refusal(TypeError, rf"{name} must be an array \(numpy, torch, \.\.\.\), got list; wrap it, e\.g\. np\.asarray", **{name: value})

    @pytest.mark.parametrize("name", ["log_poles", "B", "C", "D"])
    @pytest.mark.parametrize("dtype", [np.int64, np.bool_])
    def test_whole_numbers(self, name, dtype):
        message = rf"{name} must hold real or complex floating-point numbers, got {np.dtype(dtype)}; convert it, e\.g\. to float64"
        refusal(TypeError, message, **{name: one_pole()[name].astype(dtype)})

    @pytest.mark.parametrize("name", ["log_poles", "B", "C", "D"])
    def test_two_libraries(self, name):
        message = rf"log_poles, B, C, D must be arrays of one library, got .*'{name}': 'torch.Tensor'"
        refusal(TypeError, message, **{name: torch.ones(one_pole()[name].shape)})

    @pytest.mark.parametrize("name", ["log_poles", "B", "C", "D"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, complex(0, np.inf)])
    @pytest.mark.parametrize("library", [np.asarray, torch.tensor])
    def test_entries_that_are_not_finite(self, name, value, library):
        fields = {key: library(np.full(x.shape, value) if key == name else x) for key, x in one_pole().items()}
        with pytest.raises(ValueError, match=f"{name} must be finite, got NaN or infinite entries"):
            DiagonalSSM(**fields)

    def test_pole_at_zero(self):
        refusal(
            ValueError, "log_poles must be finite.*; a pole at exactly 0 has no logarithm, use a StateSpace", log_poles=np.array([-np.inf])
        )

    @pytest.mark.parametrize("kind", [DiagonalSSM, RealDiagonalSSM])
    @pytest.mark.parametrize(
        ("name", "shape", "wanted"),
        [
            ("log_poles", (), r"\(\*batch, n\), got \(\)"),
            ("B", (1,), r"\(\*batch, n, m\), got \(1,\)"),
            ("B", (2, 1), r"\(\*batch, n, m\) with n = 1 as in log_poles, got \(2, 1\)"),
            ("B", (1, 0), r"\(\*batch, n, m\) with every system axis at least 1, got \(1, 0\)"),
            ("C", (1, 2), r"\(\*batch, p, n\) with n = 1 as in log_poles, got \(1, 2\)"),
            ("C", (0, 1), r"\(\*batch, p, n\) with every system axis at least 1, got \(0, 1\)"),
            ("D", (2, 1), r"\(\*batch, p, m\) with p = 1 as in C, got \(2, 1\)"),
            ("D", (1, 3), r"\(\*batch, p, m\) with m = 1 as in B, got \(1, 3\)"),
            ("D", (), r"\(\*batch, p, m\), got \(\)"),
        ],
    )
    def test_shapes_that_do_not_fit(self, kind, name, shape, wanted):
        refusal(ValueError, f"{name} must have shape {wanted}", kind, **{name: np.ones(shape)})

    def test_no_states(self):
        empty = np.ones((1, 0))
        refusal(ValueError, r"log_poles must have shape \(\*batch, n\) with every system axis at least 1, got \(0,\)",
                log_poles=np.ones(0), B=empty.T, C=empty)  # fmt: skip

    def test_dense_shapes(self):
        fields = {"B": ONE, "C": ONE, "D": ONE}
        with pytest.raises(ValueError, match=r"A must have shape \(\*batch, n, n\) with n = 1 as in A, got \(1, 2\)"):
            StateSpace(A=np.ones((1, 2)), **fields)
        with pytest.raises(ValueError, match=r"B must have shape \(\*batch, n, m\) with n = 2 as in A, got \(1, 1\)"):
            StateSpace(A=np.ones((2, 2)), **fields)
        with pytest.raises(ValueError, match=r"A must be finite, got NaN or infinite entries$"):
            StateSpace(A=np.nan * ONE, **fields)

    def test_batches_that_do_not_broadcast(self):
        message = r"the batch axes of log_poles, B, C, D must broadcast to one shape, got .*'B': \(2,\), 'C': \(3,\)"
        refusal(ValueError, message, B=np.ones((2, 1, 1)), C=np.ones((3, 1, 1)))

    @pytest.mark.parametrize("kind", [DiagonalLTV, DiagonalRecurrence])
    def test_no_time(self, kind):
        message = rf"a {kind.__name__} has time as axis 0, at least one step of it, got the time and batch axes \("
        refusal(ValueError, message + r"\)", kind)
        refusal(ValueError, message + r"0, 3\)", kind, B=np.ones((0, 3, 1, 1)))

    def test_complex_feedthrough_of_a_real_part(self):
        refusal(TypeError, "D of a RealDiagonalSSM must be real, got complex128", RealDiagonalSSM, D=ONE + 0j)

    @pytest.mark.parametrize("dt", [0, 0.0, -1.0, np.inf, np.nan])
    def test_sampling_periods_that_are_not_positive(self, dt):
        message = f"dt must be a positive sampling period, got {dt}; a continuous-time model is first discretized"
        refusal(ValueError, message, dt=dt)

    @pytest.mark.parametrize("dt", [True, None, "1", 1j, np.ones(1)])
    def test_sampling_periods_that_are_no_numbers(self, dt):
        refusal(TypeError, r"dt must be a number, the sampling period \(1 for one token\), got ", dt=dt)

    @pytest.mark.parametrize("kind", [DiagonalSSM, RealDiagonalSSM, StateSpace])
    def test_from_recurrence_checks_before_it_computes(self, kind):
        fields = {"B": ONE, "C": ONE, "D": ONE} | ({"A": ONE} if kind is StateSpace else {"log_poles": np.zeros(1)})
        with pytest.raises(ValueError, match=r"C must have shape \(\*batch, p, n\) with n = 1"):
            kind.from_recurrence(**(fields | {"C": np.ones((1, 2))}))
        with pytest.raises(TypeError, match="B must be an array"):
            kind.from_recurrence(**(fields | {"B": [[1.0]]}))
        with pytest.raises(ValueError, match="dt must be a positive sampling period, got 0"):
            kind.from_recurrence(**fields, dt=0)

    def test_recurrence_checks_its_values_when_it_becomes_a_system(self):
        fields = one_pole(log_poles=np.array([[np.nan]]))
        with pytest.raises(ValueError, match="log_poles must be finite"):
            DiagonalRecurrence(**fields).system()


def test_devices_are_compared():
    fields = {name: torch.ones(x.shape, device="meta" if name == "C" else "cpu") for name, x in one_pole().items()}
    with pytest.raises(ValueError, match=r"log_poles, B, C, D must lie on one device, got .*'C': 'meta'"):
        DiagonalSSM(**fields)


class FakeLayer:
    params: dict = {}  # noqa: RUF012

    def __init__(self, time_varying):
        self.time_varying = time_varying


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (INVARIANT["complex_siso"], None),
        (3, "norm takes one of DiagonalSSM, StateSpace, got int$"),
        (INVARIANT["realpart_siso"], "norm takes one of DiagonalSSM, StateSpace, got RealDiagonalSSM$"),
        (
            TIME_VARYING["ltv_real"],
            r"got DiagonalLTV; poles and gains of a time-varying system belong to one moment: pass sys\.frozen\(at\)$",
        ),
        (FakeLayer(time_varying=False), r"got FakeLayer; pass layer\.system\(\) of the layer$"),
        (FakeLayer(time_varying=True), r"got FakeLayer; pass layer\.along\(u\) of the layer$"),
    ],
)
def test_check_system_says_what_to_pass(given, message):
    if message is None:
        check_system(given, (DiagonalSSM, StateSpace), "norm")
        check_system(given, DiagonalSSM, "norm")
    else:
        with pytest.raises(TypeError, match=message):
            check_system(given, (DiagonalSSM, StateSpace), "norm")
