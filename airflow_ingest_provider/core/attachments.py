"""What people hung on a relation, as the statements that hang it on again.

The statements name the relation and not its OID: the ones read from the table that is replaced are run on the one that
replaces it, and reading them again must give the same ones.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core.catalog import by_table, oid_of
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.shape import PartName


@dataclass(frozen=True)
class Attached:
    """A statement that hangs something on a relation again; `part` is the column, constraint or index it belongs to."""

    statement: str
    part: PartName | None = None
    what: str | None = None
    """What it is for people; None for what every relation has, or what only changes something else."""

    @property
    def is_of_grants(self) -> bool:
        """Whether it grants something, or takes the role of who did."""
        return self.statement.startswith(("GRANT ", "SET LOCAL ROLE "))

    @property
    def comments_on_column(self) -> bool:
        return self.statement.startswith("COMMENT ON COLUMN")

    @property
    def holds_state(self) -> bool:
        """Whether it is the table's comment, which every run changes."""
        return self.statement.startswith("COMMENT ON TABLE")


def attached(conn: sa.Connection, oids: Collection[int]) -> dict[int, tuple[Attached, ...]]:
    """What hangs on each of the relations, in the order in which to hang it on one of the same name."""
    at = {"oids": list(oids)}
    granted, others = grants(conn, {oid: oid for oid in oids}), by_table(conn.execute(_ATTACHED, at))
    return {oid: (*granted[oid], *map(_attached, others[oid])) for oid in oids}


def grants(conn: sa.Connection, named: Mapping[int, int]) -> dict[int, tuple[Attached, ...]]:
    """What is granted on each of the relations, for the name of the one that it leads to."""
    found = by_table(conn.execute(_GRANTS, {"oids": list(named), "named": list(named.values())}))
    return {oid: tuple(_grants(found[oid])) for oid in named}


def _attached(row: Any) -> Attached:
    kind = _OF_PARTS.get(row.step)
    return Attached(row.statement, (kind, row.part) if kind and row.part else None, _WHAT.get(row.step))


def _grants(left: list[Any]) -> Iterator[Attached]:
    """All grants, each made by who made it: those who grant on come after they were granted that."""
    granting = {row.owner for row in left}
    while left:
        ready = [row for row in left if row.grantor in granting] or left.copy()
        for row in ready:
            # The owner's own grant is there unless somebody takes it away.
            part = ("column", row.part) if row.part else None
            grant = Attached(row.statement, part, "grant" if row.grantee != row.owner else None)
            if row.grantor != row.owner:
                yield Attached(f"SET LOCAL ROLE {row.as_grantor}")
            yield grant
            if row.grantor != row.owner:
                yield Attached(f"SET LOCAL ROLE {row.as_ourselves}")
            left.remove(row)
        granting |= {row.grantee for row in ready if row.is_grantable}


def revokes(conn: sa.Connection, names: Mapping[int, Name]) -> dict[int, tuple[str, ...]]:
    """What takes away every grant on new relations that are to be called so, those of default privileges too."""
    at = {"oids": list(names), "names": [name.quoted for name in names.values()]}
    found = by_table(conn.execute(_REVOKES, at))
    return {oid: tuple(row.statement for row in found[oid]) for oid in names}


def revokes_of(conn: sa.Connection, name: Name) -> tuple[str, ...]:
    """The same for one that has its name already."""
    oid = oid_of(conn, name)
    return revokes(conn, {oid: name})[oid]


def settings(conn: sa.Connection, oids: Collection[int]) -> dict[int, str]:
    """The tables' access methods, storage parameters and tablespaces, as they follow the columns in CREATE TABLE."""
    return {row.table_oid: row.settings for row in conn.execute(_SETTINGS, {"oids": list(oids)})}


_OF_PARTS = {50: "index", 51: "index", 61: "column", 62: "constraint", 63: "index"}
"""The steps whose `part` is a column, constraint or index, and which: those that a new definition may have dropped."""

_WHAT = {
    20: "policy",
    21: "row security",
    30: "trigger",
    32: "rule",
    50: "replica identity",
    51: "cluster mark",
    61: "comment",
    62: "comment",
    63: "comment",
    64: "comment",
    65: "comment",
    66: "comment",
}
"""What the statements of a step hang on, as people call it; the table's own comment is changed by every run."""

# Statements in the order of `step`, by relation.
_ATTACHED = sa.text("""
    WITH it AS (
        SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS target
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (CAST(:oids AS oid[]))
    )
    SELECT oid::bigint AS table_oid, step, part, statement FROM (
        SELECT it.oid, 20 AS step, p.polname::text AS part,
                 format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, target,
                 CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                 CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                               WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                 (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ')
                  FROM unnest(p.polroles) r),
                 ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
                 ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')') AS statement
        FROM it JOIN pg_policy p ON p.polrelid = it.oid
      UNION ALL
        SELECT it.oid, 21, '', format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target) FROM it WHERE relrowsecurity
      UNION ALL
        SELECT it.oid, 22, '', format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target)
        FROM it WHERE relforcerowsecurity
      UNION ALL
        SELECT it.oid, 30, t.tgname, pg_get_triggerdef(t.oid)
        FROM it JOIN pg_trigger t ON t.tgrelid = it.oid WHERE NOT t.tgisinternal
      UNION ALL
        SELECT it.oid, 31, t.tgname, format('ALTER TABLE %s %s TRIGGER %I', target,
                 CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
                 t.tgname)
        FROM it JOIN pg_trigger t ON t.tgrelid = it.oid WHERE NOT t.tgisinternal AND t.tgenabled <> 'O'
      UNION ALL
        SELECT it.oid, 32, r.rulename, pg_get_ruledef(r.oid)
        FROM it JOIN pg_rewrite r ON r.ev_class = it.oid WHERE r.rulename <> '_RETURN'
      UNION ALL
        SELECT it.oid, 33, r.rulename, format('ALTER TABLE %s %s RULE %I', target,
                 CASE r.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
                 r.rulename)
        FROM it JOIN pg_rewrite r ON r.ev_class = it.oid WHERE r.rulename <> '_RETURN' AND r.ev_enabled <> 'O'
      UNION ALL
        SELECT it.oid, 34, a.attname, format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', target, a.attname,
                                     pg_get_expr(d.adbin, d.adrelid))
        FROM it JOIN pg_attrdef d ON d.adrelid = it.oid
        JOIN pg_attribute a ON a.attrelid = it.oid AND a.attnum = d.adnum
        WHERE it.relkind = 'v'
      UNION ALL
        SELECT it.oid, 50, x.relname, format('ALTER TABLE %s REPLICA IDENTITY %s', target,
                 CASE it.relreplident WHEN 'n' THEN 'NOTHING' WHEN 'f' THEN 'FULL'
                                   ELSE 'USING INDEX ' || quote_ident(x.relname) END)
        FROM it LEFT JOIN pg_index i ON i.indrelid = it.oid AND i.indisreplident
        LEFT JOIN pg_class x ON x.oid = i.indexrelid
        WHERE it.relkind = 'r' AND it.relreplident <> 'd' AND (it.relreplident <> 'i' OR i.indisreplident)
      UNION ALL
        SELECT it.oid, 51, x.relname, format('ALTER TABLE %s CLUSTER ON %I', target, x.relname)
        FROM it JOIN pg_index i ON i.indrelid = it.oid AND i.indisclustered JOIN pg_class x ON x.oid = i.indexrelid
      UNION ALL
        SELECT it.oid, 60, '', format('COMMENT ON %s %s IS %L', CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm'
                 THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, target,
                 obj_description(oid, 'pg_class'))
        FROM it WHERE obj_description(oid, 'pg_class') IS NOT NULL
      UNION ALL
        SELECT it.oid, 61, a.attname, format('COMMENT ON COLUMN %s.%I IS %L', target, a.attname,
                                      col_description(it.oid, a.attnum))
        FROM it JOIN pg_attribute a ON a.attrelid = it.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE col_description(it.oid, a.attnum) IS NOT NULL
      UNION ALL
        SELECT it.oid, 62, k.conname, format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, target,
                                     obj_description(k.oid, 'pg_constraint'))
        FROM it JOIN pg_constraint k ON k.conrelid = it.oid WHERE obj_description(k.oid, 'pg_constraint') IS NOT NULL
      UNION ALL
        SELECT it.oid, 63, x.relname, format('COMMENT ON INDEX %I.%I IS %L', it.nspname, x.relname,
                                      obj_description(x.oid, 'pg_class'))
        FROM it JOIN pg_index i ON i.indrelid = it.oid JOIN pg_class x ON x.oid = i.indexrelid
        WHERE obj_description(x.oid, 'pg_class') IS NOT NULL
      UNION ALL
        SELECT it.oid, 64, t.tgname, format('COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, target,
                                     obj_description(t.oid, 'pg_trigger'))
        FROM it JOIN pg_trigger t ON t.tgrelid = it.oid WHERE obj_description(t.oid, 'pg_trigger') IS NOT NULL
      UNION ALL
        SELECT it.oid, 65, p.polname, format('COMMENT ON POLICY %I ON %s IS %L', p.polname, target,
                                     obj_description(p.oid, 'pg_policy'))
        FROM it JOIN pg_policy p ON p.polrelid = it.oid WHERE obj_description(p.oid, 'pg_policy') IS NOT NULL
      UNION ALL
        SELECT it.oid, 66, r.rulename, format('COMMENT ON RULE %I ON %s IS %L', r.rulename, target,
                                      obj_description(r.oid, 'pg_rewrite'))
        FROM it JOIN pg_rewrite r ON r.ev_class = it.oid WHERE obj_description(r.oid, 'pg_rewrite') IS NOT NULL
      UNION ALL
        SELECT it.oid, 70, '', format(
                 'ALTER SEQUENCE %s AS %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %s',
                 target, format_type(q.seqtypid, NULL), q.seqincrement, q.seqmin, q.seqmax, q.seqstart, q.seqcache,
                 CASE WHEN q.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)
        FROM it JOIN pg_sequence q ON q.seqrelid = it.oid
      UNION ALL
        SELECT it.oid, 71, '', format('ALTER SEQUENCE %s SET %s', target,
                              CASE it.relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE 'LOGGED' END)
        FROM it JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = it.oid AND d.deptype = 'i'
        JOIN pg_class t ON d.refclassid = 'pg_class'::regclass AND t.oid = d.refobjid
        WHERE it.relkind = 'S' AND t.relpersistence <> it.relpersistence
          AND current_setting('server_version_num')::int >= 150000  -- all are logged before
    ) steps
    ORDER BY oid, step, part, statement
""")

# One statement for each grantor, grantee and column; grants of no column have an empty `part`.
_GRANTS = sa.text("""
    WITH it AS (
        SELECT c.*, format('%s%I.%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' END, n.nspname, named.relname) AS target
        FROM unnest(CAST(:oids AS oid[]), CAST(:named AS oid[])) asked(oid, name_of)
        JOIN pg_class c ON c.oid = asked.oid JOIN pg_class named ON named.oid = asked.name_of
        JOIN pg_namespace n ON n.oid = named.relnamespace
    ), granted AS (
        SELECT it.oid AS relation, '' AS part, NULL::name AS attname, acl.*
        FROM it, aclexplode(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)))
                 acl
        UNION ALL
        SELECT it.oid, a.attname::text, a.attname, acl.*
        FROM it JOIN pg_attribute a ON a.attrelid = it.oid AND NOT a.attisdropped, aclexplode(a.attacl) acl
    )
    SELECT relation::bigint AS table_oid, part, pg_get_userbyid(relowner)::text AS owner,
           pg_get_userbyid(grantor)::text AS grantor,
           pg_get_userbyid(grantee)::text AS grantee, is_grantable,
           quote_ident(pg_get_userbyid(grantor)) AS as_grantor, quote_ident(current_user) AS as_ourselves,
           format('GRANT %s ON %s TO %s%s',
                  string_agg(concat(privilege_type, ' (' || quote_ident(attname) || ')'), ', ' ORDER BY privilege_type),
                  target, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS statement
    FROM granted JOIN it ON it.oid = relation
    GROUP BY relation, part, relowner, grantor, grantee, is_grantable, target
    ORDER BY relation, part, grantor <> relowner, grantor, grantee, is_grantable
""")

# One statement for everybody who has a grant on the relation or a column, its owner included.
_REVOKES = sa.text("""
    SELECT DISTINCT c.oid::bigint AS table_oid, format('REVOKE ALL ON %s%s FROM %s CASCADE',
               CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END, named.name,
               CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END) AS statement
    FROM unnest(CAST(:oids AS oid[]), CAST(:names AS text[])) named(oid, name) JOIN pg_class c ON c.oid = named.oid,
         acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner) standard,
         LATERAL (SELECT grantee FROM aclexplode(coalesce(c.relacl, standard))
                  UNION
                  SELECT of_column.grantee
                  FROM pg_attribute a, aclexplode(a.attacl) of_column WHERE a.attrelid = c.oid) acl
    ORDER BY 1, 2
""")

# One text for each: USING, WITH (its TOAST table's parameters too), TABLESPACE.
_SETTINGS = sa.text("""
    SELECT c.oid::bigint AS table_oid, coalesce(' USING ' || quote_ident(am.amname), '')
        || coalesce(' WITH (' || nullif(concat_ws(', ', array_to_string(c.reloptions, ', '),
             (SELECT string_agg('toast.' || o, ', ') FROM unnest(t.reloptions) o)), '') || ')', '')
        || coalesce(' TABLESPACE ' || quote_ident(ts.spcname), '') AS settings
    FROM pg_class c
    LEFT JOIN pg_am am ON am.oid = c.relam
    LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
    WHERE c.oid = ANY (CAST(:oids AS oid[]))
""")
