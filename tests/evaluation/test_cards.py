import pytest

from titans_seq.evaluation import cards
from titans_seq.exceptions import ConfigError, DataError, MissingDataError

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


def card(**changes):
    return cards.parse_dataset({**TABLE, **changes}, "datasets/toy.toml")


def test_a_card_comes_back_as_records():
    found = card(
        columns={"id": "unit", "time": "ds", "target": "y", "future": ["plan"]},
        split={"train": 0.7, "validation": 0.1, "test": 0.2},
        results=[{"model": "mean", "metric": "mse", "value": 1, "source": "here"}],
    )
    assert found.files["train"].rows == 2
    assert found.columns.future == ("plan",)
    assert found.split.borders(10) == (7, 8, 10)
    assert found.results[0].value == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licens": "CC0"}, "unknown key 'licens'; did you mean 'licence'"),
        ({"files": {"train": {"path": "a", "sha": "b", "rows": 1}}}, "did you mean 'sha256'"),
        ({"columns": {"id": "a", "time": "b", "targets": "c"}}, "did you mean 'target'"),
        ({"columns": {"id": "a", "time": "b"}}, "columns: missing target"),
        ({"split": {"train": 0.7, "validation": 0.1, "test": 0.1}}, "split: split 0.7, 0.1, 0.1"),
        ({"results": [{"model": "a", "metrics": "b"}]}, "results 1: unknown key 'metrics'"),
        ({"task": "regression"}, "task = 'regression' is not of type"),
        ({"files": 3}, "files = 3 must be a table"),
        ({"name": "other"}, "name = 'other', but the file is called 'toy'"),
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
        "seed": 0, "expect": {"mse": {"at_mots": 0.4}},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"expect\.mse: unknown key 'at_mots'; did you mean"):
        cards.parse_recipe(recipe, "recipes/toy.toml")


def test_a_file_is_found_in_the_data_folder_and_compared_with_its_digest(tmp_path, monkeypatch):
    monkeypatch.setenv(cards.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(MissingDataError, match=r"no file toy/train\.csv"):
        cards.data_path(card(), "train")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "train.csv").write_text("a\n")
    with pytest.raises(DataError, match="its card says 0000"):
        cards.data_path(card(), "train")
    digest = "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7"
    described = {"train": {"path": "toy/train.csv", "sha256": digest, "rows": 1}}
    assert cards.data_path(card(files=described), "train") == tmp_path / "toy" / "train.csv"


def test_a_file_that_the_card_lacks_is_refused():
    with pytest.raises(ConfigError, match="unknown key 'trian'; did you mean 'train'"):
        cards.data_path(card(), "trian")
