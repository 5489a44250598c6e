"""Inspection of a checkpoint shaped like Falcon-Mamba-7B, 14.5 GB of holes, beside reading the tensors of its recurrent layers."""

import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import ssm_analysis as ssm
from benchmarks.measure import Contender, Job
from ssm_analysis.checkpoint.loading import find_layers


def inspection_of_a_large_checkpoint() -> Job:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the writer is that of the tests
    from tests.support.checkpoint_files import write_falcon_mamba

    folder = Path(tempfile.mkdtemp())
    write_falcon_mamba(folder)

    def read() -> None:
        with find_layers(folder) as found:
            for group in found.groups:
                group.read(found.store)

    def accuracy() -> str:
        rows = ssm.inspect(folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        return f"{len(rows)} layers, {sum(row['eigenvalues'] for row in rows):,} eigenvalues; peak {peak:.2f} GB of the whole process"

    return Job(
        name="inspect 64 layers x 8,192 channels x 16 states, 14.5 GB in bfloat16",
        ours=Contender(name="ours", run=lambda: ssm.inspect(folder)),
        peers=[Contender(name="only reading these tensors", run=read)],
        target="a small multiple, < 1.5 GB",
        accuracy=accuracy,
    )


JOBS: list[Callable[[], Job]] = [inspection_of_a_large_checkpoint]
