"""What PostgreSQL's catalog says of a table, read into shapes. Nothing here changes or locks anything."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.session import run
from airflow_ingest_provider.core.shape import (
    ColumnShape,
    ConstraintShape,
    ForeignKeyShape,
    IndexShape,
    TableShape,
    TypeShape,
)

_IDENTIFIER = r'(?:"(?:[^"]|"")*"|[^\s".]+)'
_INDEX_HEAD = re.compile(
    rf"CREATE (?:UNIQUE )?INDEX {_IDENTIFIER} ON (?:ONLY )?(?:{_IDENTIFIER}\.)?{_IDENTIFIER} ", re.DOTALL
)


def find(conn: sa.Connection, schema: str | None, name: str) -> tuple[Name, int | None]:
    """The relation's qualified name and its OID (None: there is none).

    Without a schema the name is looked up as SQLAlchemy and PostgreSQL do, along the search_path; where
    nothing is found it belongs into the first schema of the path.
    """
    return find_all(conn, [(schema, name)])[0]


def find_all(conn: sa.Connection, names: Sequence[tuple[str | None, str]]) -> list[tuple[Name, int | None]]:
    """What `find` gives, for several schemas and names in one query."""
    schemas, relations = zip(*names, strict=True)
    found = conn.execute(_RELATIONS, {"schemas": list(schemas), "names": list(relations)})
    return [(Name(row.schema or "", row.name), row.oid) for row in found]


def find_tables(conn: sa.Connection, tables: Sequence[sa.Table]) -> list[tuple[Name, int | None]]:
    """The same of declared tables, whose schemas the connection may call otherwise."""
    return find_all(conn, [(conn.schema_for_object(table), table.name) for table in tables])


def oid_of(conn: sa.Connection, name: Name) -> int:
    """The OID of a relation that should be there; 0, which nothing has, if it has gone."""
    return oids_of(conn, [name])[0]


def oids_of(conn: sa.Connection, names: Sequence[Name]) -> list[int]:
    """The same for several, in their order."""
    return [oid or 0 for _, oid in find_all(conn, [(name.schema, name.name) for name in names])]


def schema_exists(conn: sa.Connection, schema: str) -> bool:
    """Whether the schema is there: CREATE SCHEMA IF NOT EXISTS needs rights even where it is."""
    return conn.scalar(_SCHEMA, {"schema": schema}) is not None


def comments(conn: sa.Connection, names: Iterable[Name]) -> Mapping[Name, str | None]:
    """The comments of those of the tables that are there."""
    wanted = [(name.schema, name.name) for name in names]
    schemas, tables = zip(*wanted, strict=True)
    found = conn.execute(_COMMENTS, {"schemas": list(schemas), "names": list(tables)})
    return {Name(row.schema, row.name): row.comment for row in found}


@dataclass(frozen=True)
class Access:
    """Whether the current role may do what a relation's owner may, and whether policies apply to its queries of it."""

    oid: int
    may_own: bool
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
    held = sql.SQL(
        "CAST({} AS text[]) && CAST({} AS text[])" if column.value.is_array else "CAST({} AS text) = ANY ({})"
    )
    holds = held.format(sql.Identifier(column.name), sql.Literal(list(labels)))
    return int(run(conn, sql.SQL("SELECT count(*) FROM {} WHERE {}").format(name.sql, holds)).scalar_one())


def table_shape(conn: sa.Connection, oid: int) -> TableShape:
    """The table's definition as it is now."""
    return table_shapes(conn, [oid])[oid]


def table_shapes(conn: sa.Connection, oids: Sequence[int]) -> dict[int, TableShape]:
    """The definitions of tables as they are now, by OID: five queries, however many tables they are."""
    at = {"oids": list(oids)}
    heads = conn.execute(_TABLES, at).all()
    types = {row.oid: row for row in conn.execute(_TYPES, at)}
    columns, constraints, indexes = (by_table(conn.execute(query, at)) for query in (_COLUMNS, _CONSTRAINTS, _INDEXES))
    return {
        head.oid: TableShape(
            name=Name(head.schema, head.name),
            oid=head.oid,
            kind=head.relkind,
            persistence=head.relpersistence,
            columns=tuple(_column(row, types) for row in columns[head.oid]),
            constraints=tuple(_constraint(row) for row in constraints[head.oid] if row.contype != "f"),
            foreign_keys=tuple(_foreign_key(row) for row in constraints[head.oid] if row.contype == "f"),
            indexes=tuple(_index(row) for row in indexes[head.oid]),
        )
        for head in heads
    }


def by_table(rows: Iterable[Any]) -> defaultdict[int, list[Any]]:
    """Rows by their `table_oid`, in their order; none for tables that have none."""
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.table_oid].append(row)
    return found


def inbound_keys(conn: sa.Connection, oids: Sequence[int]) -> dict[int, tuple[tuple[Name, ForeignKeyShape], ...]]:
    """Foreign keys of other tables to each of these, each with its table."""
    found = defaultdict(list)
    for row in conn.execute(_INBOUND, {"oids": list(oids)}):
        found[row.target_oid].append((Name(row.schema, row.table), _foreign_key(row)))
    return {oid: tuple(found[oid]) for oid in oids}


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


def needed_indexes(conn: sa.Connection, oid: int) -> Mapping[str, str]:
    """Indexes of the table that something else needs, and what: foreign keys, replica identity, cluster mark."""
    return {row.name: row.reason for row in conn.execute(_NEEDED, {"oid": oid})}


def estimated_rows(conn: sa.Connection, oid: int) -> float:
    """How many rows the table had when it was last analyzed."""
    return float(conn.scalar(sa.text("SELECT reltuples FROM pg_class WHERE oid = :oid"), {"oid": oid}) or 0)


def cannot_publish_deletes(conn: sa.Connection, oid: int) -> bool:
    """Whether a publication has the table's deleted rows, and nothing tells them apart."""
    return bool(conn.scalar(_CANNOT_PUBLISH, {"oid": oid}))


def has_triggers(conn: sa.Connection, oid: int) -> bool:
    """Whether people put triggers on the table."""
    return bool(conn.scalar(_HAS_TRIGGERS, {"oid": oid}))


def size(conn: sa.Connection, oid: int) -> int:
    """The bytes of the table, its partitions and all their indexes."""
    return int(conn.scalar(_SIZE, {"oid": oid}) or 0)


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
    pairs = [(oid, name) for oid, names in wanted.items() for name in names]
    at = {"oids": [oid for oid, _ in pairs], "names": [name for _, name in pairs]}
    found = by_table(conn.execute(_TAKEN, at))
    return {oid: frozenset(row.relname for row in found[oid]) for oid in wanted}


def enum_labels(conn: sa.Connection, schema: str | None, name: str) -> tuple[str, ...] | None:
    """The enum type's labels in their order, None where there is no such type."""
    labels: list[str] | None = conn.scalar(_ENUM, {"schema": schema, "name": name})
    return None if labels is None else tuple(labels)


def _column(row: Any, types: Mapping[int, Any]) -> ColumnShape:
    sequence = Name(row.sequence_schema, row.sequence_name) if row.sequence_name is not None else None
    return ColumnShape(
        name=row.name,
        type=row.type,
        value=_type(row.atttypid, row.atttypmod, types),
        collation=row.collation,
        not_null=row.attnotnull,
        not_null_name=row.not_null_name,
        identity=row.attidentity,
        generated=row.attgenerated,
        default=row.expression,
        sequence=sequence,
        sequence_options=(row.sequence_options or "") if row.attidentity else "",
        serial=bool(sequence and not row.attidentity and row.draws_from_sequence),
        comment=row.comment,
        tuning=tuple(row.tuning),
    )


def _type(oid: int, modifier: int, types: Mapping[int, Any]) -> TypeShape:
    row = types[oid]
    if row.typbasetype:
        return _type(row.typbasetype, row.typtypmod if modifier < 0 else modifier, types)
    inner = row.element or row.subtype
    return TypeShape(
        name=row.typname,
        kind=row.typtype,
        modifier=modifier,
        element=_type(inner, modifier if row.element else -1, types) if inner else None,
        labels=tuple(row.labels),
    )


def _constraint(row: Any) -> ConstraintShape:
    return ConstraintShape(
        name=row.conname,
        kind=row.contype,
        definition=row.definition,
        columns=tuple(row.columns),
        deferrable=row.condeferrable,
        tablespace=row.tablespace,
        comment=row.comment,
        validated=row.convalidated,
        index=row.index_definition and _index_definition(row.index_definition, row.index_options, ""),
        options=row.index_options,
    )


def _foreign_key(row: Any) -> ForeignKeyShape:
    return ForeignKeyShape(
        name=row.conname,
        columns=tuple(row.columns),
        target=Name(row.target_schema, row.target_name),
        target_columns=tuple(row.target_columns),
        options=row.options,
        validated=row.convalidated,
        comment=row.comment,
    )


def _index(row: Any) -> IndexShape:
    predicate = f" WHERE {row.predicate}" if row.predicate is not None else ""
    return IndexShape(
        name=row.name,
        definition=_index_definition(row.definition, row.options, predicate),
        unique=row.indisunique,
        valid=row.indisvalid,
        tablespace=row.tablespace,
        comment=row.comment,
        options=row.options,
        predicate=predicate,
        tuning=tuple(row.tuning),
        columns=tuple(row.columns),
    )


def _index_definition(printed: str, options: str, predicate: str) -> str:
    """What pg_get_indexdef prints, from USING on, without storage parameters and WHERE clause, which come last."""
    definition = _INDEX_HEAD.sub("", printed, count=1).removesuffix(predicate)
    return definition[: definition.rindex(" WITH (")] if options else definition


# Foreign keys have internal triggers.
_HAS_TRIGGERS = sa.text("SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = :oid AND NOT tgisinternal)")

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
    SELECT c.oid::bigint AS oid, pg_has_role(c.relowner, 'USAGE') AS may_own, current_user::text AS role,
           pg_get_userbyid(c.relowner)::text AS owner, row_security_active(c.oid) AS hides_rows
    FROM pg_class c WHERE c.oid = ANY (CAST(:oids AS oid[]))
""")

# The relations' own rows.
_TABLES = sa.text("""
    SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text, c.relpersistence::text
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (CAST(:oids AS oid[]))
""")

# Their live columns in their order. An owned sequence hangs on its column by an automatic (serial) or
# internal (identity) dependency; a default draws from it when pg_attrdef depends on the sequence.
_COLUMNS = sa.text("""
    SELECT a.attrelid::bigint AS table_oid, a.attname AS name,
           format_type(a.atttypid, a.atttypmod) AS type,
           a.atttypid, a.atttypmod, a.attnotnull,
           a.attidentity::text, a.attgenerated::text,
           CASE WHEN a.attcollation <> t.typcollation
                THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END AS collation,
           pg_get_expr(d.adbin, d.adrelid) AS expression,
           nn.conname AS not_null_name,
           sn.nspname AS sequence_schema, s.relname AS sequence_name,
           EXISTS (SELECT FROM pg_depend u
                   WHERE u.classid = 'pg_attrdef'::regclass AND u.objid = d.oid
                     AND u.refclassid = 'pg_class'::regclass AND u.refobjid = s.oid) AS draws_from_sequence,
           format('INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %s', q.seqincrement, q.seqmin,
                  q.seqmax, q.seqstart, q.seqcache, CASE WHEN q.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)
               AS sequence_options,
           col_description(a.attrelid, a.attnum) AS comment,
           array_remove(ARRAY[
             CASE WHEN a.attstorage <> t.typstorage THEN 'SET STORAGE ' || CASE a.attstorage
               WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END,
             CASE a.attcompression WHEN 'p' THEN 'SET COMPRESSION pglz'
                                   WHEN 'l' THEN 'SET COMPRESSION lz4' END,
             CASE WHEN a.attstattarget >= 0 THEN 'SET STATISTICS ' || a.attstattarget END,
             CASE WHEN a.attoptions IS NOT NULL
                  THEN 'SET (' || array_to_string(a.attoptions, ', ') || ')' END
           ], NULL) AS tuning
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_collation co ON co.oid = a.attcollation
    LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
    LEFT JOIN pg_constraint nn ON nn.conrelid = a.attrelid AND nn.contype = 'n' AND nn.conkey[1] = a.attnum
    LEFT JOIN LATERAL (
        SELECT seq.oid, seq.relname, seq.relnamespace
        FROM pg_depend o
        JOIN pg_class seq ON seq.oid = o.objid AND seq.relkind = 'S'
        WHERE o.classid = 'pg_class'::regclass AND o.refclassid = 'pg_class'::regclass
          AND o.refobjid = a.attrelid AND o.refobjsubid = a.attnum AND o.deptype IN ('a', 'i')
        ORDER BY o.deptype DESC, seq.oid
        LIMIT 1
    ) s ON true
    LEFT JOIN pg_namespace sn ON sn.oid = s.relnamespace
    LEFT JOIN pg_sequence q ON q.seqrelid = s.oid
    WHERE a.attrelid = ANY (CAST(:oids AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
""")

# The columns' types and all that they are made of: domains' bases, arrays' elements, ranges' bounds. OFFSET 0 has each
# looked up: every table of the database has two types, and the planner would read them all.
_TYPES = sa.text("""
    WITH RECURSIVE used(oid) AS (
        SELECT atttypid FROM pg_attribute
        WHERE attrelid = ANY (CAST(:oids AS oid[])) AND attnum > 0 AND NOT attisdropped
        UNION
        SELECT part.oid
        FROM used
        CROSS JOIN LATERAL (SELECT * FROM pg_type WHERE oid = used.oid OFFSET 0) t
        LEFT JOIN pg_range r ON t.oid IN (r.rngtypid, r.rngmultitypid)
        CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem), (r.rngsubtype)) part(oid)
        WHERE part.oid <> 0
    )
    SELECT t.oid::bigint AS oid, t.typname, t.typtype::text, t.typbasetype::bigint AS typbasetype, t.typtypmod,
           CASE WHEN t.typcategory = 'A' THEN t.typelem::bigint END AS element,
           r.rngsubtype::bigint AS subtype,
           ARRAY(SELECT enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY enumsortorder) AS labels
    FROM used
    CROSS JOIN LATERAL (SELECT * FROM pg_type WHERE oid = used.oid OFFSET 0) t
    LEFT JOIN pg_range r ON t.oid IN (r.rngtypid, r.rngmultitypid)
""")

# Keys, unique, check and exclusion constraints and foreign keys, in a stable order. NOT NULL constraints
# (18+) belong to their columns. What another constraint or parent made (conparentid) is not our own.
_EACH_CONSTRAINT = """
    SELECT n.nspname AS schema, c.relname AS table, k.conname, k.contype::text, k.condeferrable, k.convalidated,
           regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', '') AS definition,
           CASE WHEN k.contype = 'x' THEN ARRAY(
               SELECT a.attname::text FROM pg_attribute a
               WHERE a.attrelid = k.conrelid AND a.attnum > 0 AND (a.attnum = ANY (k.conkey) OR EXISTS (
                   SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = k.conindid
                      AND d.refclassid = 'pg_class'::regclass AND d.refobjid = k.conrelid AND d.refobjsubid = a.attnum))
               ORDER BY a.attname)  -- a rebuild may move them
           ELSE ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY key(num, place)
                      JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = key.num
                      ORDER BY place) END AS columns,
           fn.nspname AS target_schema, f.relname AS target_name,
           ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY key(num, place)
                 JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = key.num
                 ORDER BY place) AS target_columns,
           CASE WHEN k.contype = 'f' THEN substr(
               regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', ''),
               length(format('FOREIGN KEY (%s) REFERENCES %s(%s)',
                   (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY place)
                    FROM unnest(k.conkey) WITH ORDINALITY key(num, place)
                    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = key.num),
                   k.confrelid::regclass,
                   (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY place)
                    FROM unnest(k.confkey) WITH ORDINALITY key(num, place)
                    JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = key.num))) + 1)
           END AS options,
           ts.spcname AS tablespace, pg_get_indexdef(ix.oid) AS index_definition,
           coalesce(array_to_string(ix.reloptions, ', '), '') AS index_options,
           obj_description(k.oid, 'pg_constraint') AS comment,
           k.conrelid::bigint AS table_oid, k.confrelid::bigint AS target_oid
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_class f ON f.oid = k.confrelid
    LEFT JOIN pg_namespace fn ON fn.oid = f.relnamespace
    LEFT JOIN pg_class ix ON ix.oid = k.conindid AND k.contype IN ('p', 'u', 'x')
    LEFT JOIN pg_tablespace ts ON ts.oid = ix.reltablespace
"""

_CONSTRAINTS = sa.text(
    _EACH_CONSTRAINT
    + """
    WHERE k.conrelid = ANY (CAST(:oids AS oid[])) AND k.contype IN ('p', 'u', 'c', 'x', 'f') AND k.conparentid = 0
    ORDER BY k.contype, definition, k.conname
    """
)

# Foreign keys that other tables have to these.
_INBOUND = sa.text(
    _EACH_CONSTRAINT
    + """
    WHERE k.contype = 'f' AND k.confrelid = ANY (CAST(:oids AS oid[])) AND k.conrelid <> k.confrelid
      AND k.conparentid = 0
    ORDER BY 1, 2, 3
    """
)

# Indexes that no constraint made, in a stable order.
_INDEXES = sa.text("""
    SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition, i.indisunique, i.indisvalid,
           ts.spcname AS tablespace, obj_description(c.oid, 'pg_class') AS comment,
           coalesce(array_to_string(c.reloptions, ', '), '') AS options,
           pg_get_expr(i.indpred, i.indrelid) AS predicate,
           ARRAY(SELECT format('ALTER COLUMN %s SET STATISTICS %s', a.attnum, a.attstattarget) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attstattarget >= 0 ORDER BY a.attnum) AS tuning,
           ARRAY(SELECT DISTINCT a.attname::text FROM pg_depend d
                 JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                 WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                   AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid ORDER BY 1) AS columns,
           i.indrelid::bigint AS table_oid
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
    WHERE i.indrelid = ANY (CAST(:oids AS oid[]))
      AND NOT EXISTS (SELECT FROM pg_constraint k
                      WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid
                        AND k.contype IN ('p', 'u', 'x'))
    ORDER BY 2, 1
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
    FROM unnest(CAST(:oids AS oid[]), CAST(:names AS text[])) wanted(oid, name)
    JOIN pg_class t ON t.oid = wanted.oid
    JOIN pg_class c ON c.relnamespace = t.relnamespace
     AND rtrim(c.relname::text, '0123456789') = rtrim(wanted.name, '0123456789')
    WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = c.oid AND i.indrelid = t.oid)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND c.relkind = 'S')
""")

# An index of a constraint has the constraint's name.
_NEEDED = sa.text("""
    SELECT x.relname AS name, coalesce(
               (SELECT format('foreign key %s of %s refers to it', f.conname, f.conrelid::regclass)
                FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = x.oid AND f.conrelid <> i.indrelid LIMIT 1),
               CASE WHEN i.indisreplident THEN 'it is the replica identity' END,
               CASE WHEN i.indisclustered THEN 'the table is clustered on it' END) AS reason
    FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = :oid AND (i.indisreplident OR i.indisclustered OR EXISTS (
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

# An assignment or implicit cast, of the elements where both are arrays; any type is assigned to text by its output.
# No row where a type is yet to be made.
_ASSIGNABLE = sa.text("""
    WITH given AS (
        SELECT to_regtype(:before) AS before, to_regtype(:after) AS after
    ), bases AS (
        SELECT coalesce(nullif(b.typbasetype, 0), b.oid) AS before, coalesce(nullif(a.typbasetype, 0), a.oid) AS after
        FROM given JOIN pg_type b ON b.oid = given.before JOIN pg_type a ON a.oid = given.after
    )
    SELECT x.before = x.after OR a.typcategory = 'S' OR EXISTS (
               SELECT FROM pg_cast c WHERE c.castcontext IN ('a', 'i')
                 AND (c.castsource, c.casttarget) IN ((x.before, x.after), (b.typelem, a.typelem)))
        OR b.typelem <> 0 AND b.typelem = a.typelem
        OR a.typelem <> 0 AND b.typelem <> 0 AND (SELECT typcategory FROM pg_type WHERE oid = a.typelem) = 'S'
    FROM bases x JOIN pg_type b ON b.oid = x.before JOIN pg_type a ON a.oid = x.after
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

# An enum's labels in sort order, as one array; no row where the name is no type.
_ENUM = sa.text("""
    SELECT ARRAY(SELECT enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY enumsortorder)
    FROM pg_type t
    JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype = 'e' AND t.typname = :name
      AND CASE WHEN CAST(:schema AS text) IS NULL THEN pg_type_is_visible(t.oid)
               ELSE n.nspname = :schema END
""")
