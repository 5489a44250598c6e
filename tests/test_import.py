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


def test_import_loads_nothing_that_is_not_used():
    loaded = fresh("import json, sys, ssm_analysis; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))")
    assert not {*LATE, "numpy", "jaxtyping"} & set(loaded)


def test_every_public_name_can_be_had():
    """The list of ``__init__.pyi`` names what there is."""
    missing = fresh("""
import json, ssm_analysis
print(json.dumps([name for name in dir(ssm_analysis) if getattr(ssm_analysis, name, None) is None]))
""")
    assert missing == []


def test_functions_win_over_modules_of_the_same_name():
    loaded = fresh("""
import json, ssm_analysis, ssm_analysis.analyses.memory.lemma
print(json.dumps([type(getattr(ssm_analysis, name)).__name__ for name in ("memory", "inspect", "verify", "export", "capture", "plots")]))
""")
    assert loaded == [*["function"] * 5, "module"]


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
