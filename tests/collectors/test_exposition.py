"""What is rendered equals prometheus_client's rendering, and what is asked for is what is sent."""

import math
from collections.abc import Callable, Iterable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from collectors.base import Family, Kind, Row
from collectors.exposition import render, select
from collectors.negotiation import OPENMETRICS, TEXT, accepts_gzip, negotiate, time_limit
from collectors.notation import Memory, format_number
from collectors.rowmetric import RowMetric

KINDS: Final[tuple[Kind, ...]] = ("counter", "gauge", "histogram")

hostile = st.text(
    st.one_of(
        st.sampled_from('"\\\n{},=\t\r\0🧀ä \u2028'), st.characters(exclude_categories=["Cs"])
    )
)
numbers = st.one_of(
    st.integers(-(2**63), 2**63), st.floats(), st.sampled_from([0, 999_999, 1_000_000, -1])
)
moments = st.none() | st.floats(0, 4e9)
exemplars = st.tuples(hostile, st.floats(0, 1e9), st.floats(0, 4e9))
bounds = st.lists(st.floats(0.001, 1e7), max_size=4, unique=True).map(sorted).map(tuple)


@st.composite
def families(draw: st.DrawFn) -> Family:
    kind = draw(st.sampled_from(KINDS))
    labels = tuple(draw(st.lists(st.sampled_from(["a", "k", "le_", "z", "m_1"]), unique=True)))
    name = "ains_x_total" if kind == "counter" else "ains_x"
    return Family(name, kind, draw(hostile), labels, draw(bounds) if kind == "histogram" else ())


def rows_of(family: Family) -> st.SearchStrategy[Row]:
    values = st.tuples(*([hostile] * len(family.labels)))
    if family.kind != "histogram":
        return st.tuples(values, numbers, moments)
    places = len(family.bounds) + 1
    counts = st.lists(st.integers(0, 2**40), min_size=places, max_size=places)
    examples = st.lists(st.none() | exemplars, min_size=places, max_size=places)
    return st.tuples(values, counts, st.floats(0, 1e15), moments, st.just(()) | examples)


@st.composite
def scrapes(draw: st.DrawFn) -> list[RowMetric]:
    """What one process shows of a family in one scrape after the other."""
    family = draw(families())
    portions = st.lists(st.lists(rows_of(family), max_size=3), max_size=3)
    created, memory = draw(st.booleans()), Memory(family)
    return [
        RowMetric(family, shown, created=created, memory=memory)
        for shown in draw(st.lists(portions, min_size=1, max_size=3))
    ]


class Plain(Collector):
    """The samples of a metric as prometheus_client would have them from anybody."""

    def __init__(self, metric: RowMetric) -> None:
        self._metric = metric

    def describe(self) -> Iterable[Metric]:
        return [self._metric]

    def collect(self) -> Iterable[Metric]:
        plain = Metric(self._metric.name, self._metric.documentation, self._metric.type)
        plain.samples = list(self._metric.samples)
        return [plain]


def registry_of(*metrics: RowMetric) -> CollectorRegistry:
    registry = CollectorRegistry()
    for metric in metrics:
        registry.register(Plain(metric))
    return registry


def generated(collector: Collector, openmetrics: bool) -> bytes:
    generate = generate_openmetrics if openmetrics else generate_text
    return generate(collector)


def reference(metric: RowMetric, openmetrics: bool) -> bytes:
    return generated(registry_of(metric), openmetrics)


@given(scrapes())
def test_openmetrics_equals_prometheus_client(metrics: list[RowMetric]) -> None:
    for metric in metrics:
        assert render([metric], OPENMETRICS) == reference(metric, True)


@given(scrapes())
def test_text_equals_prometheus_client(metrics: list[RowMetric]) -> None:
    memory = Memory(metrics[0].family)
    for metric in metrics:
        without_created = RowMetric(metric.family, metric.portions, memory=memory)
        assert render([without_created], TEXT) == reference(without_created, False)


def test_exemplars_are_shown_in_openmetrics_alone() -> None:
    family = Family("ains_h", "histogram", "H", ("a",), (1.0, 5.0))
    exemplars = (("0191-a", 0.25, 1764000000.125), None, ("0191-b", 7.0, 1764000001.0))
    metric = RowMetric(family, [[(("x",), (2, 0, 1), 7.5, None, exemplars)]])
    assert render([metric], OPENMETRICS).decode().splitlines()[2:5] == [
        'ains_h_bucket{a="x",le="1.0"} 2.0 # {task_id="0191-a"} 0.25 1764000000.125',
        'ains_h_bucket{a="x",le="5.0"} 2.0',
        'ains_h_bucket{a="x",le="+Inf"} 3.0 # {task_id="0191-b"} 7.0 1764000001.0',
    ]
    assert b"#" not in render([metric], TEXT).partition(b"\nains_h_bucket")[2]


def test_memory_of_series_that_are_gone_is_bounded() -> None:
    counter = Family("ains_x_total", "counter", "X", ("a",))
    histogram = Family("ains_h", "histogram", "H", ("a",))
    for family in (counter, histogram):
        memory = Memory(family)
        for n in range(100):
            labels, first = (str(n),), float(n)
            row: Row = (labels, n, first)
            if family is histogram:
                row = (labels, (n,), first, first, ((str(n), first, first),))
            render([RowMetric(family, [[row]], created=True, memory=memory)], OPENMETRICS)
            for remembered in (memory.labels, memory.with_le, memory.created, memory.exemplars):
                assert len(remembered) <= 2


def test_numbers_that_are_equal_may_look_different() -> None:
    family = Family("ains_x", "gauge", "X", ("a",))
    values = (0, -0.0, 0.0, math.nan, 1, 1.0, True)
    metric = RowMetric(family, [[((str(n),), value, None) for n, value in enumerate(values)]])
    assert render([metric], OPENMETRICS) == reference(metric, True)


@pytest.mark.parametrize(
    "row",
    [lambda n: (("x",), n, None), lambda n: (("x",), 1, n)],
    ids=["value", "created"],
)
def test_numbers_that_were_equal_at_the_last_scrape_may_look_different(
    row: Callable[[float], Row],
) -> None:
    family = Family("ains_x_total", "counter", "X", ("a",))
    memory = Memory(family)
    for value in (0, -0.0, 0.0, -0.0, 2, 2.0):
        metric = RowMetric(family, [[row(value)]], created=True, memory=memory)
        assert render([metric], OPENMETRICS) == reference(metric, True)


@given(st.lists(st.tuples(hostile, hostile), unique=True, max_size=5))
def test_hostile_labels_survive_both_formats(values: list[tuple[str, str]]) -> None:
    # The parsers take these for ends of line inside a value.
    values = [
        v for v in values if not set("".join(v)) & set("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    ]
    family = Family("ains_x_total", "counter", "X", ("a", "b"))
    metric = RowMetric(family, [[(value, 1, None) for value in values]])
    for parse, chosen in ((parse_openmetrics, OPENMETRICS), (parse_text, TEXT)):
        (parsed,) = parse(render([metric], chosen).decode())
        assert [(s.labels["a"], s.labels["b"]) for s in parsed.samples] == values


@pytest.mark.parametrize("value", [1, 1.5, math.inf, -math.inf, 12345678, 1e22, 0.1 + 0.2])
def test_number_is_written_as_go_writes_it(value: float) -> None:
    assert float(format_number(value)) == value


def test_label_that_is_no_text_breaks_nothing() -> None:
    family = Family("ains_x", "gauge", "X", ("a",))
    rows = [((None,), 1, None), ((3,), 1, None), (("\udcff",), 1, None)]
    metric = RowMetric(family, [rows])  # type: ignore[list-item]  # what is tested
    lines = render([metric], TEXT).splitlines()[2:]
    assert lines == [b'ains_x{a=""} 1.0', b'ains_x{a="3"} 1.0', b'ains_x{a="?"} 1.0']


OM_1 = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT_0 = "text/plain; version=0.0.4; charset=utf-8"
TEXT_1 = "text/plain; version=1.0.0; charset=utf-8"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.75,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, TEXT_0),
        ("", TEXT_0),
        ("*/*", TEXT_0),
        ("text/*", TEXT_0),
        ("text/plain", TEXT_0),
        ("text/html,*/*;q=0.1", TEXT_0),
        ("application/*", OM_1),
        ("application/openmetrics-text", OM_1),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OM_1),
        ("Application/OpenMetrics-Text; Version=1.0.0", OM_1),
        ('application/openmetrics-text; version="1.0.0"', OM_1),
        ("application/openmetrics-text, text/plain", OM_1),
        ("text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0", OM_1),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", OM_1),
        ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.5", TEXT_0),
        ("application/openmetrics-text;q=0.5, */*;q=0.8", TEXT_0),
        ("application/openmetrics-text;q=0, text/plain", TEXT_0),
        ("application/openmetrics-text;q=0, */*", TEXT_0),
        ("application/openmetrics-text;q=0", TEXT_0),
        ("text/plain;q=0, */*", OM_1),
        ("application/openmetrics-text;version=2.0.0, text/plain", TEXT_0),
        ("application/openmetrics-text;version=0.0.1", TEXT_0),
        ("application/openmetrics-text;version=abc", TEXT_0),
        ("application/openmetrics-text;q=abc", TEXT_0),
        ("application/openmetrics-text;q=2", TEXT_0),
        ("application/openmetrics-text;q=nan", TEXT_0),
        (";;;,,=,q=,;q=1", TEXT_0),
        ("text/plain;version=1.0.0", TEXT_1),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", f"{TEXT_1}; escaping=allow-utf-8"),
        ("text/plain;version=1.0.0;escaping=dots, */*;q=0.1", f"{TEXT_1}; escaping=underscores"),
        ("application/openmetrics-text;escaping=\r\nX: y", f"{OM_1}; escaping=underscores"),
        ("application/json", TEXT_0),
        (PROMETHEUS_2, OM_1),
        (PROMETHEUS_3, f"{OM_1}; escaping=allow-utf-8"),
    ],
)
def test_format_is_negotiated(accept: str | None, content_type: str) -> None:
    assert negotiate(accept).content_type == content_type


@given(st.text(st.sampled_from('atextpl/inopmrcsv;=,.*q01 "-')))
def test_any_accept_header_has_an_answer(accept: str) -> None:
    negotiate(accept)


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, False), ("", False), ("identity", False), ("gzip", True), ("GZIP;q=0.5", True),
        ("gzip;q=0", False), ("*", True), ("*;q=0", False), ("gzip;q=0, *", False),
        ("*;q=0, gzip", True), ("x-gzip", True), ("br, deflate", False), ("gzip;q=x", False),
    ],
)  # fmt: skip
def test_gzip_is_used_where_it_is_accepted(header: str | None, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 9.5), ("10", 9.5), ("15.5", 15.0), ("1", 0.75), ("0.01", 0.05), ("0", 9.5),
        ("-3", 9.5), ("nan", 9.5), ("inf", 9.5), ("1e400", 9.5), ("soon", 9.5), ("", 9.5),
        ("1e9", 299.5),
    ],
)  # fmt: skip
def test_time_limit_leaves_room_for_the_answer(header: str | None, seconds: float) -> None:
    assert time_limit(header, 10.0) == pytest.approx(seconds)


TWO = (
    RowMetric(Family("ains_x_total", "counter", "X"), [[((), 1, 5.0)]], created=True),
    RowMetric(
        Family("ains_h", "histogram", "H", (), (1.0,)), [[((), [1, 0], 0.5, 5.0, ())]], created=True
    ),
    RowMetric(Family("ains_total", "gauge", "Y"), [[((), 1, None)]]),
)


@pytest.mark.parametrize(
    "names",
    [
        {"ains_x_total"},
        {"ains_x_created"},
        {"ains_h_bucket"},
        {"ains_h_count", "ains_h_sum"},
        {"ains_h_created", "ains_total"},
        {"nothing"},
        {""},
    ],
)
def test_name_selects_the_samples_that_prometheus_client_would(names: set[str]) -> None:
    restricted = registry_of(*TWO).restricted_registry(names)
    expected = generated(restricted, True)  # families in any order
    assert sorted(render(select(TWO, names), OPENMETRICS).splitlines()) == sorted(
        expected.splitlines()
    )


def test_name_of_a_family_selects_all_of_it() -> None:
    assert select(TWO, {"ains_h", "ains_x"}) == list(TWO[:2])


def test_family_that_fails_is_left_out() -> None:
    broken = RowMetric(
        Family("ains_b", "gauge", "B", ("a",)), [[(("v",), 1, None)], [((), 1, None)]]
    )
    failed: list[str] = []
    body = render([TWO[2], broken, TWO[2]], TEXT, lambda metric, _: failed.append(metric.name))
    assert failed == ["ains_b"]
    assert body == render([TWO[2], TWO[2]], TEXT)
