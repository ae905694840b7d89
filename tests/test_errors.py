"""Errors are sentences with an exit code, and unknown names come with what was probably meant."""

from __future__ import annotations

import pytest

from glassformer import errors
from glassformer.errors import GlassformerError, nearest
from glassformer.files import DiskError


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (GlassformerError, 1),
        (errors.ConfigError, 2),
        (errors.DataError, 1),
        (errors.TokenizerError, 1),
        (errors.CheckpointError, 1),
        (errors.Interrupted, 75),
        (DiskError, 1),
    ],
)
def test_every_mistake_is_of_one_family_and_has_its_exit_code(kind, code):
    assert issubclass(kind, GlassformerError)
    assert kind.exit_code == code
    assert str(kind("a.txt:3: found 1, expected 2")) == "a.txt:3: found 1, expected 2"


def test_no_kind_of_mistake_is_left_out_of_the_list_above():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GlassformerError)]
    assert len(kinds) == 6
    assert errors.DONE == 0


def test_the_nearest_name_is_offered():
    assert nearest("d_modle", ["d_model", "d_head"]) == " (did you mean 'd_model'?)"


def test_where_nothing_is_near_the_known_names_are_listed_in_order_and_not_without_end():
    assert nearest("xyz", ["b", "a"]) == " (known: a, b)"
    assert nearest("?", [f"name{number:02}" for number in range(20)]).endswith("name11, …)")
    assert nearest("xyz", []) == ""
