"""What people put on tables that acts when rows are written: rules and triggers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from airflow_ingest_provider.core.catalog import by_table
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.names import Name

UPDATE, INSERT, DELETE = "2", "3", "4"
"""The events of rules, as pg_rewrite.ev_type has them."""


@dataclass(frozen=True)
class Acting:
    """A table's enabled `rules`, each with its event, and the enabled triggers that fire on INSERT."""

    rules: tuple[tuple[str, str], ...]
    insert_triggers: tuple[str, ...]


def acting(conn: sa.Connection, oids: Sequence[int]) -> dict[int, Acting]:
    """What acts on each of the tables."""
    found = by_table(conn.execute(_ACTING, {"oids": list(oids)})) if oids else {}
    return {
        oid: Acting(
            rules=tuple((row.name, row.event) for row in found.get(oid, ()) if row.event),
            insert_triggers=tuple(row.name for row in found.get(oid, ()) if not row.event),
        )
        for oid in oids
    }


def check_rules(table: Name, found: Acting, events: Collection[str]) -> None:
    """Raise DefinitionError where a rule would take the place of statements of these events."""
    rules = [name for name, event in found.rules if event in events]
    if rules:
        raise DefinitionError(
            f"{table}: PostgreSQL puts its rule{'s' * (len(rules) > 1)} {', '.join(rules)} in the place of "
            "the statements that bring rows into it: drop them, or use triggers"
        )


# The rule that makes a view is on SELECT. Triggers of rows and of statements; rows that come by a swap pass them by.
_ACTING = sa.text("""
    SELECT ev_class::bigint AS table_oid, rulename AS name, ev_type::text AS event FROM pg_rewrite
    WHERE ev_class = ANY (CAST(:oids AS oid[])) AND rulename <> '_RETURN' AND ev_enabled IN ('O', 'A')
    UNION ALL
    SELECT tgrelid::bigint, tgname, NULL FROM pg_trigger
    WHERE tgrelid = ANY (CAST(:oids AS oid[])) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype::int & 4 = 4
    ORDER BY name
""")
