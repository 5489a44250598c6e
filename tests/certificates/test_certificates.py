"""What a certificate is: one property, one verdict, texts, JSON, a fingerprint; and what verify() refuses."""

import importlib
import json
import math
import pickle
from dataclasses import fields

import numpy as np
import pytest

from ssm_analysis import FAMILIES, DiagonalSSM, verify
from ssm_analysis.certificates import THEOREMS, LayerNorm, Quantity, RMSNorm
from ssm_analysis.certificates.certificate import INPUT_BOUND, VERDICTS, fingerprint, half_life
from ssm_analysis.certificates.question import PROPERTIES
from tests.support.every_family import EVERY_FAMILY
from tests.support.families_table import d_model, fresh, trained, with_options, with_params


@pytest.fixture(scope="module")
def certificates():
    return {family: verify(trained(fresh(family)), input_radius=1.0, effort="fast", l1_below=1e3) for family in EVERY_FAMILY}


def test_one_certificate_for_each_property(certificates):
    for found in certificates.values():
        properties = [c.property for c in found]
        assert len(set(properties)) == len(properties)
        assert set(PROPERTIES) | {f"{p}:{d}" for p in ("pole_inside", "no_overflow") for d in ("fp32", "bf16", "fp16")} <= set(properties)
        assert "l1_below" in properties
        assert {c.verdict for c in found} <= set(VERDICTS)


def test_json_holds_everything_and_no_infinities(certificates):
    for found in certificates.values():
        for c in found:
            plain = json.loads(c.to_json())
            assert (plain["property"], plain["verdict"], plain["sha256"]) == (c.property, c.verdict, c.sha256)
            assert set(plain["quantities"]) == set(c.quantities)
            assert (plain["witness"] is not None) == (c.verdict == "refuted")


def test_texts_begin_with_the_verdict_and_name_theorem_and_assumptions(certificates):
    for found in certificates.values():
        for c in found:
            assert str(c).startswith(f"{c.verdict} {c.property}")
            page = c.explain()
            assert page.startswith(str(c).splitlines()[0])
            assert c.sha256 in page
            assert c.reason in page
            if c.theorem:
                assert THEOREMS[c.theorem].statement in page
            for text in c.assumptions:
                assert text in page


def test_decided_certificates_name_a_theorem_and_undecided_ones_a_reason(certificates):
    for found in certificates.values():
        for c in found:
            assert bool(c.reason) == (c.verdict == "undecided")
            if c.verdict != "undecided":
                assert c.theorem
                assert c.rigor != "none"
            if c.verdict == "refuted":
                assert c.witness.replay().violated
                assert c.witness.describe() in str(c)


def test_the_fingerprint_changes_with_a_bit_and_with_an_option():
    layer = fresh("s4d")
    A = np.array(layer.params["A_real"])
    A[0, 0] = np.nextafter(A[0, 0], 1)
    first = fingerprint(layer)
    assert len(first) == 64
    assert first == fingerprint(fresh("s4d"))
    assert first != fingerprint(with_params(layer, A_real=A))
    assert first != fingerprint(fresh("s4d", disc="bilinear"))
    assert verify(layer)[0].sha256 == first


def test_half_lives():
    assert half_life(Quantity(lower=math.log(2) / 100, upper=1.0, unit="")) == "at most 100 tokens"
    assert half_life(Quantity(lower=0.0, upper=math.log(2) / 50, unit="")) == "at least 50 tokens, no bound from above"
    assert half_life(Quantity(lower=0.0, upper=0.0, unit="")) == "without bound"


def test_costs_are_seconds(certificates):
    assert all(0 <= c.cost_s < 60 for found in certificates.values() for c in found)


def test_a_dictionary_gives_a_dictionary():
    layers = {"a": fresh("s6", d_model=4), "b": fresh("lru", d_model=4)}
    found = verify(layers, norm={"a": RMSNorm(weight=np.ones(4))}, dtypes=[])
    assert list(found) == ["a", "b"]
    assert {c.property: c.verdict for c in found["a"]}["bounded_state"] == "proved"
    both = verify(layers, norm=LayerNorm(weight=np.ones(4), bias=np.zeros(4)), dtypes=[])
    assert both["b"][0].assumptions == ("the input of the layer comes from a LayerNorm, as real numbers",)


def test_torch_and_32_bit_parameters_are_lifted_exactly():
    torch = pytest.importorskip("torch")
    layer = fresh("s6", d_model=4).map(lambda x: x.astype(np.float32))
    ours, theirs = (verify(v, input_radius=1.0, dtypes=[]) for v in (layer, layer.map(torch.tensor)))
    assert [c.verdict for c in ours] == [c.verdict for c in theirs]
    assert ours[0].sha256 == theirs[0].sha256
    assert dict(ours[3].quantities) == dict(theirs[3].quantities)


def test_theorems_are_complete_texts():
    assert len(THEOREMS) >= 20
    for key, theorem in THEOREMS.items():
        assert key == theorem.key
        for text in (theorem.title, theorem.statement, theorem.hypotheses, theorem.proof, theorem.silent):
            assert text


@pytest.mark.parametrize("family", FAMILIES)
def test_the_theorems_cover_every_option_of_their_family(family):
    """Whoever adds an option says whether the theorems hold with it; one that they do not cover leads to undecided."""
    covered = importlib.import_module(f"ssm_analysis.families.{family}.certificate").COVERED
    assert set(covered) == {field.name for field in fields(FAMILIES[family].options)}


def test_an_option_that_no_theorem_covers_leaves_all_undecided(monkeypatch):
    monkeypatch.setattr("ssm_analysis.families.rg_lru.certificate.COVERED", ("c", "reset_first"))
    assert all(c.verdict == "undecided" for c in verify(with_options(fresh("rg_lru"), epsilon=1e-6), input_radius=1.0))
    assert any(c.verdict == "proved" for c in verify(fresh("rg_lru"), input_radius=1.0))


def a_system():
    return DiagonalSSM(log_poles=np.array([-1.0]), B=np.ones((1, 1)), C=np.ones((1, 1)), D=np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input_radius": -1.0}, ValueError, "input_radius must be a positive number"),
        ({"input_radius": math.inf}, ValueError, "input_radius must be a positive number"),
        ({"norm": RMSNorm(weight=np.ones(1)), "input_radius": 1.0}, ValueError, "give one of them"),
        ({"norm": RMSNorm(weight=np.ones(3))}, ValueError, "the weight of the norm must have the shape"),
        ({"norm": {}}, TypeError, "norm is a dictionary only where"),
        ({"hinf_below": 0.0}, ValueError, "hinf_below must be a positive number"),
        ({"l1_below": math.nan}, ValueError, "l1_below must be a positive number"),
        ({"dtypes": ["fp8"]}, ValueError, "dtypes must be a sequence of fp32, bf16, fp16"),
        ({"effort": "high"}, ValueError, "effort must be one of fast, tight, witness"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_wrong_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        verify(a_system(), **options)


@pytest.mark.usefixtures("unchecked_annotations")
def test_wrong_subjects_and_norms_are_refused():
    with pytest.raises(TypeError, match="verify takes a Layer"):
        verify(3)
    with pytest.raises(TypeError, match="norm must be an RMSNorm or a LayerNorm"):
        verify(a_system(), norm=3)
    with pytest.raises(ValueError, match="norm names layers that there are not: 'b'"):
        verify({"a": fresh("lru")}, norm={"b": RMSNorm(weight=np.ones(1))})
    with pytest.raises(ValueError, match="weight of a RMSNorm must be finite"):
        RMSNorm(weight=np.array([np.nan]))
    with pytest.raises(TypeError, match="bias of a LayerNorm must be an array with one axis"):
        LayerNorm(weight=np.ones(2), bias=np.ones((2, 1)))
    with pytest.raises(ValueError, match="bias of a LayerNorm must have the shape of weight"):
        LayerNorm(weight=np.ones(2), bias=np.ones(3))
    with pytest.raises(ValueError, match="eps of a RMSNorm must be a number from 0 on"):
        RMSNorm(weight=np.ones(2), eps=-1.0)


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_the_width_of_the_input_is_that_of_the_layer(family):
    layer = trained(fresh(family))
    assert verify(layer, norm=RMSNorm(weight=np.ones(d_model(layer))), dtypes=[], effort="fast")


def test_certificates_pickle(certificates):
    for some in certificates.values():
        for one, copy in zip(some, pickle.loads(pickle.dumps(some)), strict=True):
            assert copy.to_dict() == one.to_dict()
            assert copy.cause == one.cause


def test_what_an_undecided_property_needs_is_data():
    found = {c.property: c for c in verify(fresh("s6"), dtypes=[])}
    assert found["bounded_state"].needs == {INPUT_BOUND}
    assert not found["non_expansive"].needs


def test_types_go_by_both_of_their_names():
    long, short = (verify(fresh("lru"), input_radius=1.0, dtypes=dtypes) for dtypes in (["bfloat16", "float16"], ["bf16", "fp16"]))
    assert [c.headline for c in long] == [c.headline for c in short]
