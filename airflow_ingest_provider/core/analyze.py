"""The planner's statistics of a table that nobody has seen yet."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from psycopg import sql

from airflow_ingest_provider.core import statements
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.session import major_version, run

_FIRST_THAT_RESTORES = 18
"""https://www.postgresql.org/docs/18/functions-admin.html#FUNCTIONS-ADMIN-STATSMOD"""


def whole(conn: sa.Connection, table: Name) -> None:
    """Gather all of them, from a sample of the rows."""
    run(conn, sql.SQL("ANALYZE {}").format(table.sql))


def copied(
    conn: sa.Connection, table: Name, rows: int, source: int, columns: Sequence[str], same: Collection[str]
) -> None:
    """Gather those of a copy of another table, which has so many rows.

    Columns with the `same` values keep theirs, as in ALTER TABLE: ANALYZE of 20 columns takes longer than to copy
    200,000 rows of them. Autovacuum takes the copy for a table that it has to analyze.
    """
    known: set[str] = set()
    if major_version(conn) >= _FIRST_THAT_RESTORES:
        given = {"source": source, "schema": table.schema, "name": table.name, "same": list(same)}
        known = {row.attname for row in conn.execute(_TAKE_OVER, given) if row.taken_over}
    left = [column for column in columns if column not in known]
    if not known:
        whole(conn, table)
    elif left:
        run(conn, sql.SQL("ANALYZE {} ({})").format(table.sql, statements.columns(left)))
    else:
        conn.execute(_COUNT, {"schema": table.schema, "name": table.name, "rows": rows})


# The columns whose statistics could be given to those of the same name, be they of a longer type. Those of expressions
# and of several columns cannot be given: where a table has such, nothing is. Types with an ANALYZE of their own have
# statistics that pg_stats does not show.
_TAKE_OVER = sa.text("""
    SELECT s.attname::text, pg_restore_attribute_stats(
        'schemaname', CAST(:schema AS text), 'relname', CAST(:name AS text), 'attname', s.attname::text,
        'inherited', false, 'version', current_setting('server_version_num')::int,
        'null_frac', s.null_frac, 'avg_width', coalesce(nullif(a.attlen, -1), s.avg_width),
        'n_distinct', s.n_distinct, 'correlation', s.correlation,
        'most_common_vals', s.most_common_vals::text, 'most_common_freqs', s.most_common_freqs,
        'histogram_bounds', s.histogram_bounds::text,
        'most_common_elems', s.most_common_elems::text, 'most_common_elem_freqs', s.most_common_elem_freqs,
        'elem_count_histogram', s.elem_count_histogram,
        'range_length_histogram', s.range_length_histogram::text, 'range_empty_frac', s.range_empty_frac,
        'range_bounds_histogram', s.range_bounds_histogram::text) AS taken_over
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND NOT s.inherited
    JOIN pg_attribute a ON a.attname = s.attname
     AND a.attrelid = format('%I.%I', CAST(:schema AS text), CAST(:name AS text))::regclass
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE c.oid = :source AND s.attname = ANY (CAST(:same AS name[]))
      AND NOT EXISTS (SELECT FROM pg_proc p WHERE p.oid = t.typanalyze AND p.pronamespace <> 'pg_catalog'::regnamespace)
      AND NOT EXISTS (SELECT FROM pg_statistic_ext e WHERE e.stxrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid IN (c.oid, a.attrelid) AND i.indexprs IS NOT NULL)
""")

# Says how many rows a table has, and how many pages, as ANALYZE does.
_COUNT = sa.text("""
    SELECT pg_restore_relation_stats(
        'schemaname', CAST(:schema AS text), 'relname', CAST(:name AS text),
        'version', current_setting('server_version_num')::int, 'reltuples', CAST(:rows AS real), 'relpages', (
            pg_relation_size(format('%I.%I', CAST(:schema AS text), CAST(:name AS text))::regclass)
            / current_setting('block_size')::int)::int)
""")
