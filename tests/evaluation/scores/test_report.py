import json

from titans_seq.evaluation.scores.report import ScoreTable, to_json

TABLE = ScoreTable(
    "Toy, two rows",
    ("mse", "windows"),
    (("ours", {"mse": 0.12345, "windows": 2785}), ("none", {"mse": float("nan")})),
)


def test_text_has_aligned_columns():
    assert TABLE.to_text().splitlines() == [
        "Toy, two rows",
        "model    mse  windows",
        "-----  -----  -------",
        "ours   0.123    2,785",
        "none       -        -",
    ]


def test_markdown_is_a_table():
    assert TABLE.to_markdown().splitlines()[2:] == [
        "| model | mse | windows |",
        "| --- | ---: | ---: |",
        "| ours | 0.123 | 2,785 |",
        "| none | - | - |",
    ]


def test_json_has_every_metric_and_no_nan():
    record = json.loads(to_json(TABLE.to_record()))
    assert record["scores"]["ours"]["windows"] == 2785
    assert record["scores"]["none"]["mse"] is None
