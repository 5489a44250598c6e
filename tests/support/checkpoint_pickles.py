"""Pickles put together by hand, opcode by opcode, and the torch files around them."""

import pickle
import struct
import zipfile

import numpy as np


def text(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def integer(n):
    return b"J" + struct.pack("<i", n) if abs(n) < 2**31 else b"\x8a\x09" + n.to_bytes(9, "little", signed=True)


def sequence(*items):
    return b"(" + b"".join(items) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def call(module, attribute, *arguments):
    return name(module, attribute) + sequence(*arguments) + b"R"


def tensor(shape=(2,), stride=(1,), offset=0, numel=16, view=()):
    """A view of 16 float32 numbers; files of before torch 1.6 have one thing more to say of a storage, usually None."""
    storage = sequence(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), integer(numel), *view) + b"Q"
    shape, stride = (sequence(*map(integer, x)) for x in (shape, stride))
    return call("torch._utils", "_rebuild_tensor_v2", storage, integer(offset), shape, stride, b"\x89", call("collections", "OrderedDict"))


def dictionary(**items):
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in items.items()) + b"u."


def torch_archive(path, pickled, *, method=zipfile.ZIP_STORED, extra=()):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/byteorder", "little")
        archive.writestr("x/version", "3\n")
        archive.writestr("x/data/0", np.arange(16, dtype="<f4").tobytes())
        for entry, data in extra:
            archive.writestr(entry, data)
    return path


def torch_legacy(path, pickled):
    head = [pickle.dumps(x, protocol=2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "type_sizes": {}})]
    path.write_bytes(b"".join(head) + pickled + pickle.dumps(["0"], protocol=2) + struct.pack("<q", 16) + bytes(64))
    return path
