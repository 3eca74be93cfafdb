"""Nothing that hangs on a table is lost, gained or changed by a full refresh or a rebuild."""

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_ingest_provider import DefinitionError, Delete, Replace
from airflow_ingest_provider.demo.server import SUPERUSER, Server
from tests.postgres import hanging
from tests.postgres.everything import differences, everything, without_types
from tests.postgres.hanging import (
    MEMBER,
    MOVED,
    ORDER,
    OTHER,
    OWNER,
    READER,
    SETTING,
    SUBSCRIPTION,
    TABLE,
    TABLESPACE,
    WRITER,
    Hanging,
)
from tests.postgres.hanging_others import KEYS, NAMES, USERS, VIEWS
from tests.postgres.helpers import load

HANGINGS = (*TABLE, *KEYS, *VIEWS, *USERS, *NAMES)
EXAMPLES = int(os.environ.get("INGEST_EXAMPLES", "200"))
RUNNERS = (SUPERUSER, OWNER, MEMBER)
TEMPLATE = "keeps_template"

STORED = [(1, "Ann", 31, 10, None, "c-1"), (2, "Bob", 32, 20, None, "c-2"), (3, "Cid", 33, 30, 2, "c-3")]
LOADED = [(1, "Ann", 41, 10, None, "c-1"), (2, "Bob", 32, 20, None, "c-2"), (4, "Dee", 44, 40, 2, "c-4")]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A server with the roles, and a database that holds the table and nothing on it."""

    server: Server
    admin: psycopg.Connection

    @contextmanager
    def database(self, hangings: Sequence[Hanging]) -> Iterator[str]:
        """A database of its own, in which all of these hang on the table."""
        name = f"keeps_{next(_numbers)}"
        self.admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER {OWNER}")
        try:
            with self.look(name) as connection:
                for script in (SETTING, *(one.sql for one in hangings)):
                    connection.execute(f"SET ROLE {OWNER}; {script}; RESET ROLE".encode())
                connection.execute("ANALYZE")
            yield name
        finally:
            with self.look(name) as connection:
                connection.execute(f"DROP SUBSCRIPTION IF EXISTS {SUBSCRIPTION}")
            self.admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def look(self, database: str) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.server.dsn(database), autocommit=True) as connection:
            yield connection

    @contextmanager
    def connection(self, database: str, role: str) -> Iterator[sa.Connection]:
        engine = sa.create_engine(self.server.url("psycopg", database).set(username=role), poolclass=sa.NullPool)
        with engine.connect() as connection:
            yield connection
        engine.dispose()


@pytest.fixture(scope="module")
def place(server: Server, admin: psycopg.Connection) -> Iterator[Place]:
    folder = Path(server.folder, "space")
    folder.mkdir()
    os.chown(folder, server.folder.stat().st_uid, server.folder.stat().st_gid)
    roles = (OWNER, MEMBER, READER, WRITER, OTHER)
    for role in roles:
        admin.execute(f"CREATE ROLE {role} LOGIN")
    admin.execute(f"GRANT {OWNER} TO {MEMBER}; GRANT {WRITER} TO {OWNER}")
    admin.execute(f"CREATE TABLESPACE {TABLESPACE} OWNER {OWNER} LOCATION '{folder}'")
    admin.execute(f"CREATE DATABASE {TEMPLATE} OWNER {OWNER}")
    here = Place(server, admin)
    with here.look(TEMPLATE) as connection:
        connection.execute(f"GRANT ALL ON SCHEMA public TO {OWNER}")
    with here.connection(TEMPLATE, OWNER) as conn:
        load(conn, hanging.people(), STORED)
    yield here
    admin.execute(f"DROP DATABASE {TEMPLATE}")
    admin.execute(f"DROP TABLESPACE {TABLESPACE}")
    for role in roles:
        admin.execute(f"DROP ROLE {role}")
    folder.rmdir()


def offered(place: Place, role: str = SUPERUSER) -> list[Hanging]:
    """What this server knows, and this role may carry."""
    major = place.admin.info.server_version // 10000
    return [one for one in HANGINGS if one.min_version <= major and (one.by_owner or role == SUPERUSER)]


def rows(conn: psycopg.Connection) -> list[tuple[Any, ...]]:
    return conn.execute(f"SELECT {', '.join(ORDER[:-1])} FROM ONLY people ORDER BY id").fetchall()


def table_oid(conn: psycopg.Connection) -> Any:
    return conn.execute("SELECT 'people'::regclass::oid").fetchone()


def combination(drawn: Sequence[Hanging]) -> list[Hanging]:
    """Of each group the first one, in the order in which the scripts can be run."""
    groups = {one.group or one.name: one for one in reversed(drawn) if one.combines}
    return sorted(groups.values(), key=HANGINGS.index)


def can_be_swapped(hangings: Sequence[Hanging]) -> bool:
    """Whether another table can carry all of it."""
    names = {one.name for one in hangings}
    # PostgreSQL leaves an unlogged table out of what is published with all others.
    unpublished = ("publication of all tables", "publication of the schema") if "unlogged" in names else ()
    return all(one.swap or one.name in unpublished for one in hangings)


def refreshed(place: Place, hangings: Sequence[Hanging], role: str) -> None:
    """A full refresh, after which there are the new rows, and all else is as before."""
    with place.database(hangings) as database, place.look(database) as look:
        before, oid = everything(look), table_oid(look)
        with place.connection(database, role) as conn:
            load(conn, hanging.people(), LOADED, delete=Delete.BEFORE_FIRST_BATCH)
        after = everything(look)
        assert differences(before, after) == []
        assert rows(look) == LOADED
        if not can_be_swapped(hangings):
            assert table_oid(look) == oid
        assert "_ingest_" not in str(after)


def swapped(place: Place, hangings: Sequence[Hanging], role: str) -> None:
    """The same by a swap, or it is refused, and nothing is changed."""
    with place.database(hangings) as database, place.look(database) as look:
        before, oid, stored = everything(look), table_oid(look), rows(look)
        with place.connection(database, role) as conn:
            if can_be_swapped(hangings):
                load(conn, hanging.people(), LOADED, delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
                assert table_oid(look) != oid
            else:
                with pytest.raises(DefinitionError, match="cannot be replaced by a swap because of"):
                    load(conn, hanging.people(), LOADED, delete=Delete.BEFORE_FIRST_BATCH, replace=Replace.SWAP)
        after = everything(look)
        assert differences(before, after) == []
        assert rows(look) == (LOADED if can_be_swapped(hangings) else stored)
        assert "_ingest_" not in str(after)


def rebuilt(place: Place, hangings: Sequence[Hanging], role: str) -> None:
    """A rebuild for another order of the columns: that is all that changes; or it is refused, and nothing is."""
    with place.database(hangings) as database, place.look(database) as look:
        before, oid, stored = everything(look, "rvm"), table_oid(look), rows(look)
        with place.connection(database, role) as conn:
            if can_be_swapped(hangings) and all(one.moves for one in hangings):
                load(conn, hanging.people(*MOVED), [])
                moved = before | {"columns of people": {", ".join(MOVED): 1}}
            else:
                with pytest.raises(DefinitionError, match="cannot be"):
                    load(conn, hanging.people(*MOVED), [])
                assert table_oid(look) == oid
                moved = before
        after = everything(look, "rvm")
        assert differences(moved, after) == []
        assert rows(look) == stored
        assert "_ingest_" not in str(after)


def retyped(place: Place, hangings: Sequence[Hanging], role: str) -> None:
    """A rebuild for another type of a column: nothing but types changes; or it is refused, and nothing is.

    No column is computed, so that the rows come with CREATE TABLE AS, and not with INSERT as in the other rebuild.
    """
    with place.database(hangings) as database, place.look(database) as look:
        look.execute("ALTER TABLE people ALTER half DROP EXPRESSION")
        before, stored = everything(look, "rvm"), rows(look)
        with place.connection(database, role) as conn:
            refused = None
            try:
                load(conn, hanging.people(age=sa.BigInteger, computed=False), [])
            except DefinitionError as error:
                refused = str(error)
        after = everything(look, "rvm")
        if refused:
            assert "cannot be" in refused
            assert differences(before, after) == []
        else:
            assert differences(without_types(before), without_types(after)) == []
        assert rows(look) == stored


WAYS = {
    "refresh": (refreshed, SUPERUSER),
    "swap": (swapped, OWNER),
    "rebuild": (rebuilt, OWNER),
    "retype": (retyped, MEMBER),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("one", HANGINGS, ids=lambda one: one.name)
def test_each_thing_stays(place: Place, one: Hanging, way: str) -> None:
    if one not in offered(place):
        pytest.skip(f"comes with PostgreSQL {one.min_version}")
    goes, role = WAYS[way]
    goes(place, [one], role if one.by_owner else SUPERUSER)


@pytest.mark.parametrize("role", RUNNERS)
@pytest.mark.parametrize("way", WAYS)
def test_the_table_alone_stays(place: Place, role: str, way: str) -> None:
    WAYS[way][0](place, [], role)


@pytest.mark.parametrize("role", RUNNERS)
@pytest.mark.parametrize("way", WAYS)
def test_all_that_can_be_carried_stays_together(place: Place, role: str, way: str) -> None:
    WAYS[way][0](place, combination([one for one in offered(place, role) if one.swap]), role)


@pytest.mark.parametrize("way", WAYS)
def test_an_unlogged_table_is_swapped_since_nobody_publishes_it(place: Place, way: str) -> None:
    names = ("unlogged", "publication of all tables", "publication of the schema")
    WAYS[way][0](place, [one for one in offered(place) if one.name in names], SUPERUSER)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_moves_into_the_default_tablespace_of_the_role(place: Place, way: str) -> None:
    place.admin.execute(f"ALTER ROLE {OWNER} SET default_tablespace = {TABLESPACE}")
    try:
        WAYS[way][0](place, [one for one in offered(place) if one.name == "materialized view"], OWNER)
    finally:
        place.admin.execute(f"ALTER ROLE {OWNER} RESET default_tablespace")


@pytest.mark.parametrize("way", WAYS)
def test_all_at_once_stays(place: Place, way: str) -> None:
    WAYS[way][0](place, combination(offered(place)), SUPERUSER)


@pytest.mark.parametrize("rule", [one for one in HANGINGS if not one.combines], ids=lambda one: one.name)
def test_rules_that_would_take_the_place_of_a_refresh_in_place_are_refused_by_name(place: Place, rule: Hanging) -> None:
    in_place = next(one for one in HANGINGS if one.name == "function of the row type")
    with place.database([rule, in_place]) as database, place.look(database) as look:
        before, stored = everything(look), rows(look)
        with (
            place.connection(database, OWNER) as conn,
            pytest.raises(DefinitionError, match="PostgreSQL puts its rule"),
        ):
            load(conn, hanging.people(), LOADED, delete=Delete.BEFORE_FIRST_BATCH)
        assert differences(before, everything(look)) == []
        assert rows(look) == stored


@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(data=st.data())
def test_whatever_is_combined_stays(place: Place, data: st.DataObject) -> None:
    role = data.draw(st.sampled_from(RUNNERS))
    way, _ = WAYS[data.draw(st.sampled_from(sorted(WAYS)))]
    drawn = data.draw(st.lists(st.sampled_from(offered(place, role)), min_size=2, max_size=12, unique=True))
    way(place, combination(drawn), role)
