"""``dump`` and ``load``: joblib's arguments, joblib's files, damaged files."""

from __future__ import annotations

import bz2
import gzip
import inspect
import io
import lzma
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

import jobspan
from jobspan.errors import EntryDamagedError

VALUE = {"a": np.arange(5000.0), "b": [1, "é", None], "c": np.arange(6).reshape(2, 3).T}


def same(found, expected=VALUE):
    assert set(found) == set(expected)
    assert np.array_equal(found["a"], expected["a"])
    assert np.array_equal(found["c"], expected["c"])
    return found["b"] == expected["b"]


@pytest.mark.parametrize("name", ["dump", "load"])
def test_signatures_are_joblibs(name):
    theirs = inspect.signature(getattr(joblib, name)).parameters.values()
    ours = inspect.signature(getattr(jobspan, name)).parameters.values()
    assert [(each.name, each.default) for each in ours] == [
        (each.name, each.default) for each in theirs
    ]


@pytest.mark.parametrize("library", [joblib, jobspan], ids=["joblib", "jobspan"])
@pytest.mark.parametrize(
    "compress",
    [0, 1, 9, None, True, False, "zlib", "gzip", "bz2", "xz", "lzma", ("gzip", 1), ("zlib", 0)],
)
def test_compression_by_argument(library, tmp_path, compress):
    path = tmp_path / "value"
    assert library.dump(VALUE, path, compress=compress) == [str(path)]
    assert same(library.load(path))


@pytest.mark.parametrize("library", [joblib, jobspan], ids=["joblib", "jobspan"])
@pytest.mark.parametrize("ending", ["z", "gz", "bz2", "xz", "lzma"])
def test_compression_by_the_name_of_the_file(library, tmp_path, ending):
    plain, packed = tmp_path / "value", tmp_path / f"value.{ending}"
    library.dump(np.zeros(100_000), plain)
    library.dump(np.zeros(100_000), packed)
    assert packed.stat().st_size < plain.stat().st_size / 10
    assert np.array_equal(library.load(packed), np.zeros(100_000))


@pytest.mark.parametrize("compress", [0, 3, "gzip", "bz2", "xz", "lzma", ("lz4", 1)])
@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_files_of_joblib_are_read(tmp_path, compress, mmap_mode):
    path = tmp_path / "theirs"
    joblib.dump(VALUE, path, compress=compress)
    found = jobspan.load(path, mmap_mode=mmap_mode)
    assert same(found)
    if mmap_mode and not compress:
        assert isinstance(found["a"], np.memmap)


def test_file_objects(tmp_path):
    for library in (joblib, jobspan):
        file = io.BytesIO()
        assert library.dump(VALUE, file) is None
        file.seek(0)
        assert same(jobspan.load(file))
    with (tmp_path / "value").open("wb") as file:
        jobspan.dump(VALUE, file)
    with (tmp_path / "value").open("rb") as file:
        assert same(jobspan.load(file))


@pytest.mark.parametrize(
    ("mode", "writable", "changes"), [("r", 0, 0), ("c", 1, 0), ("r+", 1, 1), ("w+", 1, 1)]
)
def test_mmap_modes(tmp_path, mode, writable, changes):
    path = tmp_path / "value"
    jobspan.dump({"x": [np.arange(100_000), pd.DataFrame({"a": np.arange(10)})]}, path)
    found = jobspan.load(path, mmap_mode=mode)["x"][0]
    assert found.flags.writeable == writable
    assert found.ctypes.data % 64 == 0
    if writable:
        found[0] = 7
        del found
    assert jobspan.load(path)["x"][0][0] == (7 if changes else 0)


def test_what_is_loaded_is_private_and_writable(tmp_path):
    path = tmp_path / "value"
    jobspan.dump(VALUE, path)
    jobspan.load(path)["a"][0] = 9
    assert jobspan.load(path)["a"][0] == 0


def test_a_failing_dump_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "value"
    jobspan.dump([1], path)
    with pytest.raises(Exception, match="pickle"):
        jobspan.dump((x for x in ()), path)
    assert jobspan.load(path) == [1]
    assert [each.name for each in tmp_path.iterdir()] == ["value"]


@pytest.mark.parametrize("keep", [0, 10, 16, 20, 40, 1000, -1])
def test_truncated_files_say_so(tmp_path, keep):
    path = tmp_path / "value"
    jobspan.dump(VALUE, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises((EntryDamagedError, EOFError)):
        jobspan.load(path)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"compress": 10}, "Non valid compress level given"),
        ({"compress": "rar"}, "Non valid compression method given"),
        ({"compress": ("zlib", 3, 1)}, "exactly 2 elements"),
        ({"protocol": 99}, "protocol=99"),
    ],
)
def test_bad_arguments_of_dump(tmp_path, arguments, error):
    with pytest.raises(ValueError, match=error):
        jobspan.dump(1, tmp_path / "value", **arguments)


def test_bad_arguments_of_load(tmp_path):
    jobspan.dump(1, tmp_path / "value")
    with pytest.raises(ValueError, match="mmap_mode='q'"):
        jobspan.load(tmp_path / "value", mmap_mode="q")
    with pytest.raises(FileNotFoundError):
        jobspan.load(tmp_path / "nothing")


def test_what_cannot_be_written_is_named_as_it_was_typed(tmp_path):
    """Not by the name of the temporary file that would have taken its place."""
    for path, error in ((tmp_path / "no" / "value", FileNotFoundError), (tmp_path, OSError)):
        with pytest.raises(error) as caught:
            jobspan.dump(1, path)
        assert caught.value.filename == str(path)
        assert str(caught.value).endswith(f": {str(path)!r}")
    assert not list(tmp_path.iterdir())


def test_what_is_no_file_of_either_library_is_told(tmp_path):
    path = tmp_path / "notes.txt"
    for text in ("hi", ""):
        path.write_text(text)
        with pytest.raises((pickle.UnpicklingError, EOFError)) as caught:
            jobspan.load(path)
        (note,) = caught.value.__notes__
        assert note.startswith(f"{path} was not written by jobspan.dump")


WITHOUT = """
import sys
sys.modules["joblib"] = None
import jobspan
jobspan.dump([1, 2], sys.argv[1] + ".ours")
assert jobspan.load(sys.argv[1] + ".ours") == [1, 2]
try:
    jobspan.load(sys.argv[1])
except ImportError as error:
    print(error)
"""


def test_without_joblib_its_files_are_refused_with_what_to_install(tmp_path):
    path = tmp_path / "theirs"
    joblib.dump(VALUE, path)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "pip install joblib" in done.stdout
    assert str(path) in done.stdout


def test_a_compressor_of_ones_own(tmp_path):
    from jobspan.persistence.compressors import COMPRESSORS, Compressor

    jobspan.register_compressor(
        "mine",
        Compressor(lambda *given: gzip.open(*given[:2]), ".mine", b""),  # noqa: SIM115
    )
    try:
        jobspan.dump([1], tmp_path / "value.mine")
        assert Path(tmp_path / "value.mine").read_bytes()[:2] == b"\x1f\x8b"
        assert jobspan.load(tmp_path / "value.mine") == [1]
        with pytest.raises(ValueError, match="registered already"):
            jobspan.register_compressor("mine", Compressor(gzip.open, ".mine", b""))
    finally:
        COMPRESSORS.unregister("mine")


BOTH = pytest.mark.parametrize("library", [joblib, jobspan], ids=["joblib", "jobspan"])


@BOTH
def test_several_values_in_one_file_object(library, tmp_path):
    with (tmp_path / "values").open("wb") as file:
        for number in range(3):
            library.dump({"a": np.full(50, number)}, file)
        file.write(b"and more")
    with (tmp_path / "values").open("rb") as file:
        for number in range(3):
            assert library.load(file)["a"].tolist() == [number] * 50
        assert file.read() == b"and more"


@BOTH
def test_a_value_from_a_connection_that_stays_open(library):
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("wb") as sending, theirs.makefile("rb") as receiving:
        library.dump(VALUE, sending)
        sending.flush()
        assert same(library.load(receiving))


@BOTH
@pytest.mark.parametrize("opener", [gzip.open, bz2.open, lzma.open])
def test_file_objects_of_compressed_files(library, tmp_path, opener):
    with opener(tmp_path / "value", "wb") as file:
        library.dump(VALUE, file)
    with opener(tmp_path / "value", "rb") as file:
        assert same(library.load(file))
    with (tmp_path / "value").open("rb") as file:
        assert same(library.load(file))
    assert same(library.load(io.BytesIO((tmp_path / "value").read_bytes())))


@BOTH
@pytest.mark.parametrize("mode", ["r", "c", "r+", "w+"])
def test_mapped_arrays_are_memmaps_of_the_file(library, tmp_path, mode):
    path = tmp_path / "value"
    library.dump({"x": [np.arange(12).reshape(3, 4).T, np.zeros(0), "text"]}, path)
    found = library.load(path, mmap_mode=mode)["x"][0]
    assert isinstance(found, np.memmap)
    assert found.mode == ("r+" if mode == "w+" else mode)
    assert Path(found.filename) == path
    assert found.tolist() == np.arange(12).reshape(3, 4).T.tolist()
    if mode == "r+":
        found[0, 0] = 99
        found.flush()
        assert library.load(path)["x"][0][0, 0] == 99


def test_a_file_object_is_mapped_where_it_can_be(tmp_path):
    path = tmp_path / "value"
    jobspan.dump(np.arange(9), path)
    with path.open("rb") as file:
        assert isinstance(jobspan.load(file, mmap_mode="r"), np.memmap)


@BOTH
def test_what_cannot_be_mapped_is_told_of(library, tmp_path):
    library.dump(VALUE, tmp_path / "value.gz")
    with pytest.warns(UserWarning, match='"r" is not compatible with compressed file'):
        assert same(library.load(tmp_path / "value.gz", mmap_mode="r"))
    file = io.BytesIO()
    library.dump(VALUE, file)
    file.seek(0)
    with pytest.warns(UserWarning, match='not compatible with mmap_mode "r"'):
        assert same(library.load(file, mmap_mode="r"))
    told = pytest.warns(UserWarning, match=r"is not a raw file|not compatible")
    with gzip.open(tmp_path / "value.gz", "rb") as unpacked, told:
        assert same(library.load(unpacked, mmap_mode="r"))


OTHER = ">f8" if sys.byteorder == "little" else "<f8"


@BOTH
def test_arrays_of_the_other_byte_order(library, tmp_path):
    path = tmp_path / "value"
    array = np.arange(6.0).astype(OTHER).reshape(2, 3)
    library.dump([array, array.T], path)
    for found in library.load(path):
        assert found.dtype.isnative
        assert found.flags.writeable
    for arguments in ({"ensure_native_byte_order": False}, {"mmap_mode": "r"}):
        found = library.load(path, **arguments)
        assert found[0].dtype == array.dtype
        assert found[1].tolist() == array.T.tolist()
    with pytest.raises(ValueError, match="mmap_mode"):
        library.load(path, mmap_mode="r", ensure_native_byte_order=True)


@BOTH
def test_a_name_of_a_file_that_is_none(library):
    with pytest.raises(ValueError, match="filename or a file-like object"):
        library.dump("value", {})


class Reversing(io.BytesIO):
    """Compresses nothing, but hides it well; joblib writes by name and reads from a file."""

    def __init__(self, file, mode, compresslevel=9):
        self._file, self._mode = file, mode
        super().__init__(file.read()[5:][::-1] if mode == "rb" else b"")

    def close(self):
        if not self.closed and self._mode == "wb":
            Path(self._file).write_bytes(b"RVRSE" + self.getvalue()[::-1])
        super().close()


@BOTH
def test_a_compressor_that_was_written_for_joblib(library, tmp_path):
    from joblib.compressor import CompressorWrapper

    wrapper = CompressorWrapper(Reversing, prefix=b"RVRSE", extension=".rvrse")
    library.register_compressor("reversing", wrapper, force=True)
    for name, compress in (("value.rvrse", 0), ("other", "reversing"), ("third", ("reversing", 2))):
        library.dump([1, 2], tmp_path / name, compress=compress)
        assert (tmp_path / name).read_bytes().startswith(b"RVRSE")
        assert library.load(tmp_path / name) == [1, 2]
    with pytest.raises(ValueError, match=r"registered"):
        library.register_compressor("reversing", wrapper)
    with pytest.raises(ValueError, match=r"should implement the CompressorWrapper interface"):
        library.register_compressor("none", object())
    with pytest.raises(ValueError, match=r"should implement the file object interface"):
        library.register_compressor("none", CompressorWrapper(print))


@BOTH
def test_a_buffer_is_loaded_from_right_after_it_was_dumped_into(library):
    file = io.BytesIO()
    library.dump(VALUE, file)
    assert same(library.load(file))


@BOTH
@pytest.mark.parametrize("compress", [3, "xz", ("bz2", 9)])
def test_file_objects_are_compressed_where_that_is_asked_for(library, tmp_path, compress):
    file = io.BytesIO()
    library.dump(np.zeros(100_000), file, compress=compress)
    assert len(file.getvalue()) < 10_000
    file.seek(0)
    assert not library.load(file).any()


def test_a_file_object_that_is_only_read_is_mapped_to_be_written(tmp_path):
    jobspan.dump(np.arange(9), tmp_path / "value")
    with (tmp_path / "value").open("rb") as file:
        found = jobspan.load(file, mmap_mode="r+")
    found[0] = 7
    found.flush()
    assert jobspan.load(tmp_path / "value")[0] == 7
