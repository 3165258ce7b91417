"""Resource requests, dates, durations and filters of the lab's scheduler."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g5kdeploy.lab.oar import Refused, Resource, pgtext, text
from g5kdeploy.lab.oar.commands import run_time
from g5kdeploy.lab.oar.grammar import (
    ALL,
    BEST,
    BESTHALF,
    Alternative,
    Group,
    Reservation,
    parse,
    parse_change,
    parse_reservation,
)
from g5kdeploy.lab.oar.inventory import Inventory, Wish, bits, choose, mask_of

NOW = 1_795_365_009  # 2026-11-22 17:30:09 in Paris

LEVELS = st.sampled_from(["cluster", "host", "cpu", "core", "switch", "vlan"])
COUNTS = st.one_of(st.integers(0, 10_000), st.sampled_from([ALL, BEST, BESTHALF]))
FILTERS = st.sampled_from(["", "cluster='a'", "host in ('x.y', 'z') AND memnode > 3", "type = 'kavlan'"])
GROUPS = st.builds(Group, FILTERS, st.lists(st.tuples(LEVELS, COUNTS), min_size=1, max_size=4).map(tuple))


@given(st.lists(GROUPS, min_size=1, max_size=3), st.integers(0, 400 * 3600))
def test_what_is_written_is_read_back(groups: list[Group], walltime: int) -> None:
    written = f"{'+'.join(map(str, groups))},walltime={text.duration(walltime)}"
    assert parse(written) == Alternative(tuple(groups), walltime)


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(written: str) -> None:
    refused = None
    try:
        parse(written)
    except Refused as error:
        refused = error
    assert refused is None or (refused.status, refused.exit_code) == (400, 18)
    assert refused is None or refused.message.startswith("# Error: cannot recognize")


@pytest.mark.parametrize(
    ("written", "refusal"),
    [
        ("nodes=", "the resource description: nodes="),
        ("nodes=-1", "the resource description: nodes=-1"),
        ("nodes=1;walltime=1", "the resource description: nodes=1;walltime=1"),
        ("{cluster='p'/nodes=1", "the resource description: {cluster='p'"),
        ("nodes=1,walltime", "-- ,walltime -- resource"),
        ("nodes=1+", "-- + -- resource"),
        ("", "--  -- resource"),
    ],
)
def test_refusals(written: str, refusal: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(written)
    assert caught.value.message == f"# Error: cannot recognize {refusal}\n"


def test_odd_requests_that_pass() -> None:
    assert parse("walltime=1") == Alternative((Group("", (("host", 1),)),), 3600)
    assert parse("nodes=1,walltime=1:2:3:4").walltime == 3723
    assert parse("nodes=1,walltime=0").walltime == 0
    assert parse("/nodes=2/core=1").groups == (Group("", (("host", 2), ("core", 1))),)
    assert len(parse("{type='kavlan'}/vlan=1+{cluster='x'}/nodes=2").groups) == 2


@pytest.mark.parametrize(
    ("written", "start", "end"),
    [
        ("2026-11-22 18:33:51", 1_795_368_831, None),
        ("now", NOW, None),
        ("23:59", 1_795_388_340, None),
        ("23", 1_795_384_800, None),
        ("2026-12-24 19", 1_798_135_200, None),
        ("2026-11-22 20:24:44,2026-11-22 20:34:44", 1_795_375_484, 1_795_376_084),
        ("2026-11-22 20:34:44, 2026-11-22 20:24:44", 1_795_376_084, 1_795_375_484),
        ("23:00,01:00", 1_795_384_800, 1_795_392_000),
    ],
)
def test_reservations(written: str, start: int, end: int | None) -> None:
    assert parse_reservation(written, NOW) == Reservation(start, end)


@pytest.mark.parametrize(
    "written", ["", "tomorrow", "2026-11-22", "1795400000", "2027-13-45 00:00:00", "2026-02-30 10"]
)
def test_bad_dates(written: str) -> None:
    with pytest.raises(Refused, match="syntax error in <start date>") as caught:
        parse_reservation(written, NOW)
    assert caught.value.exit_code == 7


@given(st.integers(0, 10**9), st.integers(0, 10**6))
def test_walltime_changes(seconds: int, current: int) -> None:
    assert parse_change(f"+{text.duration(seconds)}", current) == seconds
    assert parse_change(f"-{text.duration(seconds)}", current) == -seconds
    assert parse_change(text.duration(seconds), current) == seconds - current
    assert parse_change(f"x{seconds}", current) is None and parse_change("+", current) is None


def test_a_negative_duration_is_told_as_there() -> None:
    assert text.duration(-600) == "0:50:0"
    assert text.signed(-600) == "-0:10:0"


def test_commands_on_the_clock() -> None:
    assert run_time("sleep 1m 30") == (90.0, 0)
    assert run_time("#!/bin/sh\nsleep 5; exit 3") == (5.0, 3 << 8)
    assert run_time("sleep infinity")[0] == float("inf")
    assert run_time("no-such-command")[1] == 127 << 8
    assert run_time("sleep 2; kill -9 $$; sleep 100") == (2.0, 9)
    assert run_time("kill -s USR1 $$")[1] == run_time("kill -10 $$")[1] == 10
    assert run_time("kill $$")[1] == 15
    assert run_time("bash -c 'sleep 3; exit 4' && true") == (3.0, 0)
    assert run_time("(sleep 1; sleep 2) & exit 5") == (3.0, 5 << 8)
    assert run_time("sh -c 'kill -9 $$'")[1] == 137 << 8
    assert run_time("echo 'no end")[1] == 2 << 8


def site() -> Inventory:
    """Two clusters of two nodes with two cores."""
    resources = [
        Resource(
            i, "default", f"{'ab'[i > 4]}-{(i - 1) // 2 % 2 + 1}", {"cluster": "ab"[i > 4], "core": i, "memory": i}
        )
        for i in range(1, 9)
    ]
    return Inventory(resources, {})


@given(st.sets(st.integers(0, 3000)))
def test_sets_are_sets(ids: set[int]) -> None:
    assert list(bits(mask_of(ids))) == sorted(ids)


def select(inventory: Inventory, request: str, free: int | None = None) -> list[int]:
    wish = Wish(tuple(inventory.tree(group, "maintenance = 'NO'") for group in parse(request).groups))
    return list(bits(wish.choose(inventory.everything if free is None else free)))


@pytest.mark.parametrize(
    ("request_text", "ids"),
    [
        ("nodes=1", [1, 2]),
        ("core=3", [1, 2, 3]),
        ("nodes=2/core=1", [1, 3]),
        ("cluster=2/nodes=1", [1, 2, 5, 6]),
        ("cluster=1/nodes=3", []),
        ("nodes=ALL", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("{cluster='b'}/nodes=BEST", [5, 6, 7, 8]),
        ("{cluster='b'}/nodes=1+nodes=2", [1, 2, 3, 4, 5, 6]),
        ("{memory > '6' OR cluster LIKE 'z%'}/nodes=1", [7, 8]),
        ("{host ~ '^b-2$'}/nodes=1", [7, 8]),
        ("{cluster LIKE 'A'}/nodes=1", []),
        ("resource_id=2", [1, 2]),
        ("nodes=0", []),
        ("nodes=5", []),
    ],
)
def test_choosing(request_text: str, ids: list[int]) -> None:
    assert select(site(), request_text) == ids


def test_nodes_are_taken_whole() -> None:
    inventory = site()
    assert select(inventory, "nodes=1", inventory.everything & ~mask_of([1])) == [3, 4]
    assert select(inventory, "nodes=ALL", inventory.everything & ~mask_of([1])) == []
    assert select(inventory, "nodes=BEST", mask_of([1, 3, 4])) == [3, 4]


def test_dead_nodes_are_not_there() -> None:
    inventory = site()
    inventory.set_state("a-1", "Dead")
    assert select(inventory, "nodes=1") == [3, 4]
    assert select(inventory, "{state = 'Dead'}/nodes=1") == []
    assert choose(inventory.tree(Group("", (("host", 4),)), ""), inventory.everything) == 0


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("nosuch='x'", 'column "nosuch" does not exist'),
        ("cluster=paradoxe", 'column "paradoxe" does not exist'),
        ('cluster="a"', 'column "a" does not exist'),
        ("cluster=", 'syntax error at or near ")"'),
        ("cluster='a' host", 'syntax error at or near "host"'),
    ],
)
def test_bad_filters(sql: str, error: str) -> None:
    with pytest.raises(pgtext.BadFilter) as caught:
        site().tree(Group(sql, (("host", 1),)), "deploy = 'YES'")
    assert f"ERROR:  {error}\nLINE 4: " in caught.value.text
    assert caught.value.text.startswith("DBD::Pg::st execute failed: ")
    _, line, marker, *_ = caught.value.text.splitlines()
    assert line[marker.index("^") :].lstrip('"').startswith(error.split('"')[1])


@pytest.mark.parametrize(
    ("sql", "ids"),
    [
        ("cluster ILIKE 'A' AND core IN (1, '2')", [1, 2]),
        ("cluster NOT LIKE 'a%'", [5, 6, 7, 8]),
        ("cluster SIMILAR TO '(a|c)' AND core::text = '1'", [1]),
        ("host ~* '^B-1'", [5, 6]),
        ("core BETWEEN 2 AND '3' /* both */ OR core + 1 = 8", [2, 3, 7]),
        ("CASE cluster WHEN 'b' THEN core % 2 = 0 ELSE core IS NULL END", [6, 8]),
        ("NOT (cluster = 'a' OR core = 5) AND resources.core <> 6", [7, 8]),
        ("upper(substr(cluster, 1)) || core = 'A3'", [3]),
        ("coalesce(cluster, 'x') = 'b' AND state = 'Alive' AND expiry_date = 0", [5, 6, 7, 8]),
        ("(cluster = 'b') IS NOT TRUE AND core IS DISTINCT FROM 1", [2, 3, 4]),
        ("cluster = 'a' -- and nothing\n'b'", []),
    ],
)
def test_filters_in_the_databases_sql(sql: str, ids: list[int]) -> None:
    assert list(bits(site().tree(Group(sql, (("resource_id", ALL),)), "").mask)) == ids


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("core='x'", 'invalid input syntax for type integer: "x"'),
        ("core IN (1, 'x')", 'invalid input syntax for type integer: "x"'),
        ("core='99999999999'", 'value "99999999999" is out of range for type integer'),
        ("resource_id=''", 'invalid input syntax for type bigint: ""'),
        ("cluster > 5", "operator does not exist: character varying > integer"),
        ("cluster NOT IN (1)", "operator does not exist: character varying <> integer"),
        ("core LIKE '1'", "operator does not exist: integer ~~ unknown"),
        ("core && 1", "operator does not exist: integer && integer"),
        ("!core", "operator does not exist: ! integer"),
        ("nofunc(cluster)='x'", "function nofunc(character varying) does not exist"),
        ("1", "argument of AND must be type boolean, not type integer"),
        ("cluster OR core=1", "argument of OR must be type boolean, not type character varying"),
        ("'x'", 'invalid input syntax for type boolean: "x"'),
        ("cluster IN ()", 'syntax error at or near ")"'),
        ("core=1=2", 'syntax error at or near "="'),
        ("core::foo=1", 'type "foo" does not exist'),
        ("core=1abc", 'trailing junk after numeric literal at or near "1abc"'),
        ("a.b=1", 'missing FROM-clause entry for table "a"'),
        ("(cluster='a'", "syntax error at end of input"),
        ('cluster="a', "unterminated quoted identifier at or near \"\"a) AND (deploy = 'YES') ) AND"),
        ("cluster='a", 'syntax error at or near "YES"'),
    ],
)
def test_filters_that_the_database_rejects(sql: str, error: str) -> None:
    with pytest.raises(pgtext.BadFilter) as caught:
        site().tree(Group(sql, (("host", 1),)), "deploy = 'YES'")
    assert caught.value.short.startswith(f"ERROR:  {error}")
    assert ("HINT:  No " in caught.value.short) == error.startswith(("operator", "function"))


@pytest.mark.parametrize(
    "sql",
    ["1=1; DELETE FROM resources", "cluster='a') ; DROP TABLE resources --", "abs(", "load_extension('x')", "'"],
)
def test_filters_only_read(sql: str) -> None:
    inventory = site()
    with pytest.raises(pgtext.BadFilter):
        inventory.tree(Group(sql, (("host", 1),)), "")
    assert select(inventory, "nodes=ALL") == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    "sql", ["(" * 3000, "not " * 3000 + "true", "core" + " + 1" * 3000 + " = 1", "- " * 3000 + "1 = 1"]
)
def test_filters_that_are_too_deep(sql: str) -> None:
    with pytest.raises(pgtext.BadFilter):
        site().tree(Group(sql, (("host", 1),)), "")


@given(st.text(alphabet="abcluster=<>'\"() ;~-+*/123,ANDORxyz", max_size=30))
def test_no_filter_breaks_the_inventory(sql: str) -> None:
    inventory = site()
    try:
        inventory.tree(Group(sql or "1=1", (("host", 1),)), "maintenance = 'NO'")
    except pgtext.BadFilter:
        pass
    except sqlite3.Error as error:
        raise AssertionError(sql) from error
    assert select(inventory, "nodes=1") == [1, 2]
