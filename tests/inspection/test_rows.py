"""Rows of inspect and compare in the hands of pandas and of notebooks."""

import sys

import numpy as np
import pytest

import ssm_analysis as ssm
from tests.support.families_table import fresh


@pytest.fixture
def layers():
    return {f"layers.{i}.core.{name}": np.array(x) for i in range(2) for name, x in fresh("lru").params.items()}


def test_a_frame_has_a_row_for_each_layer(layers):
    rows = ssm.inspect(layers)
    frame = rows.to_frame()
    assert list(frame["name"]) == ["layers.0.core", "layers.1.core"]
    assert list(frame.columns) == list(rows[0])
    np.testing.assert_array_equal(frame["abs_max"], [row["abs_max"] for row in rows])


def test_a_comparison_is_rows_too(layers):
    rows = ssm.compare(layers, layers)
    assert list(rows.to_frame()["name"]) == ["layers.0.core", "layers.1.core"]
    assert "against" in rows.description


def test_without_pandas_the_message_says_what_to_install(layers, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"to_frame\(\) needs pandas: pip install 'ssm-analysis\[frame\]'"):
        ssm.inspect(layers).to_frame()


def test_notebooks_show_a_table_in_which_names_from_files_are_text(layers):
    hostile = {name.replace("layers.0", "<script>"): x for name, x in layers.items()}
    page = ssm.inspect(hostile)._repr_html_()
    assert page.startswith("<table>")
    assert "<script>" not in page
    assert "&lt;script&gt;.core" in page
