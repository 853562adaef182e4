"""UUIDs of version 7."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122

from ains.domain.ids import Uuid7, uuid7


def test_layout_is_that_of_the_rfc() -> None:
    """The example of RFC 9562, appendix A.6: 2022-02-22T19:22:22Z, a 0xCC3, b 0x18C4DC0C0C07398F.

    https://www.rfc-editor.org/rfc/rfc9562#appendix-A.6
    """
    counter = 0xCC3 << 30 | 0x18C4DC0C0C07398F >> 32
    tail = 0x18C4DC0C0C07398F & 0xFFFFFFFF
    make = Uuid7(lambda: 1_645_557_742_000 * 10**6, lambda bits: counter << 32 | tail)
    assert str(make()) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_carries_version_variant_and_time() -> None:
    before = time.time_ns() // 10**6
    made = uuid7()
    assert (made.version, made.variant) == (7, RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 10**6


def test_grows_within_one_millisecond() -> None:
    make = Uuid7(lambda: 5 * 10**6)
    made = [make() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {one.int >> 80 for one in made} == {5}


def test_grows_while_the_clock_goes_back() -> None:
    times = iter([7, 3, 1, 8, 2])
    make = Uuid7(lambda: next(times) * 10**6)
    made = [make() for _ in range(5)]
    assert made == sorted(set(made))
    assert [one.int >> 80 for one in made] == [7, 7, 7, 8, 8]


def test_counter_that_is_full_borrows_from_the_next_millisecond() -> None:
    make = Uuid7(lambda: 9 * 10**6)
    first = make()
    make._counter = (1 << 42) - 1
    second, third = make(), make()
    assert first < second < third
    assert [one.int >> 80 for one in (first, second, third)] == [9, 10, 10]


def test_threads_never_get_the_same() -> None:
    make = Uuid7(lambda: 1)
    with ThreadPoolExecutor(8) as threads:
        parts = list(threads.map(lambda _: [make() for _ in range(500)], range(16)))
    assert len({one for part in parts for one in part}) == 8_000
    assert all(part == sorted(part) for part in parts)
