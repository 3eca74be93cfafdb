"""What speaks against giving a table's name to a new one: what could not be hung on that, or would be passed by."""

from collections.abc import Collection, Iterator, Sequence

import sqlalchemy as sa

from airflow_ingest_provider.core import dependents
from airflow_ingest_provider.core.catalog import by_table
from airflow_ingest_provider.core.session import major_version


def walls(conn: sa.Connection, oids: Sequence[int], swapped: Collection[int] = ()) -> dict[int, tuple[str, ...]]:
    """What hangs on each table and cannot be hung on another one: why it cannot be swapped. Empty where it can.

    `swapped` are other tables that are swapped in the same transaction; so is each of these that can be, for those
    behind it.
    """
    hanging = by_table(conn.execute(_WALLS, {"oids": list(oids), "to_act_as": _to_act_as(conn)}))
    found = {oid: tuple(row.wall for row in hanging[oid]) for oid in oids}
    if not conn.scalar(_ANY_MATERIALIZED, {"oids": [*oids, *swapped]}):
        return found
    going = list(swapped)
    for oid in oids:
        found[oid] += (*conn.scalars(_UNREADY, {"oids": [oid, *going]}), *_qualified(conn, [oid, *going]))
        if not found[oid]:
            going.append(oid)
    return found


def _qualified(conn: sa.Connection, oids: Collection[int]) -> Iterator[str]:
    """Materialized views that are made anew, and whose query names a relation with its schema whatever the search_path.

    It does where a WITH query, or a relation of another schema, has the same name.
    """
    for made in conn.execute(_MADE, {"oids": list(oids)}):
        query = dependents.query(conn, made.oid, dict.fromkeys(made.schemas))
        for quoted, name in zip(made.quoted, made.names, strict=True):
            if quoted in query:
                yield f"materialized view {made.view}, in which {name} is not the only relation called so"


def retyping(conn: sa.Connection, oid: int, columns: Collection[str]) -> tuple[str, ...]:
    """What stands against making the views over columns again that get other types, and what is built on them."""
    if not columns:
        return ()
    return tuple(conn.scalars(_RETYPING, {"oid": oid, "columns": list(columns), "to_act_as": _to_act_as(conn)}))


def _to_act_as(conn: sa.Connection) -> str:
    """What a role needs of another one to make it an owner, or to grant as it: since 16 members may lack it.

    https://www.postgresql.org/docs/current/role-membership.html
    """
    return "SET" if major_version(conn) >= 16 else "MEMBER"


# What is dropped with the table: itself, the sequences of its identity columns, and the materialized views that read
# it, which are made anew. Whatever depends on one of them and is not understood is a wall; so is whatever depends on
# their row types. Then there are memberships and properties that leave no dependency.
_WALLS = sa.text("""
    SELECT wanted.oid::bigint AS table_oid, wall FROM unnest(CAST(:oids AS oid[])) wanted(oid), LATERAL (
    WITH RECURSIVE it AS (SELECT c.oid, c.reltype, c.relkind, c.relname, c.relnamespace, c.relowner,
                                 c.reloftype FROM pg_class c
                          WHERE c.oid = wanted.oid),
    reads AS (
        SELECT r.ev_class AS viewer, d.refobjid AS read
        FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
        JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'm'
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    ), dropped(oid) AS (
        SELECT oid FROM it
        UNION
        SELECT reads.viewer FROM dropped JOIN reads ON reads.read = dropped.oid
    ), all_dropped AS (
        SELECT oid FROM dropped
        UNION
        SELECT d.objid FROM pg_depend d, it WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'i'
           AND d.refclassid = 'pg_class'::regclass AND d.refobjid = it.oid AND d.refobjsubid > 0
    ), gone AS (
        SELECT c.oid, c.reltype, c.relkind, t.typarray FROM all_dropped JOIN pg_class c ON c.oid = all_dropped.oid
        LEFT JOIN pg_type t ON t.oid = c.reltype
    ), hanging AS (
        SELECT d.classid, d.objid, d.objsubid, gone.oid AS gone, gone.reltype, false AS of_type
        FROM pg_depend d JOIN gone ON d.refclassid = 'pg_class'::regclass AND d.refobjid = gone.oid
        UNION
        SELECT d.classid, d.objid, d.objsubid, gone.oid, gone.reltype, true
        FROM pg_depend d JOIN gone ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (gone.reltype, gone.typarray)
    )
    SELECT pg_describe_object(h.classid, h.objid, h.objsubid) AS wall
    FROM hanging h
    WHERE NOT CASE h.classid
        WHEN 'pg_class'::regclass THEN h.objid IN (SELECT oid FROM gone)
             OR NOT h.of_type AND h.objsubid = 0 AND EXISTS (
                SELECT FROM pg_class c WHERE c.oid = h.objid AND c.relkind IN ('i', 'I', 'S', 't'))
        WHEN 'pg_type'::regclass THEN EXISTS (SELECT FROM pg_type t WHERE t.oid = h.objid
             AND (t.oid = h.reltype OR t.typelem = h.reltype))
        WHEN 'pg_constraint'::regclass THEN NOT h.of_type AND EXISTS (SELECT FROM pg_constraint k WHERE k.oid = h.objid
             AND (k.conrelid = h.gone OR k.contype = 'f' AND k.confrelid = h.gone AND k.conparentid = 0))
        WHEN 'pg_attrdef'::regclass THEN EXISTS (SELECT FROM pg_attrdef a JOIN gone ON gone.oid = a.adrelid
                                                 WHERE a.oid = h.objid)
             OR NOT h.of_type AND EXISTS (SELECT FROM pg_attrdef a, it WHERE a.oid = h.objid AND a.adrelid = it.oid)
        WHEN 'pg_trigger'::regclass THEN NOT h.of_type AND EXISTS (SELECT FROM pg_trigger t WHERE t.oid = h.objid
             AND (t.tgrelid = h.gone OR t.tgisinternal))
        WHEN 'pg_policy'::regclass THEN NOT h.of_type AND EXISTS (SELECT FROM pg_policy p WHERE p.oid = h.objid
             AND p.polrelid = h.gone)
        WHEN 'pg_rewrite'::regclass THEN NOT h.of_type AND EXISTS (
             SELECT FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
             WHERE r.oid = h.objid AND (c.oid = h.gone OR c.relkind IN ('v', 'm') AND r.rulename = '_RETURN'))
             AND h.gone IN (SELECT oid FROM dropped)
        WHEN 'pg_statistic_ext'::regclass THEN NOT h.of_type
        ELSE false END
    UNION
    SELECT 'partitioning: it is a partitioned table' FROM it WHERE relkind = 'p'
    UNION
    SELECT format('type %s, of which it is a table', reloftype::regtype) FROM it WHERE reloftype <> 0
    UNION
    SELECT 'inheritance of or by ' || i.inhparent::regclass || ' and ' || i.inhrelid::regclass
    FROM pg_inherits i, it WHERE it.oid IN (i.inhparent, i.inhrelid)
    UNION
    SELECT format('membership of %s in extension %s', pg_describe_object(d.classid, d.objid, 0), e.extname)
    FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid JOIN gone ON gone.oid = d.objid
    WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
    UNION
    SELECT format('%s, which depends on extension %s', pg_describe_object(d.classid, d.objid, 0), e.extname)
    FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
    LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
    LEFT JOIN pg_index i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
    JOIN gone ON gone.oid IN (t.tgrelid, i.indrelid, CASE d.classid WHEN 'pg_class'::regclass THEN d.objid END)
    WHERE d.deptype = 'x' AND d.refclassid = 'pg_extension'::regclass
    UNION
    SELECT 'publication ' || t.pubname FROM pg_publication_tables t, it
    WHERE t.schemaname = (SELECT nspname FROM pg_namespace WHERE oid = it.relnamespace) AND t.tablename = it.relname
    UNION
    SELECT 'a subscription to it' FROM pg_subscription_rel s, it WHERE s.srrelid = it.oid
    UNION
    SELECT 'security label of ' || l.provider FROM pg_seclabel l JOIN gone ON gone.oid = l.objoid
    WHERE l.classoid = 'pg_class'::regclass
    UNION
    SELECT format('check %s, which reads the whole row or a system column', k.conname) FROM pg_constraint k, it
    WHERE k.conrelid = it.oid AND k.contype = 'c' AND k.conbin::text ~ '[:]varattno (0|-[0-9]+) '
    UNION
    SELECT format('index %s, which reads the whole row', i.indexrelid::regclass) FROM pg_index i, it
    WHERE i.indrelid = it.oid AND concat(i.indexprs::text, i.indpred::text) ~ '[:]varattno (0|-[0-9]+) '
    UNION
    SELECT format('NOT NULL constraint %s, which is not valid or not inherited', k.conname) FROM pg_constraint k, it
    WHERE k.conrelid = it.oid AND k.contype = 'n' AND (k.connoinherit OR NOT k.convalidated)
    UNION
    SELECT 'a comment on its row type' FROM it WHERE obj_description(it.reltype, 'pg_type') IS NOT NULL
    UNION
    SELECT 'grants on its row type' FROM it JOIN pg_type t ON t.oid = it.reltype WHERE t.typacl IS NOT NULL
    UNION
    SELECT format('trigger %s of a foreign key, which is disabled', t.tgname) FROM pg_trigger t, it
    WHERE t.tgisinternal AND t.tgenabled <> 'O' AND it.oid IN (t.tgrelid, t.tgconstrrelid)
    UNION
    SELECT format('a grant by %s, as whom role %s may not act', pg_get_userbyid(acl.grantor), current_user)
    FROM it JOIN pg_class c ON c.oid = it.oid LEFT JOIN pg_attribute a ON a.attrelid = c.oid,
         LATERAL (SELECT * FROM aclexplode(c.relacl) UNION SELECT * FROM aclexplode(a.attacl)) acl
    WHERE acl.grantor <> it.relowner AND NOT pg_has_role(acl.grantor, :to_act_as)
    UNION
    SELECT format('the owner %s of %s, who may not have relations in schema %s', o.rolname, c.oid::regclass,
                  c.relnamespace::regnamespace)
    FROM dropped JOIN pg_class c ON c.oid = dropped.oid JOIN pg_roles o ON o.oid = c.relowner
    WHERE o.rolname <> current_user AND NOT has_schema_privilege(o.oid, c.relnamespace, 'CREATE')
      AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
    UNION
    SELECT format('the owner %s of %s, as whom role %s may not act', pg_get_userbyid(c.relowner), c.oid::regclass,
                  current_user)
    FROM dropped JOIN pg_class c ON c.oid = dropped.oid WHERE NOT pg_has_role(c.relowner, :to_act_as)
    UNION  -- the CASE keeps the keys of other tables from being turned into JSON
    SELECT format('foreign key %s of %s, which has a PERIOD', k.conname, k.conrelid::regclass)
    FROM pg_constraint k, it
    WHERE k.contype = 'f'
      AND CASE WHEN it.oid IN (k.conrelid, k.confrelid) THEN to_jsonb(k) ->> 'conperiod' = 'true' ELSE false END
    UNION
    SELECT format('foreign key %s of %s, which is partitioned', k.conname, k.conrelid::regclass)
    FROM pg_constraint k JOIN it ON it.oid = k.confrelid JOIN pg_class c ON c.oid = k.conrelid
    WHERE k.contype = 'f' AND k.conrelid <> it.oid AND c.relkind = 'p'
      AND current_setting('server_version_num')::int < 180000  -- has no NOT VALID for them
    UNION
    SELECT format('schema %s, in which role %s may not create relations', c.relnamespace::regnamespace, current_user)
    FROM (SELECT oid FROM dropped UNION
          SELECT v.ev_class FROM hanging h JOIN pg_rewrite v ON h.classid = 'pg_rewrite'::regclass AND v.oid = h.objid
          WHERE v.rulename = '_RETURN') made_again
    JOIN pg_class c ON c.oid = made_again.oid
    WHERE NOT pg_is_other_temp_schema(c.relnamespace) AND NOT has_schema_privilege(c.relnamespace, 'CREATE')
    UNION
    SELECT format('foreign key %s, since role %s lacks REFERENCES on %s', k.conname, current_user,
                  k.confrelid::regclass)
    FROM pg_constraint k, it, unnest(k.confkey) attnum
    WHERE k.conrelid = it.oid AND k.contype = 'f' AND k.confrelid <> it.oid
      AND NOT has_column_privilege(k.confrelid, attnum, 'REFERENCES')
    UNION
    SELECT format('foreign key %s of %s, which belongs to %s', k.conname, c.oid::regclass, pg_get_userbyid(c.relowner))
    FROM pg_constraint k JOIN it ON it.oid = k.confrelid JOIN pg_class c ON c.oid = k.conrelid
    WHERE k.contype = 'f' AND NOT pg_has_role(c.relowner, 'USAGE')
    UNION
    SELECT format('trigger %s, whose function %s role %s may not run', t.tgname, t.tgfoid::regprocedure, current_user)
    FROM pg_trigger t JOIN it ON it.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND NOT has_function_privilege(t.tgfoid, 'EXECUTE')
    UNION
    SELECT format('tablespace %s, in which role %s may not create relations', s.spcname, current_user)
    FROM it JOIN pg_class c ON c.oid = it.oid OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = it.oid)
    JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE NOT has_tablespace_privilege(s.oid, 'CREATE')
    UNION
    SELECT format('view %s, a temporary one of another session', v.ev_class::regclass)
    FROM hanging h JOIN pg_rewrite v ON h.classid = 'pg_rewrite'::regclass AND v.oid = h.objid
    JOIN pg_class c ON c.oid = v.ev_class WHERE pg_is_other_temp_schema(c.relnamespace)
    UNION
    SELECT format('view %s, which belongs to %s', v.ev_class::regclass, pg_get_userbyid(c.relowner))
    FROM hanging h JOIN pg_rewrite v ON h.classid = 'pg_rewrite'::regclass AND v.oid = h.objid
    JOIN pg_class c ON c.oid = v.ev_class WHERE NOT pg_has_role(c.relowner, 'USAGE')
    ) walls
    ORDER BY 1, 2
""")

# Where there is none, as mostly, this saves two queries a table.
_ANY_MATERIALIZED = sa.text("""
    SELECT EXISTS (
        SELECT FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class c ON c.oid = r.ev_class
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
          AND d.refobjid = ANY (CAST(:oids AS oid[])) AND c.relkind = 'm')
""")

# Materialized views that are made anew, and what they read that is: its names, in the order of their OIDs. Here and
# below `reads` is not materialized, so that it is looked up by one of the two: there may be thousands of views.
_MADE = sa.text("""
    WITH RECURSIVE reads AS NOT MATERIALIZED (
        SELECT r.ev_class AS viewer, d.refobjid AS read, c.relkind
        FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
        JOIN pg_class c ON c.oid = r.ev_class
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    ), replaced(oid) AS (
        SELECT unnest(CAST(:oids AS oid[]))
        UNION
        SELECT reads.viewer FROM replaced JOIN reads ON reads.read = replaced.oid WHERE reads.relkind = 'm'
    )
    SELECT m.oid::bigint, m.oid::regclass::text AS view, array_agg(n.nspname::text ORDER BY c.oid) AS schemas,
           array_agg(format('%I.%I', n.nspname, c.relname) ORDER BY c.oid) AS quoted,
           array_agg(c.oid::regclass::text ORDER BY c.oid) AS names
    FROM replaced JOIN pg_class m ON m.oid = replaced.oid AND m.relispopulated,
         LATERAL (SELECT DISTINCT read FROM reads WHERE viewer = m.oid) used
    JOIN replaced stale ON stale.oid = used.read JOIN pg_class c ON c.oid = used.read
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE m.relkind = 'm'
    GROUP BY m.oid
    ORDER BY 1
""")

# Materialized views that are made anew, and whose query could only be run while readers wait, or would fail: as it
# would with a REFRESH of people. `moving` are views that stay, and show the new rows from the swap on. An E has
# backslashes read alike under every standard_conforming_strings.
_UNREADY = sa.text(r"""
    WITH RECURSIVE reads AS NOT MATERIALIZED (
        SELECT r.ev_class AS viewer, d.refobjid AS read, c.relkind
        FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
        JOIN pg_class c ON c.oid = r.ev_class
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    ), replaced(oid) AS (
        SELECT unnest(CAST(:oids AS oid[]))
        UNION
        SELECT reads.viewer FROM replaced JOIN reads ON reads.read = replaced.oid WHERE reads.relkind = 'm'
    ), moving(oid) AS (
        SELECT reads.viewer FROM replaced JOIN reads ON reads.read = replaced.oid WHERE reads.relkind = 'v'
        UNION
        SELECT reads.viewer FROM moving JOIN reads ON reads.read = moving.oid WHERE reads.relkind = 'v'
    ), made AS (
        SELECT DISTINCT m.oid, m.relowner, reads.read FROM replaced JOIN pg_class m ON m.oid = replaced.oid
        JOIN reads ON reads.viewer = m.oid WHERE m.relispopulated
    ), reached(oid, read) AS (
        SELECT oid, read FROM made
        UNION
        SELECT reached.oid, reads.read FROM reached JOIN reads ON reads.viewer = reached.read WHERE reads.relkind = 'v'
    ), uses AS (
        SELECT made.oid, o.oid AS owner, o.rolname, d.refclassid, d.refobjid, d.refobjsubid
        FROM (SELECT DISTINCT oid, relowner FROM made) made JOIN pg_roles o ON o.oid = made.relowner
        JOIN pg_rewrite r ON r.ev_class = made.oid
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refobjid <> made.oid
    )
    SELECT format('materialized view %s, which reads view %s too', made.oid::regclass, read::regclass)
    FROM made JOIN moving ON moving.oid = made.read
    UNION
    SELECT format('materialized view %s, which reads several relations called %s', made.oid::regclass, c.relname)
    FROM made JOIN replaced ON replaced.oid = made.read JOIN pg_class c ON c.oid = made.read
    GROUP BY made.oid, c.relname HAVING count(*) > 1
    UNION
    SELECT format('materialized view %s, which reads %s, which has no rows yet', reached.oid::regclass, read::regclass)
    FROM reached JOIN pg_class c ON c.oid = reached.read WHERE c.relkind = 'm' AND NOT c.relispopulated
    UNION
    SELECT format('materialized view %s, whose owner %s may not read %s', uses.oid::regclass, rolname, c.oid::regclass)
    FROM uses JOIN pg_class c ON refclassid = 'pg_class'::regclass AND c.oid = refobjid
    WHERE c.relkind <> 'S' AND NOT CASE WHEN refobjsubid = 0 THEN has_any_column_privilege(owner, c.oid, 'SELECT')
                                        ELSE has_column_privilege(owner, c.oid, refobjsubid::smallint, 'SELECT') END
    UNION
    SELECT format('materialized view %s, whose owner %s may not run %s', uses.oid::regclass, rolname,
                  refobjid::regprocedure)
    FROM uses WHERE refclassid = 'pg_proc'::regclass AND NOT has_function_privilege(owner, refobjid, 'EXECUTE')
    UNION
    SELECT format('materialized view %s, whose function %s names %s too', uses.oid::regclass, p.oid::regprocedure,
                  c.oid::regclass)
    FROM uses JOIN pg_proc p ON refclassid = 'pg_proc'::regclass AND p.oid = refobjid
    JOIN pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('internal', 'c')
    JOIN (SELECT oid FROM replaced UNION SELECT oid FROM moving) stale ON true JOIN pg_class c ON c.oid = stale.oid
     AND p.prosrc ~* concat(E'\\m', regexp_replace(c.relname, E'(\\W)', E'\\\\\\1', 'g'), E'\\M')
    UNION
    SELECT format('materialized view %s, from whose owner %s policies keep rows of %s', made.oid::regclass, o.rolname,
                  read::regclass)
    FROM made JOIN replaced ON replaced.oid = made.read JOIN pg_roles o ON o.oid = made.relowner
    JOIN pg_class c ON c.oid = made.read
    WHERE c.relrowsecurity AND NOT o.rolsuper AND NOT o.rolbypassrls
      AND (c.relforcerowsecurity OR NOT pg_has_role(o.oid, c.relowner, 'USAGE'))
    UNION
    SELECT format('materialized view %s, since role %s needs CREATE on database %s to run its query beforehand',
                  made.oid::regclass, current_user, current_database())
    FROM made WHERE NOT has_database_privilege(current_database(), 'CREATE')
    ORDER BY 1
""")

# `remade` may have to be made again, `made` with its rows; `parts` are the views that a query of these runs with its
# own. Which of them get columns of other types, and can be built before, is not known yet.
_RETYPING = sa.text("""
    WITH RECURSIVE reads AS NOT MATERIALIZED (
        SELECT r.ev_class AS viewer, d.refobjid AS read,
               d.refobjsubid = 0 OR a.attname = ANY (CAST(:columns AS name[])) AS of_columns
        FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
        LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    ), above(oid) AS (
        SELECT CAST(:oid AS oid) UNION SELECT viewer FROM above JOIN reads ON reads.read = above.oid
    ), remade(oid) AS (
        SELECT viewer FROM reads WHERE read = :oid AND of_columns
        UNION
        SELECT viewer FROM remade JOIN reads ON reads.read = remade.oid
    ), made AS (
        SELECT c.oid FROM remade JOIN pg_class c ON c.oid = remade.oid WHERE c.relkind = 'm' AND c.relispopulated
    ), parts(oid, part) AS (
        SELECT oid, oid FROM made
        UNION
        SELECT parts.oid, v.oid FROM parts JOIN reads ON reads.viewer = part
        JOIN pg_class v ON v.oid = read AND v.relkind = 'v' JOIN above ON above.oid = v.oid
    )
    SELECT format('materialized view %s, since role %s needs CREATE on database %s to run its query beforehand',
                  oid::regclass, current_user, current_database())
    FROM made WHERE NOT has_database_privilege(current_database(), 'CREATE')
    UNION
    SELECT format('materialized view %s, since %s reads %s', parts.oid::regclass, part::regclass,
                  string_agg(read::regclass::text, ' and ' ORDER BY read::regclass::text))
    FROM parts, LATERAL (SELECT DISTINCT read FROM reads WHERE viewer = part) used JOIN above ON above.oid = read
    JOIN pg_class c ON c.oid = read
    GROUP BY parts.oid, part HAVING count(*) > 1 AND bool_or(c.relkind = 'v')
    UNION
    SELECT format('%s %s, from whose owner %s policies keep rows of %s',
                  CASE p.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, part::regclass, o.rolname,
                  c.oid::regclass)
    FROM parts JOIN pg_class p ON p.oid = part JOIN pg_roles o ON o.oid = p.relowner JOIN pg_class c ON c.oid = :oid
    WHERE c.relrowsecurity AND NOT o.rolsuper AND NOT o.rolbypassrls
      AND (c.relforcerowsecurity OR NOT pg_has_role(o.oid, c.relowner, 'USAGE'))
    UNION
    SELECT format('view %s, which belongs to %s', c.oid::regclass, pg_get_userbyid(c.relowner))
    FROM remade JOIN pg_class c USING (oid)
    WHERE NOT pg_has_role(c.relowner, 'USAGE') OR NOT pg_has_role(c.relowner, :to_act_as)
       OR pg_is_other_temp_schema(c.relnamespace)
    ORDER BY 1
""")
