"""Orders to load: realistic CSV, made fast, the same every time.

It has the awkward parts of real data: quoted commas, doubled quotes, line breaks inside fields, NULLs and empty
strings, and letters beyond ASCII. Rows are combined from two pools of prime sizes, so that no combination occurs
twice within 79 million rows. Every value is spelled as PostgreSQL spells it in UTC, so that copying the rows out
returns the same bytes, in another order.
"""

import random
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

TABLE = "orders"

DDL = f"""\
CREATE TABLE {TABLE} (
    id bigint PRIMARY KEY,
    customer text NOT NULL,
    email text NOT NULL,
    country char(2) NOT NULL,
    placed_at timestamptz NOT NULL,
    amount numeric(10,2) NOT NULL,
    status text NOT NULL,
    note text
)"""

SEED = 20_240_229
BLOCK = 4096  # rows made at a time: about half a megabyte


def _words(text: str) -> list[str]:
    return text.split()


GIVEN = _words(
    "Ada Amélie Bjørn Carlos Chloé Dmitri Elif Farah Grace Hans Ines Jürgen Kenji Léa Mateus Ngozi Olga"
    " Priya Quentin Rosa Søren Tomás Uma Valentina Wei Ximena Yusuf Zoë"
)
FAMILY = _words(
    "Abe Andersen Bianchi Carvalho Dubois Eriksson Fischer García Hansen Ivanova Jansen Kowalska Lopes Müller"
    " Nguyen O'Brien Okafor Patel Rossi Santos Takahashi Ülker Varga Weiß Yılmaz Zhang"
)
COUNTRIES = _words("AT BE BR CH DE DK ES FI FR GB IE IT JP MX NL NO PL PT SE TR US")
STATUSES = ("new", "paid", "packed", "shipped", "shipped", "delivered", "delivered", "returned")
REMARKS = (
    "",  # NULL
    "",
    '""',  # an empty string
    "gift",
    '"please ring twice, the bell is weak"',
    '"she said ""not before nine"", so be it"',
    '"leave it at\nthe neighbour\'s door"',
    "Überraschung zum Geburtstag",
    '"2 × size M, 1 × size L"',
    "invoice to head office",
)

PEOPLE = 9973  # pool sizes: primes
ORDERS = 7919


def _people(random_: random.Random) -> list[str]:
    people = []
    for number in range(PEOPLE):
        given, family = random_.choice(GIVEN), random_.choice(FAMILY)
        middle = random_.choice("ABCDEFGHIJKLMNOPRSTVW")
        name = f"{given} {middle}. {family}" if random_.random() < 0.9 else f'"{family}, {given} {middle}."'
        plain = unicodedata.normalize("NFKD", family).encode("ascii", "ignore").decode().replace("'", "").lower()
        people.append(f"{name},{plain}.{number}@example.com,{random_.choice(COUNTRIES)}")
    return people


def _orders(random_: random.Random) -> list[str]:
    first = datetime(2024, 1, 1, tzinfo=UTC)
    made = []
    for _ in range(ORDERS):
        at = first + timedelta(seconds=random_.randrange(365 * 86_400))
        amount = min(99_999_99, int(random_.lognormvariate(8, 1)))
        stamp = at.strftime("%Y-%m-%d %H:%M:%S+00")
        made.append(f"{stamp},{amount // 100}.{amount % 100:02},{random_.choice(STATUSES)},{random_.choice(REMARKS)}\n")
    return made


def orders(rows: int) -> Iterator[tuple[int, bytes]]:
    """Yield the CSV of orders 1 to `rows`, in blocks of whole rows with their number."""
    random_ = random.Random(SEED)
    people, made = _people(random_), _orders(random_)
    for start in range(1, rows + 1, BLOCK):
        stop = min(start + BLOCK, rows + 1)
        text = "".join([f"{number},{people[number % PEOPLE]},{made[number % ORDERS]}" for number in range(start, stop)])
        yield stop - start, text.encode()
