"""What is written is read back by the tools it is for, and does what the layer does."""

import ast
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
import scipy.signal

import ssm_analysis as ssm
from ssm_analysis.inspection.export import FORMATS, to_scipy
from tests.support.every_family import SELECTIVE_FAMILIES, TIME_INVARIANT_FAMILIES
from tests.support.stored_layers import NAME, sizes_of, trained

LENGTH = 12


def input_of(layer, length=LENGTH):
    return np.random.default_rng(3).standard_normal((length, sizes_of(layer.family)["d_model"]))


def run(A, B, C, D, u):
    """x[k+1] = A x[k] + B u[k], y[k] = C x[k] + D u[k], one system."""
    x, y = np.zeros(len(A)), []
    for u_k in u:
        y.append(C @ x + D @ u_k)
        x = A @ x + B @ u_k
    return np.stack(y)


@pytest.mark.parametrize("family", TIME_INVARIANT_FAMILIES)
def test_matrices_run_by_hand_are_the_layer(family):
    layer = trained(family)
    u = layer.core_input(input_of(layer))
    got = ssm.matrices(layer)
    assert all(np.isrealobj(x) for x in got.values())
    A, B, C, D = (got[name].reshape(-1, *got[name].shape[-2:]) for name in "ABCD")
    want = ssm.simulate(layer.system(), u).reshape(LENGTH, len(A), -1)
    for i, signal in enumerate(np.moveaxis(u.reshape(LENGTH, len(A), -1), 1, 0)):
        np.testing.assert_allclose(run(A[i], B[i], C[i], D[i], signal), want[:, i], rtol=1e-9, atol=1e-11)
    assert got["dt"] == 1


@pytest.mark.parametrize("family", SELECTIVE_FAMILIES)
def test_matrices_along_an_input_run_by_hand_are_the_layer(family):
    layer = trained(family)
    u = input_of(layer)
    got = ssm.matrices(layer, u=u)
    x, y = np.zeros(got["log_poles"].shape[1:]), []
    for k in range(LENGTH):
        y.append((got["C"][k] @ x[..., None] + got["D"][k] @ got["x"][k][..., None])[..., 0])
        x = np.exp(got["log_poles"][k]) * x + (got["B"][k] @ got["x"][k][..., None])[..., 0]
    np.testing.assert_allclose(got["y"], np.stack(y), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got["y"].reshape(LENGTH, -1), layer.reference(u).reshape(LENGTH, -1), rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(got["u"], u)


def test_matrices_of_single_precision_torch_parameters_are_lifted():
    torch = pytest.importorskip("torch")
    layer = trained("lru").map(lambda x: torch.tensor(np.array(x), dtype=torch.float32))
    got = ssm.matrices(layer)
    assert {x.dtype for x in got.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("family", ["s4d", "s5"])
def test_npz(family, tmp_path):
    layer = trained(family)
    (path,) = ssm.export(layer, tmp_path / "layer.npz", to="npz")
    with np.load(path, allow_pickle=False) as data:
        for name, x in ssm.matrices(layer).items():
            np.testing.assert_array_equal(data[name], x)
        about = json.loads(str(data["about"]))
    assert (about["layer"], about["family"]) == (NAME, family)
    assert about["convention"] == "x[k+1] = A x[k] + B u[k], y[k] = C x[k] + D u[k]"
    assert about["assumed"] == {
        name: [str(value), "initialization"] for name, value in {n: a.value for n, a in layer.assumptions.items()}.items()
    }
    assert [file.name for file in tmp_path.iterdir()] == ["layer.npz"]


@pytest.mark.parametrize("family", ["s4d", "lru", "s6"])
def test_mat(family, tmp_path):
    """MATLAB's ss(A, B, C, D, 1) wants the batch last; one moment of a selective layer stays where it is."""
    layer = trained(family)
    u = input_of(layer) if layer.time_varying else None
    ssm.export(layer, tmp_path / "layer.mat", to="mat", u=u)
    data, want = scipy.io.loadmat(tmp_path / "layer.mat"), ssm.matrices(layer, u=u)
    assert float(data["dt"].squeeze()) == 1
    if family == "s4d":
        assert data["A"].shape == (8, 8, 3)
        for i in range(3):
            for name in "ABCD":
                np.testing.assert_array_equal(data[name][..., i], want[name][i])
    else:
        for name in set(want) - {"dt"}:
            np.testing.assert_array_equal(data[name], want[name])


@pytest.mark.parametrize("family", ["s4d", "lru"])
def test_script_for_python_control(family, tmp_path):
    """It runs in a process of its own that cannot import this package, and its system is the layer's."""
    layer = trained(family)
    written = ssm.export(layer, tmp_path / "layer.py", to="control-script")
    assert [path.name for path in written] == ["layer.py", "layer.npz"]
    ask = (
        "import sys; sys.modules['ssm_analysis'] = None; import matplotlib; matplotlib.use('agg'); import layer, json, numpy as np;"
        "sys = layer.system(); w = [0.1, 1.0, 2.5]; g = sys(np.exp(1j * np.array(w)), squeeze=False);"
        "print(json.dumps([sys.dt, g.real.ravel().tolist(), g.imag.ravel().tolist()]))"
    )
    out = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    dt, real, imag = json.loads(out.stdout)
    one = layer.system() if not layer.system().batch_shape else layer.system()[0]
    want = np.moveaxis(ssm.frequency_response(one, np.array([0.1, 1.0, 2.5])), 0, -1)  # control: outputs, inputs, frequencies
    assert dt == 1
    np.testing.assert_allclose(np.array(real) + 1j * np.array(imag), want.ravel(), rtol=1e-8, atol=1e-10)


def test_script_runs_as_a_program(tmp_path):
    ssm.export(trained("s4d"), tmp_path / "layer.py", to="control-script")
    out = subprocess.run(
        [sys.executable, "layer.py"], cwd=tmp_path, capture_output=True, text=True, check=True, env={"MPLBACKEND": "agg", "PATH": ""}
    )
    assert out.stdout.startswith("8 states, largest |pole| 0.9")


@pytest.mark.parametrize("name", ['a"""; raise SystemExit("x") #', "a{b}\\n", "x\n'''", '\\"', "\\", "\ud800"])
def test_no_name_of_a_layer_gets_into_the_code_of_the_script(name, tmp_path):
    """Names come from files that others wrote."""
    (path, _) = ssm.export(replace(trained("s4d"), name=name), tmp_path / "layer.py", to="control-script")
    (tmp_path / "usual").mkdir()
    (usual, _) = ssm.export(trained("s4d"), tmp_path / "usual" / "layer.py", to="control-script")
    codes = [ast.dump(ast.Module(ast.parse(p.read_text(encoding="utf-8")).body[1:], [])) for p in (path, usual)]
    assert codes[0] == codes[1]


@pytest.mark.parametrize("family", ["s4d", "s4", "lru"])
def test_to_scipy_is_to_control(family):
    sys = trained(family).system()
    one = sys[0] if sys.batch_shape else sys
    ours, theirs = to_scipy(one), one.to_control()
    assert isinstance(ours, scipy.signal.StateSpace)
    assert ours.dt == theirs.dt == 1
    for name in "ABCD":
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    if ours.inputs == 1:
        z = np.exp(1j * np.array([0.3, 1.7]))
        _, response = scipy.signal.dfreqresp(ours, w=[0.3, 1.7])
        np.testing.assert_allclose(response, theirs(z), rtol=1e-6)


def test_to_scipy_takes_one_system():
    with pytest.raises(ValueError, match=r"to_scipy\(\) takes one system, got the batch shape \(3,\); index it first, e.g. sys\[0\]"):
        to_scipy(trained("s4d").system())


@pytest.mark.parametrize(
    ("family", "to", "file", "u", "message"),
    [
        ("lru", "csv", "a.csv", None, "the format must be one of npz, mat, control-script, got 'csv'"),
        ("lru", "mat", "a.npz", None, r"a mat file must end in .mat, got "),
        ("s6", "control-script", "a.py", None, "is time-varying, which python-control does not describe"),
        ("s6", "npz", "a.npz", None, "depends on its input: it has matrices along an input alone"),
        ("lru", "npz", "a.npz", np.zeros((3, 3)), "does not depend on its input; leave u out"),
    ],
)
def test_refusals(family, to, file, u, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ssm.export(trained(family), tmp_path / file, to=to, u=u)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_a_failure_leaves_what_was_there(to, tmp_path, monkeypatch):
    path = tmp_path / f"layer{FORMATS[to]}"
    path.write_text("older")

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(scipy.io, "savemat", full)
    with pytest.raises(OSError, match="No space left"):
        ssm.export(trained("lru"), path, to=to)
    assert path.read_text() == "older"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
