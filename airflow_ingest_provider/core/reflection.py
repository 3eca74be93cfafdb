"""The definitions of tables, read from PostgreSQL's catalog into shapes. Nothing here changes or locks anything."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core.catalog import by_table
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.shape import (
    ColumnShape,
    ConstraintShape,
    ForeignKeyShape,
    InboundKey,
    IndexShape,
    TableShape,
    TypeShape,
)

_IDENTIFIER = r'(?:"(?:[^"]|"")*"|[^\s".]+)'
_INDEX_HEAD = re.compile(
    rf"CREATE (?:UNIQUE )?INDEX {_IDENTIFIER} ON (?:ONLY )?(?:{_IDENTIFIER}\.)?{_IDENTIFIER} ", re.DOTALL
)


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


def inbound_keys(conn: sa.Connection, oids: Sequence[int]) -> dict[int, tuple[InboundKey, ...]]:
    """Foreign keys of other tables to each of these; a table's references to itself are its definition's."""
    found = defaultdict(list)
    for row in conn.execute(_INBOUND, {"oids": list(oids)}):
        found[row.target_oid].append(InboundKey(**vars(_foreign_key(row)), table=Name(row.schema, row.table)))
    return {oid: tuple(found[oid]) for oid in oids}


def _column(row: Any, types: Mapping[int, Any]) -> ColumnShape:
    sequence = Name(row.sequence_schema, row.sequence_name) if row.sequence_name is not None else None
    return ColumnShape(
        name=row.name,
        type=row.type,
        value=_type(row.atttypid, row.atttypmod, types),
        collation=row.collation,
        deterministic=row.deterministic,
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
        equality=row.equality,
        fields=tuple(_type(field, limit, types) for field, limit in zip(row.fields, row.field_modifiers, strict=True)),
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


# The relations' own rows.
_TABLES = sa.text("""
    SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text, c.relpersistence::text
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (CAST(:oids AS oid[]))
""")

# Their live columns in their order. A modifier that is not printed says nothing: PostGIS' geometry(Geometry,0) has 0.
# An owned sequence hangs on its column by an automatic (serial) or internal (identity) dependency; a default draws from
# it when pg_attrdef depends on the sequence.
_COLUMNS = sa.text("""
    SELECT a.attrelid::bigint AS table_oid, a.attname AS name,
           format_type(a.atttypid, a.atttypmod) AS type,
           a.atttypid,
           CASE WHEN format_type(a.atttypid, a.atttypmod) <> format_type(a.atttypid, -1) THEN a.atttypmod
                ELSE -1 END AS atttypmod,
           a.attnotnull,
           a.attidentity::text, a.attgenerated::text,
           CASE WHEN a.attcollation <> t.typcollation
                THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END AS collation,
           coalesce(co.collisdeterministic, true) AS deterministic,
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

# The columns' types and all that they are made of: domains' bases, arrays' elements, ranges' bounds, the attributes of
# composite types. OFFSET 0 has each looked up: every table of the database has two types, and the planner would read
# them all.
_TYPES = sa.text("""
    WITH RECURSIVE used(oid) AS (
        SELECT atttypid FROM pg_attribute
        WHERE attrelid = ANY (CAST(:oids AS oid[])) AND attnum > 0 AND NOT attisdropped
        UNION
        SELECT part.oid
        FROM used
        CROSS JOIN LATERAL (SELECT * FROM pg_type WHERE oid = used.oid OFFSET 0) t
        LEFT JOIN pg_range r ON t.oid IN (r.rngtypid, r.rngmultitypid)
        CROSS JOIN LATERAL (
            VALUES (t.typbasetype), (t.typelem), (r.rngsubtype)
            UNION ALL
            SELECT a.atttypid FROM pg_attribute a
            WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        ) part(oid)
        WHERE part.oid <> 0
    )
    SELECT t.oid::bigint AS oid, t.typname, t.typtype::text, t.typbasetype::bigint AS typbasetype, t.typtypmod,
           CASE WHEN t.typcategory = 'A' THEN t.typelem::bigint END AS element,
           r.rngsubtype::bigint AS subtype,
           ARRAY(SELECT enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY enumsortorder) AS labels,
           coalesce((SELECT n.nspname::text FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
                     WHERE o.oprname = '=' AND o.oprleft = t.oid AND o.oprright = t.oid LIMIT 1),
                    'pg_catalog') AS equality,
           field.types AS fields, field.modifiers AS field_modifiers
    FROM used
    CROSS JOIN LATERAL (SELECT * FROM pg_type WHERE oid = used.oid OFFSET 0) t
    LEFT JOIN pg_range r ON t.oid IN (r.rngtypid, r.rngmultitypid)
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(atttypid::bigint ORDER BY attnum), '{}') AS types,
               coalesce(array_agg(atttypmod ORDER BY attnum), '{}') AS modifiers
        FROM pg_attribute
        WHERE t.typtype = 'c' AND attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped
    ) field
""")

# What there is to be known of a constraint; which ones, each of the two queries says.
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

# Keys, unique, check and exclusion constraints and foreign keys, in a stable order. NOT NULL constraints (18+) belong
# to their columns. A constraint that is part of another one of the table itself is none: foreign keys to partitioned
# tables have one a partition.
_CONSTRAINTS = sa.text(
    _EACH_CONSTRAINT
    + """
    WHERE k.conrelid = ANY (CAST(:oids AS oid[])) AND k.contype IN ('p', 'u', 'c', 'x', 'f')
      AND NOT EXISTS (SELECT FROM pg_constraint whole WHERE whole.oid = k.conparentid AND whole.conrelid = k.conrelid)
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
