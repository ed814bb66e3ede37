"""SELECT: joins, sub-selects, set operations, WITH, grouping, windows; LIMIT with ORDER BY and without."""

from tests.oracle.case import Param
from tests.oracle.generate.expressions import condition, expression, key_condition, where_of
from tests.oracle.generate.schema import Table, quoted
from tests.oracle.generate.values import TYPES, Type
from tests.oracle.generate.words import Alias, Words

INT, TEXT = TYPES["int4"], TYPES["text"]

_AGGREGATES = (
    "count(*)", "count({0})", "sum({0})", "max({0})", "min({0})", "bool_or({0} > 2)", "count(DISTINCT {0})",
    "array_agg({0} ORDER BY {0})", "string_agg({0}::text, ',' ORDER BY {0})", "count(*) FILTER (WHERE {0} > 2)",
    "avg({0})", "json_agg({0} ORDER BY {0})",
)  # fmt: skip
_WINDOWS = (
    "row_number() OVER (ORDER BY {0}, {1})", "rank() OVER (ORDER BY {0})", "sum({0}) OVER ()", "count(*) OVER ()",
    "max({0}) OVER (PARTITION BY {1})",
)  # fmt: skip
_JOINS = ((5.0, "JOIN"), (2.0, "LEFT JOIN"), (0.7, "RIGHT JOIN"), (0.5, "FULL JOIN"), (0.5, "CROSS JOIN"))


def select(words: Words) -> tuple[str, bool]:
    """A SELECT, and whether the order of its rows is certain."""
    text, ordered = words.one_of(
        (10.0, lambda: _plain(words)),
        (0.7, lambda: _set_operation(words)),
        (0.7, lambda: _with(words)),
        (0.3, lambda: (_values(words), True)),
        (0.4, lambda: (_bare(words), True)),
        (0.5, lambda: (_some(words), False)),
    )
    if not ordered and not any(word in text for word in (" LIMIT ", " FETCH ")) and words.chance(0.12):
        text += _limit(words)
    return text, ordered


def _some(words: Words) -> str:
    """A few of a table's rows, wherever they lie."""
    table = words.rng.choice(words.tables)
    alias = words.alias(table)
    items = words.choose(
        (1.0, "*"), (1.0, ", ".join(expression(words, [alias], kind, 1) for kind in _kinds(words, [alias])))
    )
    where = f" WHERE {condition(words, [alias])}" if words.chance(0.2) else ""
    return f"SELECT {items} FROM {table.name} {alias.name}{where}{_limit(words)}"


def _limit(words: Words) -> str:
    """LIMIT of rows in no order, at the end of a SELECT."""
    count = words.choose(*((1.0, text) for text in ("1", "2", "3", "5", "9", "100")), (0.2, "0"), (0.1, "-1"))
    if words.extended and words.chance(0.6):
        kind = TYPES[words.rng.choice(("int2", "int4", "int8", "numeric"))]
        binary = words.binaries and words.chance(0.4) and kind.binary is not None
        value = kind.binary(count) if binary and kind.binary is not None else count.encode()
        oid = kind.oid if binary else words.rng.choice((0, 0, kind.oid))
        words.params.append(Param(oid, None if words.chance(0.05) else value, binary))
        count = f"${len(words.params)}" + words.choose((3.0, ""), (1.0, "::int4"), (0.5, "::int8"))
    elif words.chance(0.1):
        count = words.rng.choice(("ALL", "NULL", f"'{count}'", f"{count}::int8", "2.5", "(1+1)"))
    if count != "ALL" and words.chance(0.2):
        return (
            f" FETCH FIRST {count} ROWS ONLY" if count[:1] in "$123456789" and ":" not in count else f" LIMIT {count}"
        )
    return f" LIMIT {count}" + words.choose((12.0, ""), (1.0, " OFFSET 0"), (0.6, " OFFSET 1"))


def _plain(words: Words) -> tuple[str, bool]:
    source, scope = _from(words)
    tables = [alias for alias in scope if alias.table is not None]
    kinds = _kinds(words, scope)
    head, tail = "SELECT", ""
    if words.chance(0.85):
        tail += f" WHERE {where_of(words, scope, tables, 0.7)}"
    if words.chance(0.12):
        return _grouped(words, scope, source, tail)
    if words.chance(0.08):
        head = "SELECT DISTINCT"
    items = [expression(words, scope, kind) for kind in kinds]
    if words.chance(0.05) and head == "SELECT":
        form = words.rng.choice(_WINDOWS)
        items.append(form.format(expression(words, scope, INT, 0), expression(words, scope, TEXT, 0)))
    if words.chance(0.04):
        items.append(f"{scope[0].name}.{words.rng.choice(('count', 'lower', 'json_agg', 's', 'max'))}")
    if words.chance(0.03) and scope[0].typed:
        items.append(
            words.choose((2.0, scope[0].name), (1.0, f"({scope[0].name}).v"), (1.0, f"{scope[0].name}.*::text"))
        )
    named = [f"{item} AS c{number}" if words.chance(0.2) else item for number, item in enumerate(items)]
    star = words.chance(0.2) and head == "SELECT"
    if star:
        items = named = [words.choose((1.0, "*"), (1.0, f"{scope[0].name}.*"))]
    ordered = words.chance(0.15) and not star
    if ordered:
        tail += " ORDER BY " + ", ".join(
            f"{number + 1}{words.rng.choice(('', ' DESC', ' NULLS FIRST'))}" for number in range(len(items))
        )
        if words.chance(0.4):
            tail += f" LIMIT {words.rng.choice((0, 1, 2, 3))}"
            if words.chance(0.3):
                tail += " OFFSET 1"
    elif words.chance(0.03):
        tail += " LIMIT 0"
    if words.chance(0.04):
        tail += words.rng.choice((" FOR UPDATE", " FOR SHARE", " FOR NO KEY UPDATE SKIP LOCKED"))
    return f"{head} {', '.join(named)} FROM {source}{tail}", ordered


def _kinds(words: Words, scope: list[Alias]) -> list[Type]:
    there = [kind for alias in scope for kind in alias.columns.values()]
    return [
        words.rng.choice(there) if there and words.chance(0.7) else words.rng.choice([*TYPES.values()])
        for _ in range(words.rng.randint(1, 3))
    ]


def _grouped(words: Words, scope: list[Alias], source: str, where: str) -> tuple[str, bool]:
    aggregate = words.rng.choice(_AGGREGATES).format(expression(words, scope, INT, 0))
    if words.chance(0.5):
        return f"SELECT {aggregate} FROM {source}{where}", True
    by = words.column(scope, None)
    if by is None:
        return f"SELECT {aggregate} FROM {source}{where}", True
    having = " HAVING count(*) > 1" if words.chance(0.3) else ""
    return f"SELECT {by}, {aggregate} FROM {source}{where} GROUP BY {by}{having}", False


def _from(words: Words) -> tuple[str, list[Alias]]:
    table = words.rng.choice(words.tables)
    first = words.alias(table)
    only = "ONLY " if words.chance(0.03) else ""
    if words.chance(0.1):
        # Under its own name.
        first = Alias(table.name, table.columns, table)
        source, scope = f"{only}{table.name}", [first]
    else:
        source, scope = f"{only}{table.name} {words.rng.choice(('', 'AS '))}{first.name}", [first]
    while words.chance(0.3) and len(scope) < 4:
        text, alias = _joined(words)
        join = words.choose(*_JOINS)
        lateral = "LATERAL " if text.startswith("(SELECT") and words.chance(0.2) else ""
        if join == "CROSS JOIN" or words.chance(0.1):
            source += f", {lateral}{text}" if join == "JOIN" else f" CROSS JOIN {lateral}{text}"
        else:
            source += f" {join} {lateral}{text} {_on(words, scope, alias)}"
        scope.append(alias)
    if len(scope) > 1 and words.chance(0.05):
        words.aliases += 1
        name = f"t{words.aliases}"
        source, scope = f"({source}) AS {name}", [Alias(name, scope[0].columns, scope[0].table)]
    return source, scope


def _on(words: Words, scope: list[Alias], alias: Alias) -> str:
    common = [name for name in alias.columns if any(name in one.columns for one in scope)]
    if common and words.chance(0.15):
        return f"USING ({quoted(words.rng.choice(common))})"
    if alias.table is not None and words.chance(0.7):
        return f"ON {key_condition(words, [*scope, alias], alias)}"
    return f"ON {condition(words, [*scope, alias])}"


def _joined(words: Words) -> tuple[str, Alias]:
    table = words.rng.choice(words.tables)
    alias = words.alias(table)
    return words.one_of(
        (8.0, lambda: (f"{table.name} {alias.name}", alias)),
        (1.0, lambda: _derived(words, table)),
        (0.4, lambda: (f"generate_series(1, 3) AS {alias.name}(x)", Alias(alias.name, {"x": INT}))),
        (0.4, lambda: (f"(VALUES (1, 'a'), (7, 'b')) AS {alias.name}(x, y)", Alias(alias.name, {"x": INT, "y": TEXT}))),
    )


def _derived(words: Words, table: Table) -> tuple[str, Alias]:
    inner, outer = words.alias(table), words.alias(table)
    names = words.rng.sample([*table.columns], min(2, len(table.columns)))
    where = f" WHERE {where_of(words, [inner], [inner])}" if words.chance(0.7) else ""
    text = f"(SELECT {', '.join(map(quoted, names))} FROM {table.name} {inner.name}{where}) {outer.name}"
    return text, Alias(outer.name, {name: table.columns[name] for name in names})


def _simple(words: Words, kinds: list[Type]) -> str:
    """A SELECT of these types over one table, bound to one shard in many cases."""
    table = words.rng.choice(words.tables)
    alias = words.alias(table)
    items = ", ".join(expression(words, [alias], kind, 1) for kind in kinds)
    return f"SELECT {items} FROM {table.name} {alias.name} WHERE {where_of(words, [alias], [alias], 0.8)}"


def _set_operation(words: Words) -> tuple[str, bool]:
    kinds = [words.rng.choice((INT, TEXT)) for _ in range(words.rng.randint(1, 2))]
    operator = words.rng.choice(("UNION", "UNION ALL", "INTERSECT", "EXCEPT"))
    text = f"{_simple(words, kinds)} {operator} {_simple(words, kinds)}"
    if words.chance(0.3):
        return f"{text} ORDER BY {', '.join(str(number + 1) for number in range(len(kinds)))}", True
    return text, False


def _with(words: Words) -> tuple[str, bool]:
    table = words.rng.choice(words.tables)
    inner = words.alias(table)
    names = words.rng.sample([*table.columns], min(2, len(table.columns)))
    where = where_of(words, [inner], [inner], 0.8)
    materialized = words.rng.choice(("", "", "MATERIALIZED ", "NOT MATERIALIZED "))
    cte = f"SELECT {', '.join(map(quoted, names))} FROM {table.name} {inner.name} WHERE {where}"
    scope = [Alias("x", {name: table.columns[name] for name in names})]
    source = "x"
    if words.chance(0.4):
        text, alias = _joined(words)
        source += f" JOIN {text} {_on(words, scope, alias)}"
        scope.append(alias)
    items = ", ".join(expression(words, scope, kind, 1) for kind in _kinds(words, scope))
    return f"WITH x AS {materialized}({cte}) SELECT {items} FROM {source}", False


def _values(words: Words) -> str:
    kinds = [words.rng.choice((INT, TEXT)) for _ in range(2)]
    rows = ", ".join(f"({', '.join(words.value(kind) for kind in kinds)})" for _ in range(2))
    return f"VALUES {rows}"


def _bare(words: Words) -> str:
    """A SELECT without tables."""
    kinds = words.rng.choices([*TYPES.values()], k=words.rng.randint(1, 2))
    return "SELECT " + ", ".join(expression(words, [], kind) for kind in kinds)
