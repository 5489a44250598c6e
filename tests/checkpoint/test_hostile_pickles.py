"""Pickles that try to run code, to reach outside their data or to fill the memory: nothing of them is run."""

import pickle
import zipfile

import pytest

from ssm_analysis.checkpoint import CheckpointError, open_tensors
from ssm_analysis.checkpoint.containers import trees
from tests.support.checkpoint_pickles import call, dictionary, integer, name, sequence, tensor, text, torch_archive, torch_legacy


class TestPickles:
    def attacks(self, marker):
        code = text(f"open({str(marker)!r}, 'w')")
        touch = text(f"touch {marker}")
        return {
            "posix.system": call("posix", "system", touch),
            "os.system": call("os", "system", touch),
            "nt.system": call("nt", "system", touch),
            "subprocess.Popen": call("subprocess", "Popen", sequence(text("touch"), text(str(marker)))),
            "builtins.eval": call("builtins", "eval", code),
            "builtins.exec": call("__builtin__", "exec", code),
            "builtins.open": call("builtins", "open", text(str(marker)), text("w")),
            "runpy._run_code": call("runpy", "_run_code", code, b"}"),
            "pty.spawn": call("pty", "spawn", touch),
            "shutil.copy": call("shutil", "copy", text("/etc/hostname"), text(str(marker))),
            "importlib.import_module": call("importlib", "import_module", text("antigravity")),
            "builtins.bytearray": call("__builtin__", "bytearray", integer(10**11)),
        }

    @pytest.mark.parametrize("build", [torch_archive, torch_legacy])
    def test_attacks_are_refused_and_never_run(self, tmp_path, build):
        marker = tmp_path / "marker"
        for attack, (i, value) in zip(self.attacks(marker), enumerate(self.attacks(marker).values()), strict=True):
            path = build(tmp_path / f"{i}.pt", dictionary(w=tensor(), x=value))
            with pytest.raises(
                CheckpointError,
                match=f"is refused as hostile: its pickle names .{attack}., which weights never need; nothing",
            ) as caught:
                open_tensors(path)
            assert "weights_only" not in str(caught.value)
        assert not marker.exists()

    def test_the_marker_would_be_made(self, tmp_path):
        """The attack is one: Python's own unpickler runs it."""
        marker = tmp_path / "marker"
        pickle.loads(b"\x80\x02" + self.attacks(marker)["builtins.eval"] + b".").close()
        assert marker.exists()

    @pytest.mark.parametrize(
        "value",
        [
            call("torch.hub", "load", text("x")),
            call("torch.serialization", "load", text("x")),
            call("torch.storage", "_load_from_bytes", text("x")),
            call("builtins", "getattr", call("builtins", "getattr", text("x"), text("__class__")), text("__base__")),
            call("torch", "save", text("x"), text("/nowhere")),
            call("builtins", "map", name("builtins", "print"), sequence(text("x"))),
            name("numpy.core.multiarray", "scalar") + sequence(call("numpy", "dtype", text("f8")), text("x")) + b"R",
            name("numpy.core.multiarray", "scalar") + sequence(b"]", call("_codecs", "encode", text("abc"), text("latin1"))) + b"R",
        ],
    )
    @pytest.mark.parametrize("build", [torch_archive, torch_legacy])
    def test_other_calls_become_data(self, tmp_path, build, value):
        weights = b"}" + text("w") + tensor(view=[b"N"] if build is torch_legacy else []) + b"s"
        path = build(tmp_path / "x.pt", dictionary(state_dict=weights, hyper_parameters=b"}" + text("x") + value + b"s"))
        with open_tensors(path) as store:
            assert set(store.shapes) == {"w"}
            assert isinstance(store.hyper_parameters["x"], str | dict)

    @pytest.mark.parametrize(
        "bad",
        [
            tensor(shape=(10**6,)),
            tensor(shape=(2**40,)),
            tensor(shape=(2, 2), stride=(10**9, 1)),
            tensor(shape=(2, 2), stride=(-1, 1)),
            tensor(shape=(-2,)),
            tensor(offset=10**9),
            tensor(offset=-4),
            tensor(numel=-4),
            tensor(shape=(2**62, 2**62), stride=(1, 1)),
            call("torch", "FloatStorage", integer(10**12)),
        ],
    )
    def test_tensors_outside_their_data(self, tmp_path, bad):
        with pytest.raises(CheckpointError, match=r"x\.pt: is damaged, or no file of weights .*; save the state_dict alone"):
            open_tensors(torch_archive(tmp_path / "x.pt", dictionary(w=bad)))

    @pytest.mark.parametrize("bad", [call("torch", "FloatTensor", integer(10**8)), tensor(shape=(10**6, 10**6), stride=(0, 0))])
    def test_tensors_larger_than_the_file(self, tmp_path, bad):
        with (
            open_tensors(torch_archive(tmp_path / "x.pt", dictionary(w=bad))) as store,
            pytest.raises(CheckpointError, match=r"x\.pt: tensor 'w': claims .* MiB of which 0\.00. MiB are stored"),
        ):
            store.read("w")

    @pytest.mark.usefixtures("unchecked_annotations")
    def test_structures_that_grow(self, tmp_path, monkeypatch):
        """Each level holds the one before twice; a dictionary holds itself."""
        monkeypatch.setattr(trees, "MOST_NAMES", 50_000)  # the tests' patience
        double = lambda i: b"}(" + text("a") + b"h" + bytes([i]) + text("b") + b"h" + bytes([i]) + b"uq" + bytes([i + 1])  # noqa: E731
        levels = {f"x{i}": double(i) for i in range(60)}
        itself = b"}q\x00" + text("a") + b"h\x00s"
        for i, entries in enumerate([{"start": b"}q\x00", **levels}, {"x": itself}]):
            tree = torch_archive(tmp_path / f"{i}.pt", dictionary(w=tensor(), **entries))
            with pytest.raises(CheckpointError, match="not a tree of weights"):
                open_tensors(tree)
            weights = b"}" + text("w") + tensor() + b"s"
            entries["hyper_parameters"] = entries.popitem()[1]
            with open_tensors(torch_archive(tmp_path / f"{i}.ckpt", dictionary(**entries, state_dict=weights))) as store:
                assert set(store.shapes) == {"w"}

    def test_classes_without_end(self, tmp_path):
        """torch would look through all of them for each object."""
        names = b"(" + b"".join(name("a", f"b{i}") for i in range(1001)) + b"t"
        with pytest.raises(CheckpointError, match="its pickle names 1001 classes and functions; no checkpoint needs 1000"):
            open_tensors(torch_archive(tmp_path / "x.pt", dictionary(x=names)))

    def test_plain_pickles(self, tmp_path):
        for protocol in (2, 3, 4, 5):
            (tmp_path / "x.pkl").write_bytes(pickle.dumps({"w": 1}, protocol=protocol))
            with pytest.raises(
                CheckpointError, match="is a Python pickle, which could run any code; save the weights as safetensors or npz"
            ):
                open_tensors(tmp_path / "x.pkl")

    def test_archives_that_torch_does_not_write(self, tmp_path):
        path = torch_archive(tmp_path / "x.pt", dictionary(w=tensor()), method=zipfile.ZIP_DEFLATED)
        with pytest.raises(CheckpointError, match=r"holds compressed or overlapping entries .*, which torch.save never writes"):
            open_tensors(path)
        path = torch_archive(tmp_path / "y.pt", dictionary(w=tensor()), extra=[("z/data.pkl", dictionary(w=tensor()))])
        with pytest.raises(CheckpointError, match=r"holds 2 files data\.pkl, torch\.save writes one"):
            open_tensors(path)
