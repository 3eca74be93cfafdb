"""What depends on a table and lives on without it: views, foreign keys of others, statistics and sequences."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core import reflection
from airflow_ingest_provider.core.attachments import attached, settings
from airflow_ingest_provider.core.catalog import by_table
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.session import searching
from airflow_ingest_provider.core.shape import IndexShape, TableShape


@dataclass(frozen=True)
class Dependent:
    """A view or materialized view that reads, at any depth, a table.

    `reads` are the OIDs of the relations that its query names; `attached` hangs on again what the view carries, but for
    what a materialized view has as a table does: columns and indexes, which are in its `shape`, and `statistics`.
    """

    oid: int
    name: Name
    kind: str
    definition: str
    options: str
    reads: frozenset[int]
    populated: bool
    may_alter: bool
    owner: str
    storage: str
    attached: tuple[str, ...]
    shape: TableShape | None
    statistics: tuple["StatisticsObject", ...]

    @property
    def word(self) -> str:
        return "MATERIALIZED VIEW" if self.kind == "m" else "VIEW"

    @property
    def indexes(self) -> tuple[IndexShape, ...]:
        return self.shape.indexes if self.shape else ()


@dataclass(frozen=True)
class StatisticsObject:
    """Extended statistics of a table: `kinds` and `on` are as CREATE STATISTICS takes them."""

    name: Name
    kinds: str
    on: str
    columns: tuple[str, ...]
    target: int | None
    owner: str
    comment: str | None


def dependents(conn: sa.Connection, oids: Collection[int]) -> tuple[Dependent, ...]:
    """The views on any of the relations, those that others read first."""
    rows = conn.execute(_DEPENDENTS, {"oids": list(oids)}).all()
    if not rows:
        return ()
    hanging = attached(conn, [row.oid for row in rows])
    stored = [row.oid for row in rows if row.relkind == "m"]
    shapes = reflection.table_shapes(conn, stored) if stored else {}
    storage = settings(conn, stored) if stored else {}
    statistics = statistics_objects(conn, stored) if stored else {}
    return tuple(
        Dependent(
            oid=row.oid,
            name=Name(row.schema, row.name),
            kind=row.relkind,
            definition=row.definition.rstrip().rstrip(";"),
            options=row.options,
            reads=frozenset(row.reads),
            populated=row.relispopulated,
            may_alter=row.may_alter,
            owner=row.owner,
            storage=storage.get(row.oid, ""),
            attached=tuple(one.statement for one in hanging[row.oid]),
            shape=shapes.get(row.oid),
            statistics=statistics.get(row.oid, ()),
        )
        for row in rows
    )


def over(views: Iterable[Dependent], oid: int) -> Iterator[Dependent]:
    """Those of the views that read the relation, at any depth; they come after what they read."""
    read = {oid}
    for view in views:
        if view.reads & read:
            read.add(view.oid)
            yield view


def query(conn: sa.Connection, oid: int, schemas: Collection[str]) -> str:
    """A view's query, in which relations bear no schema where one of these leads to them."""
    with searching(conn, schemas):
        return str(conn.scalar(_QUERY, {"oid": oid})).rstrip(" ;")


def described(conn: sa.Connection, oid: int) -> tuple[str, ...]:
    """What hangs on the table, besides foreign keys to it and extended statistics, a line each, for people."""
    views = [f"{view.word.lower()} {view.name}" for view in dependents(conn, [oid])]
    counted = Counter(one.what for one in attached(conn, [oid])[oid] if one.what)
    return (*views, *(f"{count} x {what}" for what, count in counted.items()))


def partial_keys(conn: sa.Connection, oids: Sequence[int]) -> dict[int, dict[str, tuple[str, ...]]]:
    """For each table the constraints that its foreign keys to partitioned tables have for each partition, by name, with
    their columns."""
    found = by_table(conn.execute(_PARTIAL_KEYS, {"oids": list(oids)}))
    return {oid: {row.name: tuple(row.columns) for row in found[oid]} for oid in oids}


def statistics_objects(conn: sa.Connection, oids: Sequence[int]) -> dict[int, tuple[StatisticsObject, ...]]:
    """The extended statistics of each table, by name."""
    found = by_table(conn.execute(_STATISTICS, {"oids": list(oids)}))
    return {oid: tuple(map(_statistics_object, found[oid])) for oid in oids}


def _statistics_object(row: Any) -> StatisticsObject:
    name = Name(row.schema, row.name)
    return StatisticsObject(name, row.kinds, row.on, tuple(row.columns), row.target, row.owner, row.comment)


def owned_sequences(conn: sa.Connection, oids: Sequence[int]) -> dict[int, tuple[tuple[str, Name], ...]]:
    """Columns, and the sequences that go with them when their table is dropped; an identity's is its own matter."""
    found = by_table(conn.execute(_OWNED, {"oids": list(oids)}))
    return {oid: tuple((row.column, Name(row.schema, row.name)) for row in found[oid]) for oid in oids}


def used_columns(conn: sa.Connection, oids: Sequence[int]) -> dict[int, dict[str, tuple[str, ...]]]:
    """Views, rules, policies and triggers, and the columns of each table that each uses, by name."""
    found = by_table(conn.execute(_USED, {"oids": list(oids)}))
    return {oid: {row.user: tuple(row.columns) for row in found[oid]} for oid in oids}


def fingerprints(conn: sa.Connection, oids: Sequence[int]) -> dict[int, str]:
    """A text for each relation: another one after any change of its definition, of views over it, or of what hangs on
    them."""
    return {row.table_oid: row.fingerprint for row in conn.execute(_FINGERPRINTS, {"oids": list(oids)})}


# Names of the search_path's schemas are printed bare.
_QUERY = sa.text("SELECT pg_get_viewdef(CAST(:oid AS oid))")

# Every row of the catalog that is theirs, by the transaction that wrote it: one query in place of all those that read.
_FINGERPRINTS = sa.text("""
    WITH RECURSIVE theirs(table_oid, oid) AS (
        SELECT oid, oid FROM unnest(CAST(:oids AS oid[])) oid
        UNION
        SELECT theirs.table_oid, r.ev_class
        FROM theirs JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = theirs.oid
        JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    )
    SELECT table_oid::bigint, md5(string_agg(part, ',' ORDER BY part)) AS fingerprint FROM (
        SELECT table_oid, concat('class', c.oid, ':', c.xmin) AS part FROM pg_class c JOIN theirs USING (oid)
        UNION ALL SELECT table_oid, concat('column', a.attrelid, '.', a.attnum, ':', a.xmin)
        FROM pg_attribute a JOIN theirs ON oid = attrelid
        UNION ALL SELECT table_oid, concat('constraint', k.oid, ':', k.xmin)
        FROM pg_constraint k JOIN theirs ON theirs.oid = k.conrelid
        UNION ALL SELECT table_oid, concat('inbound', k.oid, ':', k.xmin)
        FROM pg_constraint k JOIN theirs ON theirs.oid = k.confrelid AND k.contype = 'f'
        UNION ALL SELECT table_oid, concat('index', i.indexrelid, ':', i.xmin, ':', c.xmin)
        FROM pg_index i JOIN theirs ON oid = indrelid JOIN pg_class c ON c.oid = i.indexrelid
        UNION ALL SELECT table_oid, concat('trigger', t.oid, ':', t.xmin)
        FROM pg_trigger t JOIN theirs ON theirs.oid = tgrelid
        UNION ALL SELECT table_oid, concat('policy', p.oid, ':', p.xmin)
        FROM pg_policy p JOIN theirs ON theirs.oid = polrelid
        UNION ALL SELECT table_oid, concat('rule', r.oid, ':', r.xmin)
        FROM pg_rewrite r JOIN theirs ON theirs.oid = ev_class
        UNION ALL SELECT table_oid, concat('default', d.oid, ':', d.xmin)
        FROM pg_attrdef d JOIN theirs ON theirs.oid = adrelid
        UNION ALL SELECT table_oid, concat('statistics', s.oid, ':', s.xmin)
        FROM pg_statistic_ext s JOIN theirs ON theirs.oid = stxrelid
        UNION ALL SELECT table_oid, concat('publication', p.oid, ':', p.xmin)
        FROM pg_publication_rel p JOIN theirs ON theirs.oid = prrelid
        UNION ALL SELECT table_oid, concat('label', l.provider, l.objsubid, ':', l.xmin)
        FROM pg_seclabel l JOIN theirs ON oid = objoid AND classoid = 'pg_class'::regclass
        UNION ALL SELECT table_oid, concat('comment', d.objoid, '.', d.objsubid, ':', d.xmin)
        FROM pg_description d JOIN theirs ON oid = objoid AND classoid = 'pg_class'::regclass
        UNION ALL SELECT table_oid, concat('dependent', d.classid, '.', d.objid, '.', d.objsubid)
        FROM pg_depend d JOIN theirs ON refclassid = 'pg_class'::regclass AND refobjid = oid
    ) parts
    GROUP BY table_oid
""")

# Views and materialized views over the relations, at any depth, by their longest path to one: each comes after
# all that it reads. pg_get_viewdef names the relations as they are called now.
_DEPENDENTS = sa.text("""
    WITH RECURSIVE above(oid, depth) AS (
        SELECT oid, 0 FROM unnest(CAST(:oids AS oid[])) oid
        UNION
        SELECT r.ev_class, above.depth + 1
        FROM above JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = above.oid
        JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
         AND r.rulename = '_RETURN' AND r.ev_class <> above.oid
    )
    SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text, c.relispopulated,
           pg_get_viewdef(c.oid) AS definition,
           coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', '') AS options,
           pg_has_role(c.relowner, 'USAGE') AND NOT pg_is_other_temp_schema(c.relnamespace) AS may_alter,
           pg_get_userbyid(c.relowner)::text AS owner,
           ARRAY(SELECT DISTINCT d.refobjid::bigint
                 FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                 WHERE r.ev_class = c.oid AND r.rulename = '_RETURN'
                   AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> c.oid ORDER BY 1) AS reads
    FROM (SELECT oid, max(depth) AS depth FROM above WHERE depth > 0 GROUP BY oid) v
    JOIN pg_class c ON c.oid = v.oid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    ORDER BY v.depth, c.oid
""")

# Those that PostgreSQL makes for a foreign key of the same table.
_PARTIAL_KEYS = sa.text("""
    SELECT k.conrelid::bigint AS table_oid, k.conname AS name,
           ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY key(num, place)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = key.num ORDER BY place) AS columns
    FROM pg_constraint k JOIN pg_constraint whole ON whole.oid = k.conparentid AND whole.conrelid = k.conrelid
    WHERE k.contype = 'f' AND k.conrelid = ANY (CAST(:oids AS oid[]))
    ORDER BY k.oid
""")

# Statistics of expressions alone have no kinds to name. The columns are those that they cannot do without.
_STATISTICS = sa.text("""
    SELECT n.nspname AS schema, s.stxname AS name,
           coalesce('(' || (SELECT string_agg(CASE kind WHEN 'd' THEN 'ndistinct' WHEN 'f' THEN 'dependencies'
                                                       WHEN 'm' THEN 'mcv' END, ', ' ORDER BY kind)
                            FROM unnest(s.stxkind) kind WHERE kind IN ('d', 'f', 'm')) || ') ', '') AS kinds,
           pg_get_statisticsobjdef_columns(s.oid) AS on,
           ARRAY(SELECT a.attname::text FROM pg_depend d
                 JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                 WHERE d.classid = 'pg_statistic_ext'::regclass AND d.objid = s.oid
                   AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.stxrelid ORDER BY 1) AS columns,
           nullif(s.stxstattarget, -1)::int AS target, pg_get_userbyid(s.stxowner)::text AS owner,
           obj_description(s.oid, 'pg_statistic_ext') AS comment, s.stxrelid::bigint AS table_oid
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
    WHERE s.stxrelid = ANY (CAST(:oids AS oid[]))
    ORDER BY 1, 2
""")

# What prints its columns by place may use others after a rebuild: an alias list, for one.
_USED = sa.text("""
    SELECT pg_describe_object(d.classid, d.objid, 0) AS user,
           array_agg(DISTINCT a.attname::text ORDER BY a.attname::text) AS columns, d.refobjid::bigint AS table_oid
    FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY (CAST(:oids AS oid[])) AND d.refobjsubid > 0
      AND d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_trigger'::regclass)
    GROUP BY d.refobjid, 1
""")

# A column may own any number of sequences (deptype 'a'); the one of an identity is internal to it ('i').
_OWNED = sa.text("""
    SELECT a.attname::text AS column, n.nspname AS schema, c.relname AS name, d.refobjid::bigint AS table_oid
    FROM pg_depend d
    JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = ANY (CAST(:oids AS oid[])) AND d.deptype = 'a'
    ORDER BY 1, 2, 3
""")
