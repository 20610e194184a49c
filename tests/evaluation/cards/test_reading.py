import pytest

from titans_seq.evaluation.boards.records import list_boards, read_board
from titans_seq.evaluation.cards import reading as cards
from titans_seq.exceptions import ConfigError

PUBLISHED_NOWHERE = {
    "gue_H3K14ac", "gue_H3K36me3", "gue_H3K4me1", "gue_H3K4me2", "gue_H3K79me3", "gue_H4ac",
    "gue_covid", "guelow_H3K9ac", "m4_hourly", "m4_weekly", "recall",
    "electricity_weekly", "traffic_weekly",
}  # fmt: skip
ON_BOARDS = {
    dataset
    for name in list_boards()
    for task in read_board(name).tasks
    for dataset in task.datasets
}
"""Data sets whose published figures stand with the boards."""

TABLE = {
    "name": "toy",
    "task": "classification",
    "summary": "Two rows.",
    "source": "made here",
    "url": "https://example.org",
    "licence": "CC0-1.0",
    "citation": "none",
    "split_rule": "none",
    "files": {"train": {"path": "toy/train.csv", "sha256": "0" * 64, "rows": 2}},
}


def _file(**changes):
    file = {**TABLE["files"]["train"], **changes}
    return {"files": {"train": {key: value for key, value in file.items() if value is not None}}}


def card(**changes):
    return cards.parse_dataset({**TABLE, **changes}, "datasets/toy.toml")


def test_a_card_comes_back_as_records():
    found = card(
        columns={"id": "unit", "time": "ds", "target": "y", "future": ["plan"]},
        split={"train": 0.7, "validation": 0.1, "test": 0.2},
        results=[{"model": "mean", "source": "here", "scores": {"mse": {"96": 1, "mean": 2.5}}}],
    )
    assert found.files["train"].rows == 2
    assert found.columns.future == ("plan",)
    assert found.split.borders(10) == (7, 8, 10)
    assert found.results[0].score("mse", 96) == 1
    assert found.results[0].score("mse") == 2.5
    assert found.results[0].score("mse", 192) is None
    assert found.results[0].score("mae") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licens": "CC0"}, "unknown key 'licens'; did you mean 'licence'"),
        ({"files": {"train": {"path": "a", "sha": "b", "rows": 1}}}, "did you mean 'sha256'"),
        ({"columns": {"id": "a", "time": "b", "targets": "c"}}, "did you mean 'target'"),
        ({"columns": {"id": "a", "time": "b"}}, "columns: missing target"),
        ({"split": {"train": 0.7, "validation": 0.1, "test": 0.1}}, "split: split 0.7, 0.1, 0.1"),
        ({"results": [{"model": "a", "score": "b"}]}, "unknown key 'score'; did you mean 'scores'"),
        ({"results": {"model": "a"}}, "results must be an array of tables"),
        (
            {"results": [{"model": "a", "source": "b", "scores": {"mse": {"96": "low"}}}]},
            "results 1: mse of a must be a number, got 'low'",
        ),
        (
            {"results": [{"model": "a", "source": "b", "scores": {}, "comparable": False}]},
            "results 1: a is not comparable: give the reason in remark",
        ),
        (_file(path="../train.csv"), r"must be relative, .* got '\.\./train\.csv'"),
        (_file(path="C:/train.csv"), "path must be relative"),
        (_file(sha256="abc"), "digest must be 64 hexadecimal digits, got 'abc'"),
        (_file(sha256=None), "give sha256, git_blob, or check"),
        (_file(sha256=None, check="look", url="https://a"), "a file with a url needs sha256"),
        (_file(url="ftp://a"), "must begin with https"),
        (
            {"intervals": [{"file": "trian", "genome": "g", "part": "train", "label": "a"}]},
            "intervals 1: unknown key 'trian'; did you mean 'train'",
        ),
        (
            {"competition": {"horizon": 0, "season": 1}},
            "competition: horizon and season must be at least 1, got 0 and 1",
        ),
        (_file(made_from="raw"), "made_from and made_by must be given together"),
        (_file(made_from="row", made_by="windows"), r"files\.train: unknown key 'row'; known"),
        ({"own": "text"}, "own: unknown key 'text'; known: train"),
        ({"task": "regression"}, "task = 'regression' is not of type"),
        ({"files": 3}, r"files must be a table, \[files\], got 3"),
        ({"name": "other"}, "name must be 'toy', as the file, got 'other'"),
    ],
)
def test_a_wrong_card_is_refused_where_it_is_wrong(changes, message):
    with pytest.raises(ConfigError, match=message):
        card(**changes)


def test_a_card_without_a_needed_key_is_refused():
    table = {key: value for key, value in TABLE.items() if key != "licence"}
    with pytest.raises(ConfigError, match=r"datasets/toy.toml: missing licence"):
        cards.parse_dataset(table, "datasets/toy.toml")


def test_an_unknown_card_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'nyc13'"):
        cards.read_card("nyc14")


def test_a_recipe_with_an_unknown_bound_is_refused():
    recipe = {
        "name": "toy", "summary": "A run.", "dataset": "toy", "estimator": "TitansForecaster",
        "seeds": [0], "expect": {"mse": {"at_mots": 0.4}},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"expect\.mse: unknown key 'at_mots'; did you mean"):
        cards.parse_recipe(recipe, "recipes/toy.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0, 0]}, r"seeds must not contain duplicates, got \[0, 0\]"),
        ({"seeds": []}, "one or more numbers from 0"),
        ({"horizons": [0]}, "horizons must be at least 1 each"),
        ({"seed": 1}, "unknown key 'seed'; did you mean 'seeds'"),
    ],
)
def test_a_recipe_that_trains_nothing_or_twice_is_refused(changes, message):
    recipe = {"name": "toy", "summary": "", "dataset": "toy", "estimator": "TitansForecaster"}
    with pytest.raises(ConfigError, match=message):
        cards.parse_recipe({**recipe, **changes}, "recipes/toy.toml")


@pytest.mark.parametrize("name", cards.list_cards("datasets"))
def test_every_card_can_be_read_and_names_what_it_needs(name):
    found = cards.read_card(name)
    for field in (found.summary, found.source, found.url, found.licence, found.citation):
        assert field
    assert found.results or found.own or name in PUBLISHED_NOWHERE | ON_BOARDS
    assert (
        found.columns or found.intervals or found.own or "train" in found.files or not found.files
        or found.files["series"].path.endswith(".tsf")
    )  # fmt: skip
    for result in found.results:
        assert result.comparable or result.remark
