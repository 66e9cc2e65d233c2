from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narf.data.manifest import FileEntry, compare, make_manifest, read_manifest
from narf.data.reference import check_tag, parse_reference, variable_of
from narf.domain.errors import BadInput


def entry(path: str, content: str = "x", rows: int | None = None) -> FileEntry:
    return FileEntry(path, len(content), hashlib.sha256(content.encode()).hexdigest(), rows)


names = st.text(st.sampled_from("abcä.-_ "), min_size=1, max_size=6).filter(lambda n: n not in (".", ".."))
trees = st.dictionaries(st.lists(names, min_size=1, max_size=3).map("/".join), st.sampled_from("xyz"), min_size=1, max_size=8).filter(
    lambda tree: not any(other.startswith(path + "/") for path in tree for other in tree)
)


@given(trees)
def test_a_manifest_reads_back_as_it_was_written(tree: dict[str, str]) -> None:
    manifest = make_manifest([entry(path, content, rows=len(path)) for path, content in tree.items()])
    assert read_manifest(manifest.to_json()) == manifest


@given(trees, trees)
def test_versions_have_one_id_exactly_when_their_content_is_the_same(one: dict[str, str], other: dict[str, str]) -> None:
    first, second = (make_manifest([entry(p, c) for p, c in reversed(list(t.items()))]) for t in (one, other))
    assert (first.id == second.id) == (one == other)


@given(trees, trees)
def test_the_changes_lead_from_one_version_to_the_other(one: dict[str, str], other: dict[str, str]) -> None:
    before, after = (make_manifest([entry(p, c) for p, c in t.items()]) for t in (one, other))
    changes = compare(before, after)
    files = {e.path: e for e in before.files}
    for gone in changes.removed:
        del files[gone.path]
    files |= {e.path: e for e in changes.added} | {new.path: new for _, new in changes.changed}
    assert make_manifest(files.values()) == after
    assert changes.unchanged == len(set(one.items()) & set(other.items()))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../b", "a//b", "", ".", "a/", "x\0y", "a" * 256, "\udcff.csv"])
def test_a_path_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(BadInput):
        make_manifest([entry(path)])


def test_a_file_cannot_also_be_a_folder_and_no_path_stands_twice() -> None:
    with pytest.raises(BadInput, match="a file and a folder"):
        make_manifest([entry("a"), entry("a-b"), entry("a/b")])
    with pytest.raises(BadInput, match="Two files"):
        make_manifest([entry("a"), entry("a")])


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"files": [["a", -1, "00"]]}', b'{"files": [["a"]]}', b'{"files": 3}'])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        read_manifest(data)


def test_references_name_a_version_by_number_tag_or_hash() -> None:
    assert parse_reference("digits").selector == "latest"
    assert parse_reference("digits@v3").number == 3
    assert parse_reference("digits@approved").number is None
    assert parse_reference("digits@1f9c0a1f9c0a").id_prefix == "1f9c0a1f9c0a"
    for wrong in ("digits@", "", "@v1", "Digits", "digits@v3@v4", "a b"):
        with pytest.raises(BadInput):
            parse_reference(wrong)


@pytest.mark.parametrize("tag", ["v3", "latest", "1f9c0a1f9c0a", "", "a b"])
def test_a_tag_cannot_look_like_a_version(tag: str) -> None:
    with pytest.raises(BadInput):
        check_tag(tag)


def test_the_variable_of_a_dataset_can_be_written_in_a_shell() -> None:
    assert variable_of("credit-card.2024") == "NARF_DATA_CREDIT_CARD_2024"
