"""What PostgreSQL's catalog says of relations, types and roles, and whether tables hold rows and values of a kind.

Nothing here changes anything, or takes more of a lock than a reader does.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import statements
from airflow_ingest_provider.core.names import Name, stems
from airflow_ingest_provider.core.session import run
from airflow_ingest_provider.core.shape import ColumnShape


def find_all(conn: sa.Connection, names: Sequence[tuple[str | None, str]]) -> list[tuple[Name, int | None]]:
    """The qualified names and OIDs (None: there is none) of relations, in one query.

    Without a schema a name is looked up as SQLAlchemy and PostgreSQL do, along the search_path; where nothing is
    found it belongs into the first schema of the path.
    """
    schemas, relations = zip(*names, strict=True)
    found = conn.execute(_RELATIONS, {"schemas": list(schemas), "names": list(relations)})
    return [(Name(row.schema or "", row.name), row.oid) for row in found]


def find_tables(conn: sa.Connection, tables: Sequence[sa.Table]) -> list[tuple[Name, int | None]]:
    """The same of declared tables, whose schemas the connection may call otherwise."""
    return find_all(conn, [(conn.schema_for_object(table), table.name) for table in tables])


def oid_of(conn: sa.Connection, name: Name) -> int:
    """The OID of a relation; 0, which nothing has, if it is not there."""
    return oids_of(conn, [name])[0]


def oids_of(conn: sa.Connection, names: Sequence[Name]) -> list[int]:
    """The same for several, in their order."""
    return [oid or 0 for _, oid in find_all(conn, [(name.schema, name.name) for name in names])]


def schema_exists(conn: sa.Connection, schema: str) -> bool:
    """Whether the schema is there: CREATE SCHEMA IF NOT EXISTS needs rights even where it is."""
    return conn.scalar(_SCHEMA, {"schema": schema}) is not None


def lacking_to_create(conn: sa.Connection, schema: str) -> str | None:
    """On what the current role lacks CREATE to make a relation in the schema, which may be missing; None if on nothing.

    In SQL, as in `SCHEMA "Sales"`.
    """
    lacking: str | None = conn.scalar(_LACKING_TO_CREATE, {"schema": schema})
    return lacking


def comments(conn: sa.Connection, names: Iterable[Name]) -> Mapping[Name, str | None]:
    """The comments of those of the tables that are there."""
    wanted = [(name.schema, name.name) for name in names]
    schemas, tables = zip(*wanted, strict=True)
    found = conn.execute(_COMMENTS, {"schemas": list(schemas), "names": list(tables)})
    return {Name(row.schema, row.name): row.comment for row in found}


@dataclass(frozen=True)
class Access:
    """Whether the current role may do what a relation's owner may, and whether policies apply to its queries of it.

    An owner without UPDATE, DELETE and TRUNCATE may not even lock it.
    """

    oid: int
    may_own: bool
    may_lock: bool
    role: str
    owner: str
    hides_rows: bool


def access(conn: sa.Connection, oids: Sequence[int]) -> dict[int, Access]:
    """What the current role may do with relations."""
    return {row.oid: Access(**row._mapping) for row in conn.execute(_ACCESS, {"oids": list(oids)})}


def has_rows(conn: sa.Connection, name: Name) -> bool:
    """Whether the table holds any row."""
    return bool(filled(conn, [name]))


def filled(conn: sa.Connection, names: Sequence[Name]) -> list[Name]:
    """Those of the tables that hold any row."""
    if not names:
        return []
    exist = sql.SQL(", ").join(sql.SQL("EXISTS (SELECT FROM {})").format(name.sql) for name in names)
    found = run(conn, sql.SQL("SELECT ARRAY[{}]").format(exist)).scalar_one()
    return list(compress(names, found))


def holds_values(conn: sa.Connection, name: Name, column: str) -> bool:
    """Whether any row has a value in the column."""
    table = sa.table(name.name, sa.column(column), schema=name.schema)
    return conn.execute(sa.select(sa.literal(1)).where(table.c[column].is_not(None)).limit(1)).first() is not None


def count_nulls(conn: sa.Connection, name: Name, column: str) -> int:
    """How many rows hold NULL in the column."""
    table = sa.table(name.name, sa.column(column), schema=name.schema)
    return int(conn.scalar(sa.select(sa.func.count()).select_from(table).where(table.c[column].is_(None))) or 0)


def count_labels(conn: sa.Connection, name: Name, column: ColumnShape, labels: Collection[str]) -> int:
    """How many rows hold one of the labels, in a column of an enum or of an array of it."""
    held = sql.SQL("CAST({} AS text[]) && ARRAY[{}]" if column.value.is_array else "CAST({} AS text) IN ({})")
    holds = held.format(sql.Identifier(column.name), sql.SQL(", ").join(map(statements.literal, labels)))
    return int(run(conn, sql.SQL("SELECT count(*) FROM {} WHERE {}").format(name.sql, holds)).scalar_one())


def pinned_columns(conn: sa.Connection, oid: int) -> Mapping[str, tuple[str, ...]]:
    """Columns that views, rules, policies, triggers, publications or functions use, and which those are.

    PostgreSQL refuses to drop such a column, or to change its type in place.
    """
    pinned: dict[str, list[str]] = {}
    for row in conn.execute(_PINNED, {"oid": oid}):
        pinned.setdefault(row.attname, []).append(row.dependent)
    return {name: tuple(sorted(set(dependents))) for name, dependents in pinned.items()}


def computed_from(conn: sa.Connection, oid: int) -> tuple[str, ...]:
    """Columns that a generated column of the table is computed from: their types cannot be changed in place."""
    return tuple(conn.scalars(_COMPUTED_FROM, {"oid": oid}))


def rechecked_columns(conn: sa.Connection, oid: int) -> tuple[str, ...]:
    """Columns for whose type PostgreSQL reads all rows, be it only widened: it makes checks and indexes anew."""
    return tuple(conn.scalars(_RECHECKED, {"oid": oid}))


def numbered_columns(conn: sa.Connection, oid: int) -> int:
    """How many columns the table has or had since it was made."""
    return int(conn.scalar(sa.text("SELECT relnatts FROM pg_class WHERE oid = :oid"), {"oid": oid}) or 0)


def needed_indexes(conn: sa.Connection, oid: int) -> Mapping[str, str]:
    """Indexes of the table that something else needs, and what: parents, foreign keys, replica identity, cluster."""
    return {row.name: row.reason for row in conn.execute(_NEEDED, {"oid": oid})}


def has_more_rows(conn: sa.Connection, name: Name, than: int) -> bool:
    """Whether the table holds more rows than that; no more are read."""
    counted = sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) first_rows").format(
        name.sql, sql.Literal(than + 1)
    )
    return int(run(conn, counted).scalar_one()) > than


def cannot_publish_deletes(conn: sa.Connection, oid: int) -> bool:
    """Whether a publication has the table's deleted rows, and nothing tells them apart."""
    return bool(conn.scalar(_CANNOT_PUBLISH, {"oid": oid}))


def have_triggers(conn: sa.Connection, oids: Sequence[int]) -> bool:
    """Whether people put triggers on one of the tables."""
    return bool(conn.scalar(_HAVE_TRIGGERS, {"oids": list(oids)}))


def size(conn: sa.Connection, oid: int) -> int:
    """The bytes of the table, its partitions and all their indexes."""
    return int(conn.scalar(_SIZE, {"oid": oid}) or 0)


def time_zone(conn: sa.Connection) -> str:
    """The session's TimeZone."""
    return str(conn.scalar(sa.text("SELECT current_setting('TimeZone')")))


def is_assignable(conn: sa.Connection, before: str, after: str) -> bool:
    """Whether PostgreSQL assigns values of one type to a column of the other, without a cast that asks for it."""
    return bool(conn.scalar(_ASSIGNABLE, {"before": before, "after": after}))


def type_users(conn: sa.Connection, type_: str, oid: int) -> tuple[str, ...]:
    """What uses a type, or its array, besides the table itself."""
    return tuple(conn.scalars(_TYPE_USERS, {"type": type_, "oid": oid}))


def type_owner(conn: sa.Connection, type_: str) -> tuple[Name, str, str | None]:
    """The type's name, its owner and its comment."""
    row = conn.execute(_TYPE_OWNER, {"type": type_}).one()
    return Name(row.schema, row.name), row.owner, row.comment


def taken_names(conn: sa.Connection, wanted: Mapping[int, Collection[str]]) -> dict[int, frozenset[str]]:
    """For each table those of the names wanted for its parts that relations of its schema have, other than its own.

    With the names that are the same but for a number at the end.
    """
    pairs = [(oid, stem) for oid, names in wanted.items() for name in names for stem in stems(name)]
    at = {"oids": [oid for oid, _ in pairs], "stems": [stem for _, stem in pairs]}
    found = by_table(conn.execute(_TAKEN, at))
    return {oid: frozenset(row.relname for row in found[oid]) for oid in wanted}


def relations_called(conn: sa.Connection, names: Collection[Name]) -> set[Name]:
    """The relations that have one of the names, or one that is the same but for a number at the end."""
    pairs = {(name.schema, stem) for name in names for stem in stems(name.name)}
    at = {"schemas": [schema for schema, _ in pairs], "stems": [stem for _, stem in pairs]}
    return {Name(row.nspname, row.relname) for row in conn.execute(_CALLED, at)}


def tables_with(conn: sa.Connection, names: Sequence[Name]) -> dict[Name, Name]:
    """The tables of the indexes that have one of the names, by those; other relations of them by themselves."""
    at = {"schemas": [name.schema for name in names], "names": [name.name for name in names]}
    return {Name(row.schema, row.name): Name(row.schema, row.relname) for row in conn.execute(_TABLES_WITH, at)}


def enum_labels(conn: sa.Connection, schema: str | None, name: str) -> tuple[str, ...] | None:
    """The enum type's labels in their order, None where there is no such type."""
    labels: list[str] | None = conn.scalar(_ENUM, {"schema": schema, "name": name})
    return None if labels is None else tuple(labels)


def has_type(conn: sa.Connection, schema: str | None, name: str, *, of_rows: bool) -> bool:
    """Whether a type has the name, that `of_rows` or of an array too; without a schema one along the search_path."""
    return bool(conn.scalar(_TYPE, {"schema": schema, "name": name, "of_rows": of_rows}))


def by_table(rows: Iterable[Any]) -> defaultdict[int, list[Any]]:
    """Rows by their `table_oid`, in their order; none for tables that have none."""
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.table_oid].append(row)
    return found


# Foreign keys have internal triggers.
_HAVE_TRIGGERS = sa.text("""
    SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = ANY (CAST(:oids AS oid[])) AND NOT tgisinternal)
""")

# The table of each index of a name, or the relation itself that has the name.
_TABLES_WITH = sa.text("""
    SELECT n.nspname AS schema, c.relname AS name, t.relname
    FROM unnest(CAST(:schemas AS text[]), CAST(:names AS text[])) wanted(schema, name)
    JOIN pg_namespace n ON n.nspname = wanted.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = CAST(wanted.name AS name)
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
""")

# The relation that each name means, in the order of the names: in its schema, or, without one, the first along the
# search_path. Without a relation, no OID and the schema that it belongs into, which is null where there is none.
_RELATIONS = sa.text("""
    SELECT wanted.name, c.oid, coalesce(n.nspname, wanted.schema, current_schema()) AS schema
    FROM unnest(CAST(:schemas AS text[]), CAST(:names AS text[])) WITH ORDINALITY wanted(schema, name, place)
    LEFT JOIN (pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace)
      ON c.relname = CAST(wanted.name AS name)
     AND CASE WHEN wanted.schema IS NULL
              THEN pg_table_is_visible(c.oid) AND c.relpersistence <> 't'
              ELSE n.nspname = wanted.schema END
    ORDER BY wanted.place
""").columns(oid=sa.BigInteger, schema=sa.Text)

# One row where the schema exists, whatever the role's rights on it.
_SCHEMA = sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :schema")

_LACKING_TO_CREATE = sa.text("""
    SELECT CASE WHEN n.oid IS NULL AND NOT has_database_privilege(d.oid, 'CREATE') THEN format('DATABASE %I', d.datname)
                WHEN NOT has_schema_privilege(n.oid, 'CREATE') THEN format('SCHEMA %I', n.nspname) END
    FROM pg_database d LEFT JOIN pg_namespace n ON n.nspname = :schema
    WHERE d.datname = current_database()
""")

# The comments of the relations themselves, not of their columns.
_COMMENTS = sa.text("""
    SELECT n.nspname AS schema, c.relname AS name, obj_description(c.oid, 'pg_class') AS comment
    FROM unnest(CAST(:schemas AS name[]), CAST(:names AS name[])) wanted(schema, name)
    JOIN pg_class c ON c.relname = wanted.name
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = wanted.schema
""")

# A member of the owner role, or a superuser, may do what the owner may. Policies spare owners unless they are forced
# on them, superusers and roles with BYPASSRLS always.
_ACCESS = sa.text("""
    SELECT c.oid::bigint AS oid, pg_has_role(c.relowner, 'USAGE') AS may_own,
           has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE') AS may_lock, current_user::text AS role,
           pg_get_userbyid(c.relowner)::text AS owner, row_security_active(c.oid) AS hides_rows
    FROM pg_class c WHERE c.oid = ANY (CAST(:oids AS oid[]))
""")

# What other objects use single columns of the table: not its own indexes, constraints, defaults and sequences.
_PINNED = sa.text("""
    SELECT a.attname, pg_describe_object(d.classid, d.objid, 0) AS dependent
    FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = :oid AND d.refobjsubid > 0
      AND d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_trigger'::regclass,
                        'pg_publication_rel'::regclass, 'pg_proc'::regclass)
""")

# Columns that a generated column is computed from: 14 keeps that with the column, 15 and later with its default.
_COMPUTED_FROM = sa.text("""
    SELECT DISTINCT a.attname
    FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    LEFT JOIN pg_attrdef x ON d.classid = 'pg_attrdef'::regclass AND x.oid = d.objid
    JOIN pg_attribute g ON g.attrelid = :oid AND g.attnum = coalesce(x.adnum, d.objsubid) AND g.attgenerated <> ''
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = :oid AND a.attnum <> g.attnum
      AND (x.oid IS NOT NULL OR d.classid = 'pg_class'::regclass AND d.objid = d.refobjid)
""")

# Checks that are valid, and indexes with an expression or a predicate: PostgreSQL keeps other indexes as they are.
_RECHECKED = sa.text("""
    SELECT DISTINCT a.attname
    FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.contype = 'c'
    LEFT JOIN pg_index i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = :oid
      AND (k.convalidated OR i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
""")

# The table's own are its indexes and the sequences that its columns own.
_TAKEN = sa.text("""
    SELECT DISTINCT t.oid::bigint AS table_oid, c.relname::text
    FROM unnest(CAST(:oids AS oid[]), CAST(:stems AS text[])) wanted(oid, stem)
    JOIN pg_class t ON t.oid = wanted.oid
    JOIN pg_class c ON c.relnamespace = t.relnamespace AND rtrim(c.relname::text, '0123456789') = wanted.stem
    WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = c.oid AND i.indrelid = t.oid)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND c.relkind = 'S')
""")

_CALLED = sa.text("""
    SELECT n.nspname::text, c.relname::text
    FROM unnest(CAST(:schemas AS text[]), CAST(:stems AS text[])) wanted(schema, stem)
    JOIN pg_namespace n ON n.nspname = wanted.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND rtrim(c.relname::text, '0123456789') = wanted.stem
""")

# An index of a constraint has the constraint's name.
_NEEDED = sa.text("""
    SELECT x.relname AS name, coalesce(
               'it is part of index ' || whole.inhparent::regclass,
               (SELECT format('foreign key %s of %s refers to it', f.conname, f.conrelid::regclass)
                FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = x.oid AND f.conrelid <> i.indrelid LIMIT 1),
               CASE WHEN i.indisreplident THEN 'it is the replica identity' END,
               CASE WHEN i.indisclustered THEN 'the table is clustered on it' END) AS reason
    FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid
    LEFT JOIN pg_inherits whole ON whole.inhrelid = i.indexrelid
    WHERE i.indrelid = :oid AND (whole.inhparent IS NOT NULL OR i.indisreplident OR i.indisclustered OR EXISTS (
          SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = x.oid AND f.conrelid <> i.indrelid))
""")

# Replica identity "default" is the primary key; an index may have been dropped.
_CANNOT_PUBLISH = sa.text("""
    SELECT EXISTS (SELECT FROM pg_publication_tables t
                   JOIN pg_publication p ON p.pubname = t.pubname AND (p.pubdelete OR p.pubupdate)
                   WHERE t.schemaname = n.nspname AND t.tablename = c.relname)
       AND NOT (c.relreplident = 'f' OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (
                c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = :oid
""")

# A table that is not partitioned is the only one in its tree.
_SIZE = sa.text("""
    SELECT sum(pg_total_relation_size(relid)) FROM (
        SELECT relid FROM pg_partition_tree(CAST(:oid AS oid)) UNION SELECT CAST(:oid AS oid)
    ) tree
""")

# An assignment or implicit cast of what is below domains, of the elements where both are arrays; any type is assigned
# to text by its output.
# No row where a type is yet to be made.
_ASSIGNABLE = sa.text("""
    WITH RECURSIVE given(which, is_element, oid) AS (
        VALUES ('before', false, to_regtype(:before)::oid), ('after', false, to_regtype(:after)::oid)
        UNION ALL
        SELECT which, is_element OR t.typbasetype = 0, CASE t.typbasetype WHEN 0 THEN t.typelem ELSE t.typbasetype END
        FROM given JOIN pg_type t ON t.oid = given.oid
        WHERE t.typbasetype <> 0 OR t.typcategory = 'A' AND NOT is_element
    ), bases AS (
        SELECT max(t.oid::bigint) FILTER (WHERE which = 'before' AND NOT is_element)::oid AS before,
               max(t.oid::bigint) FILTER (WHERE which = 'after' AND NOT is_element)::oid AS after,
               max(t.oid::bigint) FILTER (WHERE which = 'before' AND is_element)::oid AS element_before,
               max(t.oid::bigint) FILTER (WHERE which = 'after' AND is_element)::oid AS element_after
        FROM given JOIN pg_type t ON t.oid = given.oid WHERE t.typbasetype = 0
    )
    SELECT before = after OR element_before = element_after OR a.typcategory = 'S'
        OR element_before IS NOT NULL AND e.typcategory = 'S' OR EXISTS (
               SELECT FROM pg_cast c WHERE c.castcontext IN ('a', 'i')
                 AND (c.castsource, c.casttarget) IN ((before, after), (element_before, element_after)))
    FROM bases JOIN pg_type a ON a.oid = after LEFT JOIN pg_type e ON e.oid = element_after
""")

# The type's own array, and the table's columns, defaults, constraints and indexes, are not others.
_TYPE_USERS = sa.text("""
    SELECT pg_describe_object(d.classid, d.objid, d.objsubid)
    FROM pg_type t
    JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray)
    LEFT JOIN pg_attrdef x ON d.classid = 'pg_attrdef'::regclass AND x.oid = d.objid
    LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
    LEFT JOIN pg_index i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
    WHERE t.oid = CAST(CAST(:type AS text) AS regtype)
      AND NOT (d.classid = 'pg_type'::regclass AND d.objid = t.typarray)
      AND NOT (d.classid = 'pg_class'::regclass AND d.objid = :oid)
      AND coalesce(x.adrelid, k.conrelid, i.indrelid, 0) <> :oid
    ORDER BY 1
""")

# The one type of that spelling.
_TYPE_OWNER = sa.text("""
    SELECT n.nspname AS schema, t.typname AS name, pg_get_userbyid(t.typowner)::text AS owner,
           obj_description(t.oid, 'pg_type') AS comment
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.oid = CAST(CAST(:type AS text) AS regtype)
""")

# An array's gives way to a relation of its name, but SQLAlchemy takes it for the enum type that is to be made.
_TYPE = sa.text("""
    SELECT EXISTS (SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
                   WHERE t.typname = :name AND n.oid <> pg_my_temp_schema()
                     AND (:of_rows OR t.typrelid = 0 AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid))
                     AND CASE WHEN CAST(:schema AS text) IS NULL THEN pg_type_is_visible(t.oid)
                              ELSE n.nspname = :schema END)
""")

# An enum's labels in sort order, as one array; no row where the name is no type.
_ENUM = sa.text("""
    SELECT ARRAY(SELECT enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY enumsortorder)
    FROM pg_type t
    JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype = 'e' AND t.typname = :name
      AND CASE WHEN CAST(:schema AS text) IS NULL THEN pg_type_is_visible(t.oid)
               ELSE n.nspname = :schema END
""")
