"""What ``import ssm_analysis`` loads, in a fresh process."""

import json
import subprocess
import sys

import pytest

LATE = ["torch", "matplotlib", "control", "scipy", "flint", "rich"]
"""Loaded by the functions that need them."""


def fresh(code):
    """What ``code`` prints, as JSON, in a new interpreter without the checks of this test run."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(run.stdout)


def test_import_loads_the_array_library_and_no_more():
    loaded = fresh("import json, sys, ssm_analysis; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))")
    assert {"numpy", "array_api_compat", "jaxtyping"} <= set(loaded)
    assert not set(LATE) & set(loaded)


def test_import_takes_little_longer_than_its_dependencies():
    """At most as long again as numpy, jaxtyping and array-api-compat themselves, at the best of a few tries."""
    code = """
import json, time
start = time.perf_counter()
import numpy, jaxtyping, array_api_compat
middle = time.perf_counter()
import ssm_analysis
print(json.dumps([middle - start, time.perf_counter() - middle]))
"""
    tries = [fresh(code) for _ in range(4)]
    assert min(ours for _, ours in tries) < min(theirs for theirs, _ in tries) + 0.1


def test_numpy_work_loads_nothing_late():
    """From building to simulating."""
    code = """
import json, sys, numpy as np, ssm_analysis as ssm
one = np.ones((1, 1))
system = ssm.RealDiagonalSSM(log_poles=np.array([-0.1 + 1j]), B=one + 0j, C=one + 0j, D=one)
ssm.simulate(system, np.ones((8, 1))), ssm.frequency_response(system, np.ones(3)), system(2.0), system.expand().poles(), repr(system[None])
print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))
"""
    assert not set(LATE) & set(fresh(code))


@pytest.mark.parametrize(
    "name", ["DiagonalSSM", "RealDiagonalSSM", "StateSpace", "DiagonalLTV", "DiagonalRecurrence", "simulate", "frequency_response"]
)
def test_public_names(name):
    import ssm_analysis

    assert getattr(ssm_analysis, name).__name__ == name
