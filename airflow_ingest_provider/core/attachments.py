"""What people hung on a relation, as the statements that hang it on again.

The statements name the relation and not its OID: the ones read from the table that is replaced are run on the one that
replaces it, and reading them again must give the same ones.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from airflow_ingest_provider.core.names import Name


@dataclass(frozen=True)
class Dependent:
    """A view or materialized view that reads, at any depth, a table.

    `reads` are the OIDs of the relations that its query names; `attached` hangs on again what the view carries.
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
    indexes: tuple[str, ...]

    @property
    def word(self) -> str:
        return "MATERIALIZED VIEW" if self.kind == "m" else "VIEW"


@dataclass(frozen=True)
class InboundKey:
    """A foreign key of another table that refers to this one."""

    table: Name
    name: str
    columns: tuple[str, ...]
    target_columns: tuple[str, ...]
    options: str
    validated: bool


def attached(conn: sa.Connection, oid: int, name: Name, gone: Collection[str] = ()) -> tuple[str, ...]:
    """The statements, in the order to run them, that give `name` the relation's grants and all else.

    Left out is what belongs to the columns, constraints and indexes that are `gone`.
    """
    rows = conn.execute(_ATTACHED, {"oid": oid, "name": name.quoted})
    return tuple(row.statement for row in rows if row.step not in _OF_PARTS or row.part not in gone)


def revokes(conn: sa.Connection, oid: int, name: Name) -> tuple[str, ...]:
    """What takes away every grant on a new relation, those of default privileges too."""
    return tuple(conn.scalars(_REVOKES, {"oid": oid, "name": name.quoted}))


def settings(conn: sa.Connection, oid: int) -> str:
    """The table's access method, storage parameters and tablespace, as they follow the columns in CREATE TABLE."""
    return conn.scalar(_SETTINGS, {"oid": oid}) or ""


def dependents(conn: sa.Connection, oid: int) -> tuple[Dependent, ...]:
    """The views on the relation, those that others read first."""
    return tuple(_dependent(conn, row) for row in conn.execute(_DEPENDENTS, {"oid": oid}).all())


def _dependent(conn: sa.Connection, row: sa.Row[tuple[object, ...]]) -> Dependent:
    name = Name(row.schema, row.name)
    return Dependent(
        oid=row.oid,
        name=name,
        kind=row.relkind,
        definition=row.definition.rstrip().rstrip(";"),
        options=row.options,
        reads=frozenset(row.reads),
        populated=row.relispopulated,
        may_alter=row.may_alter,
        owner=row.owner,
        storage=settings(conn, row.oid) if row.relkind == "m" else "",
        attached=attached(conn, row.oid, name),
        indexes=tuple(row.indexes),
    )


def described(conn: sa.Connection, oid: int, name: Name) -> tuple[str, ...]:
    """What hangs on the table, a line each, for people."""
    views = [f"{view.word.lower()} {view.name}" for view in dependents(conn, oid)]
    keys = [f"foreign key {key.name} of {key.table}" for key in inbound_keys(conn, oid)]
    counted = Counter(
        next((what for what in _KINDS if what in statement), "")
        for statement in attached(conn, oid, name)
        if not statement.startswith("COMMENT ON TABLE")  # it is where the state is kept
    )
    own = [f"{count} x {what}" for what, count in counted.items() if what]
    return (*views, *keys, *own)


_KINDS = (
    "GRANT",
    "CREATE POLICY",
    "ROW LEVEL SECURITY",
    "TRIGGER",
    "CREATE RULE",
    "CREATE STATISTICS",
    "REPLICA IDENTITY",
    "CLUSTER ON",
    "COMMENT ON",
)


def inbound_keys(conn: sa.Connection, oid: int) -> tuple[InboundKey, ...]:
    """Foreign keys of other tables to this one; the table's own references to itself are its definition's."""

    def keys() -> Iterator[InboundKey]:
        for row in conn.execute(_INBOUND, {"oid": oid}):
            yield InboundKey(
                Name(row.schema, row.table),
                row.name,
                tuple(row.columns),
                tuple(row.target_columns),
                row.options,
                row.valid,
            )

    return tuple(keys())


def walls(conn: sa.Connection, oid: int) -> tuple[str, ...]:
    """What hangs on the table and cannot be hung on another one: why it cannot be swapped. Empty where it can."""
    return tuple(conn.scalars(_WALLS, {"oid": oid}))


def insert_triggers(conn: sa.Connection, oid: int) -> tuple[str, ...]:
    """Enabled triggers of people that fire on INSERT: rows that come by a swap would pass them by."""
    return tuple(conn.scalars(_INSERT_TRIGGERS, {"oid": oid}))


_OF_PARTS = frozenset({11, 61, 62, 63})
"""The steps whose `part` is a column, constraint or index: those that a new definition may have dropped."""

# Statements in the order of `step`; what is named by the relation uses :name, the name to hang it on.
_ATTACHED = sa.text("""
    WITH it AS (
        SELECT c.*, n.nspname, CAST(:name AS text) AS target
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = :oid
    )
    SELECT step, part, statement FROM (
        SELECT 10 AS step, '' AS part, format('GRANT %s ON %s TO %s%s',
                 string_agg(acl.privilege_type, ', ' ORDER BY acl.privilege_type), target,
                 CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END,
                 CASE WHEN acl.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS statement
        FROM it, aclexplode(coalesce(relacl, acldefault('r', relowner))) acl
        GROUP BY target, acl.grantee, acl.is_grantable
      UNION ALL
        SELECT 11, a.attname, format('GRANT %s ON %s TO %s%s',
                 string_agg(format('%s (%I)', acl.privilege_type, a.attname), ', ' ORDER BY acl.privilege_type), target,
                 CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END,
                 CASE WHEN acl.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM it JOIN pg_attribute a ON a.attrelid = it.oid AND NOT a.attisdropped, aclexplode(a.attacl) acl
        GROUP BY target, a.attname, acl.grantee, acl.is_grantable
      UNION ALL
        SELECT 20, p.polname, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, target,
                 CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                 CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                               WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                 (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ')
                  FROM unnest(p.polroles) r),
                 ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
                 ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
        FROM it JOIN pg_policy p ON p.polrelid = it.oid
      UNION ALL
        SELECT 21, '', format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target) FROM it WHERE relrowsecurity
      UNION ALL
        SELECT 22, '', format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target) FROM it WHERE relforcerowsecurity
      UNION ALL
        SELECT 30, t.tgname, pg_get_triggerdef(t.oid)
        FROM it JOIN pg_trigger t ON t.tgrelid = it.oid WHERE NOT t.tgisinternal
      UNION ALL
        SELECT 31, t.tgname, format('ALTER TABLE %s %s TRIGGER %I', target,
                 CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
                 t.tgname)
        FROM it JOIN pg_trigger t ON t.tgrelid = it.oid WHERE NOT t.tgisinternal AND t.tgenabled <> 'O'
      UNION ALL
        SELECT 32, r.rulename, pg_get_ruledef(r.oid)
        FROM it JOIN pg_rewrite r ON r.ev_class = it.oid WHERE r.rulename <> '_RETURN'
      UNION ALL
        SELECT 33, r.rulename, format('ALTER TABLE %s %s RULE %I', target,
                 CASE r.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
                 r.rulename)
        FROM it JOIN pg_rewrite r ON r.ev_class = it.oid WHERE r.rulename <> '_RETURN' AND r.ev_enabled <> 'O'
      UNION ALL
        SELECT 34, a.attname, format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', target, a.attname,
                                     pg_get_expr(d.adbin, d.adrelid))
        FROM it JOIN pg_attrdef d ON d.adrelid = it.oid
        JOIN pg_attribute a ON a.attrelid = it.oid AND a.attnum = d.adnum
        WHERE it.relkind = 'v'
      UNION ALL
        SELECT 40, s.stxname, pg_get_statisticsobjdef(s.oid)
        FROM it JOIN pg_statistic_ext s ON s.stxrelid = it.oid
      UNION ALL
        SELECT 50, '', format('ALTER TABLE %s REPLICA IDENTITY %s', target, CASE relreplident WHEN 'n' THEN 'NOTHING'
                 WHEN 'f' THEN 'FULL' ELSE 'USING INDEX ' || (SELECT quote_ident(x.relname) FROM pg_index i
                     JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = it.oid AND i.indisreplident) END)
        FROM it WHERE relkind = 'r' AND relreplident <> 'd'
      UNION ALL
        SELECT 51, '', format('ALTER TABLE %s CLUSTER ON %I', target, x.relname)
        FROM it JOIN pg_index i ON i.indrelid = it.oid AND i.indisclustered JOIN pg_class x ON x.oid = i.indexrelid
      UNION ALL
        SELECT 60, '', format('COMMENT ON %s %s IS %L', CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm'
                 THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, target, obj_description(oid, 'pg_class'))
        FROM it WHERE obj_description(oid, 'pg_class') IS NOT NULL
      UNION ALL
        SELECT 61, a.attname, format('COMMENT ON COLUMN %s.%I IS %L', target, a.attname,
                                      col_description(it.oid, a.attnum))
        FROM it JOIN pg_attribute a ON a.attrelid = it.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE col_description(it.oid, a.attnum) IS NOT NULL
      UNION ALL
        SELECT 62, k.conname, format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, target,
                                     obj_description(k.oid, 'pg_constraint'))
        FROM it JOIN pg_constraint k ON k.conrelid = it.oid WHERE obj_description(k.oid, 'pg_constraint') IS NOT NULL
      UNION ALL
        SELECT 63, x.relname, format('COMMENT ON INDEX %I.%I IS %L', it.nspname, x.relname,
                                      obj_description(x.oid, 'pg_class'))
        FROM it JOIN pg_index i ON i.indrelid = it.oid JOIN pg_class x ON x.oid = i.indexrelid
        WHERE obj_description(x.oid, 'pg_class') IS NOT NULL
      UNION ALL
        SELECT 64, t.tgname, format('COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, target,
                                     obj_description(t.oid, 'pg_trigger'))
        FROM it JOIN pg_trigger t ON t.tgrelid = it.oid WHERE obj_description(t.oid, 'pg_trigger') IS NOT NULL
      UNION ALL
        SELECT 65, p.polname, format('COMMENT ON POLICY %I ON %s IS %L', p.polname, target,
                                     obj_description(p.oid, 'pg_policy'))
        FROM it JOIN pg_policy p ON p.polrelid = it.oid WHERE obj_description(p.oid, 'pg_policy') IS NOT NULL
      UNION ALL
        SELECT 66, r.rulename, format('COMMENT ON RULE %I ON %s IS %L', r.rulename, target,
                                      obj_description(r.oid, 'pg_rewrite'))
        FROM it JOIN pg_rewrite r ON r.ev_class = it.oid WHERE obj_description(r.oid, 'pg_rewrite') IS NOT NULL
      UNION ALL
        SELECT 67, s.stxname, format('COMMENT ON STATISTICS %I.%I IS %L', sn.nspname, s.stxname,
                                     obj_description(s.oid, 'pg_statistic_ext'))
        FROM it JOIN pg_statistic_ext s ON s.stxrelid = it.oid JOIN pg_namespace sn ON sn.oid = s.stxnamespace
        WHERE obj_description(s.oid, 'pg_statistic_ext') IS NOT NULL
    ) steps
    ORDER BY step, part, statement
""")

# One statement for everybody who has a grant on the relation, its owner included.
_REVOKES = sa.text("""
    SELECT DISTINCT format('REVOKE ALL ON %s FROM %s', CAST(:name AS text),
                           CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END)
    FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) acl
    WHERE c.oid = :oid
""")

# One text: USING, WITH (its TOAST table's parameters too), TABLESPACE.
_SETTINGS = sa.text("""
    SELECT coalesce(' USING ' || quote_ident(am.amname), '')
        || coalesce(' WITH (' || nullif(concat_ws(', ', array_to_string(c.reloptions, ', '),
             (SELECT string_agg('toast.' || o, ', ') FROM unnest(t.reloptions) o)), '') || ')', '')
        || coalesce(' TABLESPACE ' || quote_ident(ts.spcname), '')
    FROM pg_class c
    LEFT JOIN pg_am am ON am.oid = c.relam
    LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace
    WHERE c.oid = :oid
""")

# Views and materialized views over the relation, at any depth, by their longest path to it: each comes after
# all that it reads. pg_get_viewdef names the relation as it is called now.
_DEPENDENTS = sa.text("""
    WITH RECURSIVE reads AS (
        SELECT DISTINCT r.ev_class AS viewer, d.refobjid AS read
        FROM pg_depend d
        JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    ), above(oid, depth) AS (
        SELECT viewer, 1 FROM reads WHERE read = :oid
        UNION
        SELECT reads.viewer, above.depth + 1 FROM above JOIN reads ON reads.read = above.oid
    )
    SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text, c.relispopulated,
           pg_get_viewdef(c.oid) AS definition,
           coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', '') AS options,
           pg_has_role(c.relowner, 'USAGE') AS may_alter, pg_get_userbyid(c.relowner)::text AS owner,
           ARRAY(SELECT read::bigint FROM reads WHERE viewer = c.oid ORDER BY 1) AS reads,
           ARRAY(SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i WHERE i.indrelid = c.oid ORDER BY 1) AS indexes
    FROM (SELECT oid, max(depth) AS depth FROM above GROUP BY oid) v
    JOIN pg_class c ON c.oid = v.oid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    ORDER BY v.depth, c.oid
""")

# Foreign keys that other tables have to this one, with what pg_get_constraintdef prints behind the columns.
_INBOUND = sa.text("""
    SELECT n.nspname AS schema, c.relname AS table, k.conname AS name, k.convalidated AS valid,
           ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY key(num, place)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = key.num ORDER BY place) AS columns,
           ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY key(num, place)
                 JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = key.num ORDER BY place)
               AS target_columns,
           concat(CASE k.confmatchtype WHEN 'f' THEN ' MATCH FULL' END,
                  CASE k.confupdtype WHEN 'r' THEN ' ON UPDATE RESTRICT' WHEN 'c' THEN ' ON UPDATE CASCADE'
                                     WHEN 'n' THEN ' ON UPDATE SET NULL' WHEN 'd' THEN ' ON UPDATE SET DEFAULT' END,
                  CASE k.confdeltype WHEN 'r' THEN ' ON DELETE RESTRICT' WHEN 'c' THEN ' ON DELETE CASCADE'
                                     WHEN 'n' THEN ' ON DELETE SET NULL' WHEN 'd' THEN ' ON DELETE SET DEFAULT' END,
                  CASE WHEN k.condeferrable THEN ' DEFERRABLE' END,
                  CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' END) AS options
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype = 'f' AND k.confrelid = :oid AND k.conrelid <> :oid AND k.conparentid = 0
    ORDER BY 1, 2, 3
""")

# Every dependency on the table or its row type, less those that a swap understands; and memberships that
# leave no dependency: inheritance, extensions, publications of all tables or of the schema, security labels.
_WALLS = sa.text("""
    WITH it AS (SELECT c.oid, c.reltype, c.relnamespace, c.relkind FROM pg_class c WHERE c.oid = :oid),
    hanging AS (
        SELECT d.classid, d.objid, d.objsubid FROM pg_depend d, it
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = it.oid
        UNION
        SELECT d.classid, d.objid, d.objsubid FROM pg_depend d, it
        WHERE d.refclassid = 'pg_type'::regclass
          AND d.refobjid IN (it.reltype, (SELECT typarray FROM pg_type WHERE oid = it.reltype))
    )
    SELECT pg_describe_object(h.classid, h.objid, h.objsubid)
    FROM hanging h, it
    WHERE NOT CASE h.classid
        WHEN 'pg_class'::regclass THEN h.objid = it.oid OR h.objsubid = 0 AND EXISTS (
             SELECT FROM pg_class c WHERE c.oid = h.objid AND c.relkind IN ('i', 'I', 'S', 't'))
        WHEN 'pg_type'::regclass THEN EXISTS (SELECT FROM pg_type t WHERE t.oid = h.objid
             AND (t.oid = it.reltype OR t.typelem = it.reltype))
        WHEN 'pg_constraint'::regclass THEN EXISTS (SELECT FROM pg_constraint k WHERE k.oid = h.objid
             AND (k.conrelid = it.oid OR k.contype = 'f' AND k.confrelid = it.oid AND k.conparentid = 0))
        WHEN 'pg_attrdef'::regclass THEN EXISTS (SELECT FROM pg_attrdef a WHERE a.oid = h.objid AND a.adrelid = it.oid)
        WHEN 'pg_trigger'::regclass THEN EXISTS (SELECT FROM pg_trigger t WHERE t.oid = h.objid
             AND (t.tgrelid = it.oid OR t.tgisinternal))
        WHEN 'pg_policy'::regclass THEN EXISTS (SELECT FROM pg_policy p WHERE p.oid = h.objid AND p.polrelid = it.oid)
        WHEN 'pg_rewrite'::regclass THEN EXISTS (SELECT FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
             WHERE r.oid = h.objid AND (c.oid = it.oid OR c.relkind IN ('v', 'm') AND r.rulename = '_RETURN'))
        WHEN 'pg_statistic_ext'::regclass THEN true
        ELSE false END
    UNION
    SELECT 'partitioning: it is a partitioned table' FROM it WHERE relkind = 'p'
    UNION
    SELECT 'inheritance of or by ' || i.inhparent::regclass || ' and ' || i.inhrelid::regclass
    FROM pg_inherits i, it WHERE it.oid IN (i.inhparent, i.inhrelid)
    UNION
    SELECT 'membership of extension ' || e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid, it
    WHERE d.classid = 'pg_class'::regclass AND d.objid = it.oid AND d.deptype = 'e'
      AND d.refclassid = 'pg_extension'::regclass
    UNION
    SELECT 'publication ' || p.pubname FROM pg_publication p WHERE p.puballtables
    UNION
    SELECT 'publication ' || t.pubname FROM pg_publication_tables t JOIN pg_class c ON c.relname = t.tablename
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schemaname, it WHERE c.oid = it.oid
    UNION
    SELECT 'security label of ' || l.provider FROM pg_seclabel l, it
    WHERE l.classoid = 'pg_class'::regclass AND l.objoid = it.oid
    UNION
    SELECT format('view %s, which belongs to %s', v.ev_class::regclass, pg_get_userbyid(c.relowner))
    FROM hanging h JOIN pg_rewrite v ON h.classid = 'pg_rewrite'::regclass AND v.oid = h.objid
    JOIN pg_class c ON c.oid = v.ev_class WHERE NOT pg_has_role(c.relowner, 'USAGE')
    ORDER BY 1
""")

# Row and statement triggers that an INSERT fires, unless they are disabled.
_INSERT_TRIGGERS = sa.text("""
    SELECT tgname FROM pg_trigger
    WHERE tgrelid = :oid AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype::int & 4 = 4
    ORDER BY tgname
""")
