"""One grammar for addresses, local and on a store: braces, commas, wildcards, queries, odd characters."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayscan import storage
from rayscan.cli.arguments import absolute, absolute_file
from rayscan.data.addresses import is_glob, parent, plain
from rayscan.data.label_names import spelled
from rayscan.data.listing import list_sources
from rayscan.errors import ConfigError
from rayscan.storage import Place, join, split_query, split_uri

ODD = ["a b.jpg", "c+d.jpg", "e%20f.jpg", "h#i.jpg", "j?k.jpg", "l&m.jpg", "n'o.jpg", "p,q.jpg", "{r,s}.jpg"]
ODD += ["t=u.jpg", "v[w].jpg", "x?y=z.jpg", "~a.jpg", "b*c.jpg"]


def test_odd_names_are_found_and_read(place: Place) -> None:
    for number, name in enumerate(ODD):
        place.write(f"in/{name}", b"x" * (number + 1))
    listing = list_sources(place.child("in").uri)
    assert [entry.key for entry in listing.entries] == sorted(ODD)
    for entry in listing.entries:
        size = ODD.index(entry.key) + 1
        assert entry.size == size == len(storage.read(entry.uri))
        assert [found.size for found in storage.stat([entry.uri])] == [size]
        (alone,) = list_sources(entry.uri).entries
        assert alone.size == size and alone.key == entry.key
        assert Place(parent(entry.uri)).read(entry.key) == b"x" * size
        folder, name = split_uri(entry.uri)
        assert name == entry.key and folder.size(name) == size
        assert spelled(entry.uri, "source").endswith(f"/in/{entry.key}")


def test_odd_names_in_lists(place: Place) -> None:
    names = [name for name in ODD if name not in ("p,q.jpg", "{r,s}.jpg")]
    for name in names:
        place.write(f"in/{name}", b"x")
    place.write("list.txt", "\n".join(f"in/{name}" for name in names).encode())
    listing = list_sources(place.uri_of("list.txt"))
    assert sorted(entry.key for entry in listing.entries) == sorted(names)
    assert all(entry.size == 1 for entry in listing.entries)


def test_patterns_mean_the_same_everywhere(place: Place) -> None:
    for name in ("a/0.jpg", "a/1.jpg", "b/0.jpg", "c/00.jpg"):
        place.write(name, b"x")
    for pattern, expected in [
        ("a/?.jpg", ["0.jpg", "1.jpg"]),
        ("?/0.jpg", ["a/0.jpg", "b/0.jpg"]),
        ("{a,b}/0.jpg", ["a/0.jpg", "b/0.jpg"]),
        ("{a,b}", ["a/0.jpg", "a/1.jpg", "b/0.jpg"]),
        ("a/[01].jpg", ["0.jpg", "1.jpg"]),
        ("**/0.jpg", ["a/0.jpg", "b/0.jpg"]),
    ]:
        listing = list_sources(place.uri_of(pattern))
        assert [entry.key for entry in listing.entries] == expected, pattern
    both = f"{place.uri_of('a')}, {place.uri_of('b')}"
    assert [entry.key for entry in list_sources(both).entries] == ["a/0.jpg", "a/1.jpg", "b/0.jpg"]


@pytest.mark.parametrize(
    ("uri", "address", "query"),
    [
        ("s3://b/x?scheme=http&endpoint_override=h:1", "s3://b/x", "?scheme=http&endpoint_override=h:1"),
        ("s3://b/j?k.jpg?region=r", "s3://b/j?k.jpg", "?region=r"),
        ("s3://b/j?k.jpg", "s3://b/j?k.jpg", ""),
        ("s3://b/x?y=z.jpg?", "s3://b/x?y=z.jpg", "?"),
        ("s3://b/a-?.tar?region=r", "s3://b/a-?.tar", "?region=r"),
        ("/local/x?region=r", "/local/x?region=r", ""),
    ],
)
def test_where_a_query_begins(uri: str, address: str, query: str) -> None:
    assert split_query(uri) == (address, query) and plain(uri) == address
    assert split_query(join(uri, "n?a=b")) == (f"{address}/n?a=b", query or ("?" if "://" in uri else ""))
    assert is_glob("s3://b/a-?.tar?region=r") and not is_glob("s3://b/a.tar?region=r")


def test_data_of_a_command_line_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "a, b.jpg").touch()
    here = str(tmp_path)
    assert absolute("{a,b}/x-{0..3}.tar") == f"{here}/{{a,b}}/x-{{0..3}}.tar"
    assert absolute("a, b.jpg") == f"{here}/a, b.jpg"
    assert absolute("x, ./y,s3://b/{p,q}.tar") == f"{here}/x,{here}/y,s3://b/{{p,q}}.tar"
    assert absolute("~/x,/y") == "/home/me/x,/y"
    assert absolute_file("my,labels.csv") == f"{here}/my,labels.csv"
    for wrong in ("s3:/bucket/x", "x,gs:/bucket/y"):
        with pytest.raises(ConfigError, match="two slashes"):
            absolute(wrong)
    with pytest.raises(ConfigError, match="two slashes"):
        Place("s3:/bucket/run")
    for address in ("s3://bucket//x", "s3://bucket/x//y?region=r"):
        for use in (Place, absolute, list_sources):
            with pytest.raises(ConfigError, match="an empty part"):
                use(address)


@pytest.mark.parametrize("scheme", ["S3", "s3a", "s3n"])
def test_schemes_by_their_other_names(s3_uri: str, tmp_path: Path, scheme: str) -> None:
    Place(s3_uri).child(tmp_path.name).write("a.jpg", b"xyz")
    uri = Place(s3_uri).child(tmp_path.name).uri_of("a.jpg")
    assert storage.read(uri.replace("s3://", f"{scheme}://", 1)) == b"xyz"


def test_secrets_are_found_behind_odd_names() -> None:
    with pytest.raises(ConfigError, match="secret_key"):
        Place("s3://b/h#i?secret_key=abc")


def test_a_file_uri_has_escapes(tmp_path: Path) -> None:
    (tmp_path / "a b.jpg").touch()
    assert [e.key for e in list_sources(f"file://{tmp_path}/a%20b.jpg").entries] == ["a b.jpg"]
    assert spelled(f"file://{tmp_path}/a%20b.jpg", "source") == f"{tmp_path}/a b.jpg"
