import pytest

from titans_seq.evaluation.cards.splits import Split
from titans_seq.exceptions import ConfigError, DataError


def test_rows_leave_the_rest_unused():
    borders = Split.parse("8640,2880,2880").borders(17420)
    assert borders == (8640, 11520, 14400)
    assert borders.test_end - borders.test_start - 96 + 1 == 2785


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(8730, (6111, 6984, 8730)), (52696, (36887, 42157, 52696)), (966, (676, 773, 966))],
)
def test_shares_round_train_and_test_down(rows, expected):
    assert Split.parse("0.7,0.1,0.2").borders(rows) == expected


def test_a_share_that_binary_numbers_miss_is_not_one_row_short():
    assert Split.parse("0.7,0.1,0.2").borders(10) == (7, 8, 10)


def test_test_part_begins_a_look_back_early_so_the_windows_do_not_depend_on_it():
    borders = Split.parse("60,20,20").borders(100)
    assert borders.rows("train", 10) == slice(0, 60)
    assert borders.rows("validation", 10) == slice(50, 80)
    assert borders.rows("test", 10) == slice(70, 100)


@pytest.mark.parametrize("text", ["8640,2880,2880", "0.7,0.1,0.2", "345600,0,1234567"])
def test_text_comes_back_as_it_went_in(text):
    assert str(Split.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8640,2880", "write train,validation,test"),
        ("a,b,c", "write train,validation,test"),
        ("0.7,0.1,0.1", "must add up to 1, got 0.9"),
        ("0,10,10", "train and test must be > 0"),
        ("10,-1,10", "train and test must be > 0"),
        ("10,0.5,10", "must be all row counts or all shares"),
    ],
)
def test_what_cannot_be_a_split_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        Split.parse(text)


@pytest.mark.parametrize(("text", "rows"), [("60,20,21", 100), ("0.7,0.1,0.2", 3)])
def test_too_few_rows_are_refused(text, rows):
    with pytest.raises(DataError, match="too few"):
        Split.parse(text).borders(rows)


def test_an_unknown_part_is_refused():
    with pytest.raises(ConfigError, match=r"part must be one of .* got 'dev'"):
        Split.parse("6,2,2").borders(10).rows("dev")
