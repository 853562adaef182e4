import pytest

from ains.redact import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://joe:pw@db/x", "postgresql://joe:***@db/x"),
        ("postgres://joe:p@ss:w/rd@db:5432/x", "postgres://joe:***@db:5432/x"),
        ("postgresql+asyncpg://joe:pw@db", "postgresql+asyncpg://joe:***@db"),
        ("postgresql://:pw@db/x", "postgresql://:***@db/x"),
        ("postgresql://joe:p\"w'@db/x", "postgresql://joe:***@db/x"),
        ("POSTGRESQL://joe:pw@db/x", "POSTGRESQL://joe:***@db/x"),
        (
            "can't reach postgresql://a:b@c, postgresql://d:e@f",
            "can't reach postgresql://a:***@c, postgresql://d:***@f",
        ),
        (
            "postgresql://db/x?user=joe&password=pw&a=b",
            "postgresql://db/x?user=joe&password=***&a=b",
        ),
        ("host=db password=pw dbname=x", "host=db password=*** dbname=x"),
        ("host=db password = 'p w\\'s' dbname=x", "host=db password = *** dbname=x"),
        ("PASSWORD=pw", "PASSWORD=***"),
        ("sslpassword=pw", "sslpassword=***"),
        ("https://joe:pw@example.org/hook", "https://joe:***@example.org/hook"),
    ],
)
def test_passwords_are_masked(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "postgresql://joe@db:5432/x",
        "http://localhost:8000/agents/a",
        "the password is wrong",
        "mail joe:x@example.org",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert redact(text) == text
