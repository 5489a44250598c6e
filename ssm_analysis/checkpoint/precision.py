"""Which stored precisions are numbers, and their exact lift to 64 bits."""

import numpy as np

_NUMPY = frozenset({
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "complex64", "complex128",
})  # fmt: skip
SMALL_INTEGERS = frozenset({
    "int2", "uint2", "int4", "uint4",
})  # fmt: skip
_SMALL_FLOATS = frozenset({
    "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn",
})  # fmt: skip


def numpy_dtype(name: str) -> np.dtype | None:
    """Return the little-endian dtype of that name; None where it is not a number, or one that 64 bits do not hold exactly.

    Only names of a closed list: ``np.dtype`` itself understands a language of its own, which files have no business to speak.
    """
    if name in _NUMPY:
        return np.dtype(name).newbyteorder("<")
    if name in _SMALL_FLOATS | SMALL_INTEGERS:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else None
    return None


def lift(x: np.ndarray) -> np.ndarray:
    """Return the same numbers in float64, complex128, or the integers they are."""
    name = x.dtype.name
    if name in SMALL_INTEGERS:
        return x.astype(np.int8 if name.startswith("int") else np.uint8)
    with np.errstate(invalid="ignore"):  # signaling NaNs, which damaged files hold, become quiet ones
        if x.dtype.kind == "c":
            return x.astype(np.complex128, copy=False)
        if x.dtype.kind == "f" or name in _SMALL_FLOATS:
            return x.astype(np.float64, copy=False)
    return x.astype(x.dtype.newbyteorder("="), copy=False)
