"""What a walk over a checkpoint computes, and how often."""

import inspect
import sys

import pytest

import ssm_analysis as ssm
from ssm_analysis.inspection.examined import examine
from ssm_analysis.plots.checkpoints import checkpoint_picture
from tests.support.stored_layers import SIZES, stored, trained

TIME_INVARIANT = [name for name in SIZES if not hasattr(ssm.FAMILIES[name], "along")]


def calls_of(function, act):
    """Return how often ``act`` calls ``function``, under whatever name and from wherever."""
    count, code = 0, inspect.unwrap(function).__code__

    def watch(frame, event, argument):
        nonlocal count
        count += event == "call" and frame.f_code is code

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count


def two_layers(family):
    one = stored(trained(family))
    return {**one, **{name.replace("blocks.3", "blocks.4"): x for name, x in one.items()}}


WALKS = {
    "inspect": (ssm.inspect, 1),
    "compare": (lambda source: ssm.compare(source, source), 2),  # the layers of both checkpoints
    "plot": (lambda source: checkpoint_picture("memory", source), 1),
}


@pytest.mark.parametrize("family", TIME_INVARIANT)
@pytest.mark.parametrize("walk", WALKS)
def test_the_system_of_a_layer_is_built_once(family, walk):
    act, checkpoints = WALKS[walk]
    source = two_layers(family)
    assert calls_of(ssm.FAMILIES[family].system, lambda: act(source)) == 2 * checkpoints


@pytest.mark.parametrize("family", TIME_INVARIANT)
def test_details_build_one_system_more_for_each_rounding(family):
    layer = trained(family)
    assert calls_of(ssm.FAMILIES[family].system, lambda: ssm.details(layer)) == 1 + 3  # fp32, bf16, fp16
    assert calls_of(ssm.FAMILIES[family].system, lambda: examine(layer)) == 1


def test_details_hold_tables():
    details = ssm.details(trained("s4d"))
    for name in ("damping", "memory", "peaks", "precision"):
        assert list(details[name].to_frame().columns) == list(details[name][0]), name
        assert details[name]._repr_html_().startswith("<table><caption>"), name
