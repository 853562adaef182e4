import pytest

from ains.database_url import DatabaseUrl
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
        ("postgresql://us'er:pw@db/x", "postgresql://us'er:***@db/x"),
        ("can't reach postgresql://joe:p w@db/x.", "can't reach postgresql://joe:***@db/x."),
        (
            "postgresql://a:b c@d, postgresql://e:f g@h",
            "postgresql://a:***@d, postgresql://e:***@h",
        ),
        ("postgresql://db/x?pass%77ord=pw&a=b", "postgresql://db/x?pass%77ord=***&a=b"),
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
        "postgresql://db:5432/x refuses joe@example.org",
        "postgresql://db/x?us%65r=joe",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:pa ss@h/db", "postgresql://u:***@h/db"),
        ("postgresql://us'er:pw@h/db", "postgresql://us'er:***@h/db"),
        ("postgresql://u:p@s:s\"'\n@h:5432,i:5433/db", "postgresql://u:***@h:5432,i:5433/db"),
        ("postgresql://u:12/34@h/db", "postgresql://u:***@h/db"),
        ("postgresql://:pw@h/db", "postgresql://:***@h/db"),
        ("postgresql://h/db?pass%77ord=a b'c&x=y", "postgresql://h/db?pass%77ord=***&x=y"),
        ("postgresql://h:5432/db?password=a:b@c", "postgresql://h:5432/db?password=***"),
        ("postgresql://u:a@h/db?SSLpassword=b", "postgresql://u:***@h/db?SSLpassword=***"),
        ("postgresql://u@h:5432/db?user=v", "postgresql://u@h:5432/db?user=v"),
        ("postgresql:///db?host=/run/pg", "postgresql:///db?host=/run/pg"),
    ],
)
def test_password_of_a_database_url_is_masked_whatever_it_consists_of(url: str, shown: str) -> None:
    parsed = DatabaseUrl(url)
    assert str(parsed) == shown
    assert repr(parsed) == f"DatabaseUrl({shown!r})"
    assert parsed.reveal() == url
