"""What is rendered equals prometheus_client's rendering, and what is asked for is what is sent."""

import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from collectors.base import Family, Histogram, RowMetric, Rows, Scalar, format_number
from collectors.exposition import OPENMETRICS, TEXT, negotiate, render, select, time_limit

hostile = st.text(
    st.one_of(
        st.sampled_from('"\\\n{},=\t\r\0🧀ä \u2028'), st.characters(exclude_categories=["Cs"])
    )
)
numbers = st.one_of(
    st.integers(-(2**63), 2**63), st.floats(), st.sampled_from([0, 9_999_999, 10_000_000, -1])
)
moments = st.none() | st.floats(0, 4e9)
bounds = st.lists(st.floats(0.001, 1e7), max_size=4, unique=True).map(sorted).map(tuple)


@st.composite
def families(draw: st.DrawFn) -> RowMetric:
    kind: Literal["counter", "gauge", "histogram"] = draw(
        st.sampled_from(("counter", "gauge", "histogram"))
    )
    labels = tuple(draw(st.lists(st.sampled_from(["a", "k", "le_", "z", "m_1"]), unique=True)))
    name = "ains_x_total" if kind == "counter" else "ains_x"
    values = st.tuples(*([hostile] * len(labels)))
    family = Family(name, kind, draw(hostile), labels)
    if kind != "histogram":
        rows = st.lists(st.builds(Scalar, values, numbers, moments), max_size=4)
        return RowMetric(family, draw(rows), created=draw(st.booleans()) and kind == "counter")
    family = Family(name, kind, draw(hostile), labels, draw(bounds))
    places = len(family.bounds) + 1
    counts = st.lists(st.integers(0, 2**40), min_size=places, max_size=places)
    histograms = st.lists(
        st.builds(Histogram, values, counts, st.floats(0, 1e15), moments), max_size=3
    )
    return RowMetric(family, draw(histograms), created=draw(st.booleans()))


def reference(metric: RowMetric, openmetrics: bool) -> bytes:
    plain = Metric(metric.name, metric.documentation, metric.type)
    plain.samples = metric.samples
    registry = CollectorRegistry()
    registry.register(Rows([plain]))
    generate = generate_openmetrics if openmetrics else generate_text
    return generate(registry)


@given(families())
def test_openmetrics_equals_prometheus_client(metric: RowMetric) -> None:
    assert render([metric], OPENMETRICS) == reference(metric, True)


@given(families())
def test_text_equals_prometheus_client(metric: RowMetric) -> None:
    without_created = RowMetric(metric.family, metric.rows)
    assert render([without_created], TEXT) == reference(without_created, False)


@given(st.lists(st.tuples(hostile, hostile), unique=True, max_size=5))
def test_hostile_labels_survive_both_formats(values: list[tuple[str, str]]) -> None:
    # The parsers take these for ends of line inside a value.
    values = [
        v for v in values if not set("".join(v)) & set("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    ]
    family = Family("ains_x_total", "counter", "X", ("a", "b"))
    metric = RowMetric(family, [Scalar(value, 1) for value in values])
    for parse, chosen in ((parse_openmetrics, OPENMETRICS), (parse_text, TEXT)):
        (parsed,) = parse(render([metric], chosen).decode())
        assert [(s.labels["a"], s.labels["b"]) for s in parsed.samples] == values


@pytest.mark.parametrize("value", [1, 1.5, math.inf, -math.inf, 12345678, 1e22, 0.1 + 0.2])
def test_number_is_written_as_go_writes_it(value: float) -> None:
    assert float(format_number(value)) == value


def test_label_that_is_no_text_breaks_nothing() -> None:
    family = Family("ains_x", "gauge", "X", ("a",))
    metric = RowMetric(family, [Scalar((None,), 1)])  # type: ignore[arg-type]  # what is tested
    assert render([metric], TEXT).endswith(b'ains_x{a="None"} 1.0\n')


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("text/html,*/*;q=0.1", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ('application/openmetrics-text; version="1.0.0"', True),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", True),
        ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.5", False),
        ("application/openmetrics-text;q=0, text/plain", False),
        ("application/openmetrics-text;version=2.0.0, text/plain", False),
        ("application/openmetrics-text;version=abc", False),
        ("application/openmetrics-text;q=abc", False),
        (";;;,,=,q=,;q=1", False),
        (PROMETHEUS_3, True),
    ],
)
def test_format_is_negotiated(accept: str | None, openmetrics: bool) -> None:
    assert negotiate(accept).openmetrics is openmetrics


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 9.5), ("10", 9.5), ("15.5", 15.0), ("1", 0.75), ("0.01", 0.05), ("0", 9.5),
        ("-3", 9.5), ("nan", 9.5), ("inf", 9.5), ("1e400", 9.5), ("soon", 9.5),
    ],
)  # fmt: skip
def test_time_limit_leaves_room_for_the_answer(header: str | None, seconds: float) -> None:
    assert time_limit(header, 10.0) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("ains_x_total", ["ains_x_total"]),
        ("ains_h_bucket", ["ains_h_bucket", "ains_h_bucket"]),
        ("ains_h_count", ["ains_h_count"]),
        ("nothing", []),
    ],
)
def test_name_selects_samples(name: str, samples: list[str]) -> None:
    metrics = [
        RowMetric(Family("ains_x_total", "counter", "X"), [Scalar((), 1)]),
        RowMetric(Family("ains_h", "histogram", "H", (), (1.0,)), [Histogram((), [1, 0], 0.5)]),
    ]
    found = [sample.name for metric in select(metrics, [name]) for sample in metric.samples]
    assert found == samples
