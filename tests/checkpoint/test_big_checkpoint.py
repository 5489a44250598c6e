"""A checkpoint of 14.5 GB is opened, and its recurrent layers are read, in the memory that these take."""

import pytest

from tests.support.checkpoint_files import fresh, write_falcon_mamba
from tests.support.memory import needs_books

READ = """
import json
from ssm_analysis.checkpoint import open_tensors
from tests.support.memory import peak
with open_tensors({folder!r}) as store:
    opened = peak()
    for i in range(64):
        for key in {keys!r}:
            x = store.read(f"backbone.layers.{{i}}.mixer.{{key}}")
            assert x.dtype == "float64" and not x.any()
    facts = [len(store.shapes), sorted(set(store.dtypes.values())), store.config["model_type"], store.problems]
print(json.dumps([*facts, opened, peak()]))
"""


@pytest.fixture(scope="module")
def falcon_mamba(tmp_path_factory):
    folder = tmp_path_factory.mktemp("falcon")
    return folder, write_falcon_mamba(folder)


def test_it_is_as_large_as_the_published_one(falcon_mamba):
    """14.5 GB and 7.27 billion parameters: https://huggingface.co/tiiuae/falcon-mamba-7b."""
    folder, shapes = falcon_mamba
    files = list(folder.glob("*.safetensors"))
    assert 14.5e9 < sum(path.stat().st_size for path in files) < 14.6e9
    assert sum(512 * path.stat().st_blocks for path in files) < 1e6  # ... of holes
    assert shapes["backbone.layers.63.mixer.A_log"] == (8192, 16)


@needs_books
@pytest.mark.parametrize(
    ("keys", "megabytes"),
    # numpy and this package are 60 MB; the largest of the first keys has 1 MB in 64 bits, of the second 19 MB
    [(["A_log", "D", "dt_proj.bias"], 150), (["A_log", "D", "dt_proj.bias", "dt_proj.weight", "x_proj.weight", "conv1d.weight"], 250)],
    ids=["recurrence", "with the input-dependent step"],
)
def test_memory(falcon_mamba, keys, megabytes):
    folder, shapes = falcon_mamba
    tensors, dtypes, model, problems, opened, peak = fresh(READ.format(folder=str(folder), keys=keys))
    assert (tensors, dtypes, model, problems) == (len(shapes), ["bfloat16"], "falcon_mamba", [])
    assert opened < 150
    assert peak < megabytes


INSPECT = """
import json
from ssm_analysis.checkpoint.loading import find_layers
from ssm_analysis.inspection.inspect import rows_of_group
from tests.support.memory import peak
with find_layers({folder!r}) as found:
    rows = [row for group in found.groups[:5] for row in rows_of_group(found, group, norms=True)]
    count = len(found.groups)
print(json.dumps([count, [row["eigenvalues"] for row in rows], rows[0]["assumptions"]["mixer_rms_eps"], peak()]))
"""


@needs_books
def test_inspection_holds_one_layer_at_a_time(falcon_mamba):
    """In 64 bits one layer has 0.6 GB; those that follow it need no more."""
    groups, eigenvalues, epsilon, peak = fresh(INSPECT.format(folder=str(falcon_mamba[0])))
    assert (groups, eigenvalues) == (64, [8192 * 16] * 5)
    assert epsilon == {"value": 1e-6, "source": "file"}
    assert peak < 1500
