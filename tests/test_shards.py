"""How slides are assigned to shards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.errors import SetupError, UsageError
from wbc_cli.run.shards import SHARDS, Shard, Shares, assign_shards, read_shares, shard_of_new_slide

SIZES = st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 10**9), min_size=1, max_size=60)


@given(SIZES, st.integers(1, 20), st.randoms())
def test_every_slide_has_one_shard_whatever_the_order_they_are_found_in(sizes, count, random):
    shards = assign_shards(sizes, count)
    assert shards.keys() == sizes.keys()
    assert set(shards.values()) <= set(range(count))
    shuffled = list(sizes.items())
    random.shuffle(shuffled)
    assert assign_shards(dict(shuffled), count) == shards


@given(SIZES, st.integers(1, 20))
def test_no_shard_has_a_slide_more_than_it_must(sizes, count):
    shards = assign_shards(sizes, count)
    loads = [sum(size for name, size in sizes.items() if shards[name] == i) for i in range(count)]
    for index, load in enumerate(loads):
        smallest = min((size for name, size in sizes.items() if shards[name] == index), default=0)
        assert load - smallest <= min(loads)


@given(st.text(), st.integers(1, 50))
def test_a_slide_that_comes_late_has_a_shard_of_its_own_for_good(name, count):
    assert shard_of_new_slide(name, count) == shard_of_new_slide(name, count)
    assert 0 <= shard_of_new_slide(name, count) < count


@pytest.mark.parametrize("text", ["3", "3/3", "-1/4", "a/b", "1/0", "1/2/3", "", "1.0/2"])
def test_a_wrong_shard_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="0/16"):
        Shard.parse(text)


def test_shards_are_written_as_slurm_counts_them_and_sort_as_files():
    assert Shard.parse("0/16") == Shard(0, 16)
    assert str(Shard(3, 16)) == "3/16"
    labels = [Shard(i, 16).label for i in range(16)]
    assert labels == sorted(labels)


def test_what_is_written_down_is_read_again_and_late_slides_have_a_shard(tmp_path):
    assert read_shares(tmp_path) is None
    shares = Shares(3, {"a": 0, "b": 2}, {"a": "/in/a"})
    shares.write(tmp_path / SHARDS)
    assert read_shares(tmp_path) == shares
    assert shares.shard_of("b") == 2
    assert shares.shard_of("new") == shard_of_new_slide("new", 3)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"count": 2}', '{"count": "2", "slides": {}}', '{"count": 2, "slides": {"a": "0"}}'],
)
def test_a_damaged_list_of_shards_is_named_with_what_to_do(text, tmp_path):
    (tmp_path / SHARDS).write_text(text)
    with pytest.raises(SetupError, match=r"shards\.json: damaged .* Remove it"):
        read_shares(tmp_path)
