import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from my_project import tables
from my_project.task import inputs, requests

COLUMNS = [{"name": "size", "mean": 1.0, "std": 2.0}, {"name": "color", "values": ["red", "green", "1", "1.5", "true"]}]
ABOUT = {"columns": COLUMNS, "target": "price"}


def decode(record):
    return requests.decode(record, ABOUT, 0)[0]["rows"].tolist()


def test_a_record_stands_for_its_row():
    assert decode({"size": 2.5, "color": "green"}) == [2.5, 2]
    assert decode({"color": "green", "size": 3}) == [3, 2]
    assert decode({"size": None, "color": "blue"}) == pytest.approx([np.nan, 0], nan_ok=True)


@pytest.mark.parametrize("size", [2.5, 3, True, "2.5", None])
@pytest.mark.parametrize("color", ["green", "blue", 1, 1.0, 1.5, True, None])
def test_a_record_gives_the_row_that_a_table_gives(size, color):
    table = pa.table({"size": pa.array([size]), "color": pa.array([color])})
    np.testing.assert_array_equal(decode({"size": size, "color": color}), tables.encode(table, COLUMNS)[0])


@pytest.mark.parametrize(
    "value", [{"weight": 1}, {"size": "large"}, {"size": 1e300}, b"size,color\n1,red\n", [1, "red"]]
)
def test_what_is_no_record_of_the_columns_is_refused(value):
    with pytest.raises(Exception, match=r"no such column|has to hold numbers|too large|record is needed"):
        decode(value)


@pytest.mark.parametrize("text", ['{"size": NaN}', '{"size": [1]}', '{"a": 1, "b": 2, "c": 3, "d": 4}', "1", "null"])
def test_other_json_is_refused(text):
    one = TypeAdapter(requests.build_input(ABOUT))
    one.validate_json('{"size": 1, "color": null}')
    with pytest.raises(ValidationError):
        one.validate_json(text)


@pytest.mark.parametrize("classes", [None, ["no", "yes"]])
def test_the_answer_is_described_as_it_is(classes):
    answers = np.array([[0.25, 0.75]] if classes else [7.5], np.float32)
    about = ABOUT | ({"classes": classes} if classes else {})
    predictions = inputs.predictions({"answers": answers}, about)
    assert TypeAdapter(list[requests.Prediction]).validate_python(predictions) == predictions
