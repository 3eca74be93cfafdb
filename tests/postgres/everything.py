"""All that a database's catalog says, by queries of the tests' own: two databases alike give equal dictionaries.

Every row of every catalog is there. PostgreSQL says itself which columns hold OIDs and attribute numbers of what:
they are replaced by names, so that a relation that took another one's place is equal to it.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import psycopg

Row: TypeAlias = dict[str, Any]
Everything: TypeAlias = dict[str, Row]

# What PostgreSQL numbers, counts, or keeps as a hint; attribute numbers are compared as the order of columns.
# (All OIDs from 16384 on are of objects that somebody made.)
_NOISE = {
    "pg_class": """reltype relfilenode relpages reltuples relallvisible relallfrozen reltoastrelid relfrozenxid
        relminmxid relnatts relhasindex relhasrules relhastriggers relhassubclass relacl""",
    "pg_attribute": "attnum attcacheoff atthasmissing attmissingval attacl",
    "pg_constraint": "confdelsetcols",
    "pg_index": "indcheckxmin",
    "pg_type": "typrelid typarray typelem",
}

# What node trees and other internal forms mean, as PostgreSQL prints it.
_PRINTED = {
    "pg_class": """jsonb_build_object(
        'view', CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END,
        'index', CASE WHEN relkind IN ('i', 'I') THEN pg_get_indexdef(oid) END,
        'toast', (SELECT t.reloptions FROM pg_class t WHERE t.oid = x.reltoastrelid),
        'grants', (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(coalesce(relacl,
            acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))) a))""",
    "pg_attribute": """jsonb_build_object('grants',
        (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(attacl) a))""",
    "pg_attrdef": "jsonb_build_object('default', pg_get_expr(adbin, adrelid))",
    "pg_constraint": "jsonb_build_object('definition', pg_get_constraintdef(oid))",
    "pg_trigger": "jsonb_build_object('definition', CASE WHEN NOT tgisinternal THEN pg_get_triggerdef(oid) END)",
    "pg_rewrite": "jsonb_build_object('definition', pg_get_ruledef(oid))",
    "pg_policy": """jsonb_build_object('using', pg_get_expr(polqual, polrelid),
        'check', pg_get_expr(polwithcheck, polrelid))""",
    "pg_statistic_ext": "jsonb_build_object('expressions', pg_get_statisticsobjdef_expressions(oid))",
    "pg_proc": "jsonb_build_object('definition', CASE WHEN prokind <> 'a' THEN pg_get_functiondef(oid) END)",
}

_SHARED = """
    SELECT 'pg_authid', oid::bigint, rolname::text FROM pg_roles
    UNION ALL SELECT 'pg_tablespace', oid::bigint, spcname::text FROM pg_tablespace
"""

# Kept apart from the sweep: their OIDs are pairs of catalog and object, or they are none of the definition's.
_APART = {"pg_depend", "pg_description", "pg_seclabel", "pg_init_privs", "pg_statistic", "pg_statistic_ext_data"}

_CATALOGS = """
    SELECT c.relname, array_agg(a.attname::text), array_agg(a.attname::text) FILTER (WHERE t.typname = 'pg_node_tree')
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind = 'r' AND NOT c.relisshared
    GROUP BY 1
"""

_REFERENCES = """
    SELECT fktable::regclass::text, fkcols, pktable::regclass::text FROM pg_get_catalog_foreign_keys()
"""

# What names a row besides the name of its object, which not every row has.
_KEYS = {
    "pg_attribute": ("attrelid", "attname"),
    "pg_index": ("indexrelid",),
    "pg_inherits": ("inhrelid", "inhparent"),
    "pg_partitioned_table": ("partrelid",),
    "pg_sequence": ("seqrelid",),
    "pg_subscription_rel": ("srrelid",),
    "pg_trigger": ("tgfoid", "tgconstraint"),
}
_OF_TYPES = {
    "atttypid",
    "attlen",
    "attalign",
    "attbyval",
    "indclass",
    "conexclop",
    "conpfeqop",
    "conppeqop",
    "conffeqop",
}
_NOTHING = "'{}'::jsonb"

# Objects outside of any catalog row of their own, as names of objects and of what they depend on.
_PAIRS = {
    "dependencies": """
        SELECT format('%s: %s', o.type, o.identity), format('%s: %s (%s)', r.type, r.identity, d.deptype)
        FROM pg_depend d, pg_identify_object(classid, objid, objsubid) o,
             pg_identify_object(refclassid, refobjid, refobjsubid) r
        WHERE objid >= 16384""",
    "roles": """
        SELECT format('%s: %s', o.type, o.identity), format('%s (%s)',
                      CASE refclassid WHEN 'pg_authid'::regclass THEN pg_get_userbyid(refobjid)::text
                                      ELSE (SELECT spcname FROM pg_tablespace WHERE oid = refobjid) END, deptype)
        FROM pg_shdepend, pg_identify_object(classid, objid, objsubid) o
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND objid >= 16384""",
    "comments": """
        SELECT format('%s: %s', o.type, o.identity), description
        FROM pg_description, pg_identify_object(classoid, objoid, objsubid) o WHERE objoid >= 16384""",
    "labels": """
        SELECT format('%s: %s', o.type, o.identity), format('%s: %s', provider, label)
        FROM pg_seclabel, pg_identify_object(classoid, objoid, objsubid) o""",
    "columns": """
        SELECT attrelid::regclass::text,
               string_agg(attname, ', ' ORDER BY attnum)
        FROM pg_attribute
        WHERE attrelid >= 16384 AND attnum > 0 AND NOT attisdropped AND attrelid IN (
            SELECT oid FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'c') AND relnamespace <> 99)
        GROUP BY 1""",
    "sequences": "SELECT format('%I.%I', schemaname, sequencename), last_value::text FROM pg_sequences",
    "planner statistics": """
        SELECT format('%I.%I', schemaname, tablename), string_agg(DISTINCT attname, ', ' ORDER BY attname)
        FROM pg_stats WHERE schemaname NOT IN ('pg_catalog', 'information_schema') GROUP BY 1
        UNION ALL SELECT format('%I.%I', statistics_schemaname, statistics_name), 'extended' FROM pg_stats_ext""",
    # Whatever hangs on a view or is called by name must not notice; what moved with the table does.
    "objects": """
        SELECT format('view %s', oid::regclass), oid::text FROM pg_class WHERE relkind = 'v' AND oid >= 16384
        UNION ALL SELECT format('table %s', oid::regclass), oid::text FROM pg_class
                  WHERE relkind IN ('r', 'p') AND oid >= 16384 AND oid <> 'public.people'::regclass
                  AND relnamespace <> 99
        UNION ALL SELECT format('function %s', oid::regprocedure), oid::text FROM pg_proc WHERE oid >= 16384""",
}

# The names of a foreign key's triggers end with an OID.
_NUMBERED = re.compile(r"(ConstraintTrigger_(?:[ac]_)?)\d+")
# `people p(a, b, c)`: the aliases p and r are for this in the scripts.
_NAMES = re.compile(r"\b([pr])\(((?:\w+, )+\w+)\)")
_STATE = re.compile(r'\n?\{"(?:pg-bulk-ingest|airflow-ingest-provider)":.*\}$')


def everything(connection: psycopg.Connection, contents_of: str = "r") -> Everything:
    """The database, as rows by catalog and name. The state of ingest in the table's comment is left out.

    `contents_of` are the kinds of the relations whose rows belong to it too; the loaded table's never do.
    """
    found: Everything = {}
    for section, query in _PAIRS.items():
        for name, value in connection.execute(query):
            if "pg_toast" not in name:
                there = found.setdefault(f"{section} of {_plain(name)}", {})
                text = _STATE.sub("", _plain(value or ""))
                if text or section != "comments":
                    there[text] = there.get(text, 0) + 1
    for catalog, name, row in _swept(connection):
        key = f"{catalog} {name} {' '.join(str(row[part]) for part in _KEYS.get(catalog, ()))}".strip()
        while key in found:
            key += "'"
        found[key] = row
    for name, row in _contents(connection, contents_of):
        found[f"rows of {name}"] = row
    assert "pg_class public.people" in found
    return {name: row for name, row in found.items() if row}


def differences(before: Everything, after: Everything) -> list[str]:
    """What is lost, gained or other, for people to read."""
    told = []
    for name in sorted({*before, *after}):
        was, now = before.get(name, {}), after.get(name, {})
        if was and now:
            keys = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
            told += [f"{name}: {key}: {was.get(key)} -> {now.get(key)}" for key in keys]
        elif was or now:
            told.append(f"{'lost' if was else 'gained'} {name}: {was or now}")
    return told


def without_types(found: Everything) -> Everything:
    """Less what another integer type of a column changes, in views too: those are made again then."""
    return {
        name.replace("bigint", "integer"): {
            key.replace("bigint", "integer"): value.replace("bigint", "integer") if isinstance(value, str) else value
            for key, value in row.items()
            if key not in _OF_TYPES
        }
        for name, row in found.items()
        if not name.startswith("objects of view")
    }


def _swept(connection: psycopg.Connection) -> Iterator[tuple[str, str, Row]]:
    """Every row of every catalog of this database that is about an object of somebody's, with names for numbers."""
    references: dict[str, list[tuple[list[str], str]]] = {}
    for catalog, columns, target in connection.execute(_REFERENCES):
        references.setdefault(catalog, []).append((columns, target))
    rows: dict[str, list[Row]] = {}
    names = {(catalog, oid): name for catalog, oid, name in connection.execute(_SHARED)}
    for catalog, columns, trees in connection.execute(_CATALOGS).fetchall():
        if catalog in _APART:
            continue
        key = "oid" if "oid" in columns else references[catalog][0][0][0]
        name = f"(pg_identify_object('{catalog}'::regclass, x.oid, 0)).identity" if key == "oid" else "''"
        printed = f"to_jsonb(x) || {_PRINTED.get(catalog, _NOTHING)}"
        query = f"SELECT {printed}, {name} FROM {catalog} x WHERE x.{key}::oid >= 16384"
        for row, identity in connection.execute(query.encode()):
            if key == "oid":
                names[catalog, int(row["oid"])] = identity
            rows.setdefault(catalog, []).append({one: value for one, value in row.items() if one not in (trees or [])})
    attributes = {
        (int(row["attrelid"]), row["attnum"]): "" if row["attisdropped"] else row["attname"]
        for row in rows["pg_attribute"]
    }
    for catalog, of_catalog in rows.items():
        noise = _NOISE.get(catalog, "").split()
        for row in of_catalog:
            named = _named(row, references.get(catalog, []), names, attributes)
            told = {one: value for one, value in named.items() if one not in noise}
            # Of the server: each table's TOAST table, and each backend's schema of temporary tables.
            hidden = re.search("pg_toast|pg_temp_", str(told))
            if not hidden and not (catalog == "pg_attribute" and (row["attnum"] < 0 or row["attisdropped"])):
                yield catalog, _plain(names.get((catalog, int(row.get("oid", 0)))) or ""), told


def _named(
    row: Row,
    references: list[tuple[list[str], str]],
    names: dict[tuple[str, int], str],
    attributes: dict[tuple[int, int], str],
) -> Row:
    """The row with names where it has the numbers of objects and columns."""
    named = dict(row)
    named.pop("oid", None)
    for columns, target in references:
        *of, column = columns
        value = row.get(column)
        if target == "pg_attribute":
            relation = int(row[of[0]])
            named[column] = _each(value, lambda number, r=relation: attributes.get((r, number), number))  # type: ignore[misc]
        else:
            named[column] = _each(value, lambda number, t=target: names.get((t, int(number)), number))  # type: ignore[misc]
    if "stxkeys" in named:
        named["stxkeys"].sort()  # PostgreSQL keeps them in the order of the columns
    return {column: _plain(value) for column, value in named.items()}


def _each(value: Any, name: Callable[[Any], Any]) -> Any:
    """One number, or several: to_jsonb makes a list of an array, and a text of an int2vector or oidvector."""
    if isinstance(value, str) and " " in value:
        value = [int(number) for number in value.split()]
    if isinstance(value, list):
        return [name(int(number)) for number in value]
    return None if value is None else name(int(value)) if str(value).lstrip("-").isdigit() else value


def _plain(value: Any) -> Any:
    """A text without what differs though it means the same: OIDs in names, and the order of a table's column names."""
    if not isinstance(value, str):
        return value
    return _NAMES.sub(
        lambda found: f"{found[1]}({', '.join(sorted(found[2].split(', ')))})", _NUMBERED.sub(r"\1", value)
    )


def _contents(connection: psycopg.Connection, kinds: str) -> Iterator[tuple[str, Row]]:
    tables = connection.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE oid >= 16384 AND relkind = ANY (string_to_array(%s, NULL))"
        " AND relnamespace <> 99 AND relispopulated AND oid <> 'people'::regclass",
        [kinds],
    )
    for (name,) in tables.fetchall():
        query = f"SELECT coalesce(jsonb_agg(x ORDER BY x::text), '[]') FROM {'ONLY ' * (kinds == 'r')}{name} x"
        ((rows,),) = connection.execute(query.encode())
        yield name, {"rows": rows}
