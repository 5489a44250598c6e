"""Every command of ``ssm-analysis`` on small files, in an environment with nothing but the package and its dependencies."""

import importlib
import json
import pkgutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import ssm_analysis as ssm
from ssm_analysis.cli import COMMANDS
from ssm_analysis.cli.plot import PICTURES

PROGRAM = Path(sys.executable).with_name("ssm-analysis")
PROVED_OR_NOT = (0, 1, 3)
"""Exit codes of a verdict."""


def main() -> None:
    """Write the files, import every module, run every command."""
    absent = [name for name in ("torch", "pytest", "transformers", "slycot") if find_spec(name)]
    assert not absent, f"this is no plain install: {absent} can be imported"
    write_files()
    for module in pkgutil.walk_packages(ssm.__path__, "ssm_analysis."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    names = [name for name in ssm.__all__ if getattr(ssm, name) is None]
    assert not names, f"public names without a value: {names}"
    walked = {arguments[0] for arguments, _ in list_runs()}
    commands = {command.__name__.rpartition(".")[2] for command in COMMANDS}
    assert walked == commands, f"the walk leaves out {commands - walked}"
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(run, *zip(*list_runs(), strict=True)))
    sys.stdout.write(f"{len(list_runs())} commands ran in a plain install\n")


def write_files() -> None:
    """Write one layer of every family as npz, all of them as safetensors, and an input."""
    rng = np.random.default_rng(0)
    stacked = {}
    for number, (name, family) in enumerate(ssm.FAMILIES.items()):
        params = family.init(d_model=4, seed=0).params
        np.savez(f"{name}.npz", **{f"layers.0.{key}": value for key, value in params.items()})
        stacked |= {f"layers.{number}.{key}": np.ascontiguousarray(value) for key, value in params.items()}
    save_file({key: value for key, value in stacked.items() if not np.iscomplexobj(value)}, "real.safetensors")
    np.savez("all.npz", **stacked)
    np.save("input.npy", rng.standard_normal((16, 4)))


def list_runs() -> list[tuple[list[str], tuple[int, ...]]]:
    """List the arguments of each run and the exit codes that are right for it."""
    lines = [
        "families",
        "families --json",
        "figure --state-size 8 --d-model 4 --out figure.png",
        "figure --state-size 8 --d-model 4 --json",
        "inspect all.npz",
        "inspect all.npz --json",
        "inspect all.npz --csv",
        "inspect all.npz --against all.npz",
        "inspect real.safetensors --no-norms",
        *(f"inspect {name}.npz --layer layers.0" for name in ssm.FAMILIES),
        *(f"plot all.npz {picture} --out {picture}.png" for picture in PICTURES),
        "plot s5.npz bode --layer layers.0 --out layer.svg",
        *(f"export s5.npz --layer layers.0 --to {form} --out exported.{ending}" for form, ending in FORMATS.items()),
        *(f"export s6.npz --layer layers.0 --to {form} --input input.npy --out exported_s6.{form}" for form in ("npz", "mat")),
    ]
    verify = "verify all.npz --input-radius 1"
    return [
        *((line.split(), (0,)) for line in lines),
        (f"{verify} --effort fast".split(), PROVED_OR_NOT),
        (f"{verify} --effort witness --dtype bf16 --json".split(), PROVED_OR_NOT),
        (f"{verify} --effort fast --property bounded_state --explain".split(), PROVED_OR_NOT),
        (["inspect", "missing.npz"], (2,)),
        (["verify", "missing.npz"], (2,)),
    ]


FORMATS = {"npz": "npz", "mat": "mat", "control-script": "py"}


def run(arguments: list[str], allowed: tuple[int, ...]) -> None:
    """Run the program once and judge its exit code and what it prints."""
    done = subprocess.run([PROGRAM, *arguments], check=False, capture_output=True, text=True, timeout=300)
    told = f"ssm-analysis {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert done.returncode in allowed, told
    assert not any(word in done.stderr for word in ("Traceback", "ModuleNotFoundError", "No module named")), told
    if "--json" in arguments:
        json.loads(done.stdout)


if __name__ == "__main__":
    main()
