"""What is not the table's own to change: its parents decide it, or its type, partition key or replica identity."""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from airflow_ingest_provider.core.differences import (
    ColumnAdded,
    ColumnDropped,
    ConstraintAdded,
    ConstraintDropped,
    Difference,
    ForeignKeyDropped,
    IndexAdded,
    IndexDropped,
    NotNullDropped,
    TypeChanged,
)


@dataclass(frozen=True)
class Bounds:
    """Why parts of a table cannot be changed, by kind and name, and the columns that all its keys have to have."""

    reasons: dict[tuple[str, str], str]
    in_every_key: tuple[str, ...]

    def against(self, difference: Difference) -> str | None:
        """Why PostgreSQL would not make the difference, if it would not."""
        match difference:
            case ConstraintAdded(key) if key.kind in ("p", "u", "x"):
                return self._lacking(key.columns)
            case IndexAdded(index) if index.unique:
                return self._lacking(index.columns)
        return next((self.reasons[part] for part in _changed(difference) if part in self.reasons), None)

    def _lacking(self, columns: tuple[str, ...]) -> str | None:
        lacking = next((column for column in self.in_every_key if column not in columns), None)
        return None if lacking is None else f"it lacks the column {lacking!r} of the partition key"


def bounds(conn: sa.Connection, oid: int) -> Bounds:
    """What stands against changes of the table."""
    rows = conn.execute(_BOUNDS, {"oid": oid}).all()
    reasons = {(row.kind, row.name): row.reason for row in rows}
    return Bounds(reasons, tuple(row.name for row in rows if row.kind == "partition key"))


def _changed(difference: Difference) -> Iterator[tuple[str, str]]:
    """The parts that a difference takes away or changes, by kind and name."""
    match difference:
        case ColumnAdded():
            yield "columns", ""
        case ColumnDropped(column):
            yield "column", column.name
        case TypeChanged(name):
            yield "column", name
        case NotNullDropped(name):
            yield "not null", name
        case ConstraintDropped(constraint):
            yield "constraint", constraint.name
        case ForeignKeyDropped(key):
            yield "constraint", key.name
        case IndexDropped(index):
            yield "index", index.name


# A partition has the columns of its parent and no others; other heirs may have more. An index of a constraint has the
# constraint's name. The columns of a partition key, those of its expressions too, depend on their own table.
_BOUNDS = sa.text("""
    WITH it AS (SELECT * FROM pg_class WHERE oid = :oid),
    parents AS (SELECT c.oid, c.oid::regclass AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
                WHERE i.inhrelid = :oid),
    columns AS (SELECT * FROM pg_attribute WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped)
    SELECT 'columns' AS kind, '' AS name, format('its parent %s has the columns', parents.name) AS reason
    FROM it, parents WHERE it.relispartition
    UNION ALL
    SELECT 'column', a.attname, format('its parent %s has the column', parents.name)
    FROM columns a, parents JOIN pg_attribute p ON p.attrelid = parents.oid
    WHERE a.attinhcount > 0 AND p.attname = a.attname
    UNION ALL
    SELECT 'not null', a.attname, format('its parent %s has it NOT NULL', parents.name)
    FROM it, columns a, parents JOIN pg_attribute p ON p.attrelid = parents.oid
    WHERE p.attname = a.attname AND p.attnotnull AND (it.relispartition OR EXISTS (
          SELECT FROM pg_constraint k WHERE k.conrelid = it.oid AND k.contype = 'n' AND k.coninhcount > 0
             AND k.conkey[1] = a.attnum))
    UNION ALL
    SELECT 'constraint', k.conname, format('its parent %s has the constraint', parents.name)
    FROM parents JOIN pg_constraint p ON p.conrelid = parents.oid
    JOIN pg_constraint k ON k.conrelid = :oid AND k.coninhcount > 0
     AND (k.conparentid = p.oid OR k.conparentid = 0 AND k.conname = p.conname)
    UNION ALL
    SELECT 'columns', '', format('its type %s has the columns', it.reloftype::regtype) FROM it WHERE it.reloftype <> 0
    UNION ALL
    SELECT 'column', a.attname, format('its type %s has the column', it.reloftype::regtype)
    FROM it, columns a WHERE it.reloftype <> 0
    UNION ALL
    SELECT unnest(ARRAY['column', 'partition key']), a.attname,
           format('it is in the partition key, %s', pg_get_partkeydef(a.attrelid))
    FROM columns a JOIN pg_depend d ON d.objid = a.attrelid AND d.objsubid = a.attnum AND d.refobjid = a.attrelid
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid = 0
      AND d.deptype = 'i'
    UNION ALL
    SELECT 'not null', a.attname, format('index %s of its replica identity has it', i.indexrelid::regclass)
    FROM pg_index i JOIN columns a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indisreplident
""")
