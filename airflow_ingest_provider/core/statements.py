"""Shapes and differences -> SQL. Renders, never runs: every function gives statements to be run unparsed."""

from collections.abc import Iterator, Sequence

from psycopg import sql

from airflow_ingest_provider.core.differences import (
    ColumnAdded,
    ColumnDropped,
    CommentChanged,
    ConstraintDropped,
    DefaultChanged,
    Difference,
    ForeignKeyDropped,
    IndexDropped,
    IndexTuned,
    NotNullDropped,
    TypeChanged,
)
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.shape import ColumnShape, ConstraintShape, ForeignKeyShape, IndexShape, TableShape

Statement = sql.Composable

_SERIAL = {"smallint": "smallserial", "integer": "serial", "bigint": "bigserial"}


def literal(text: str | None) -> Statement:
    """The text as a constant, whatever the session's settings are.

    Not by sql.Literal: without a connection libpq reads the text in the encoding of the connection that the process,
    and not the run, opened last, and fails on what is none of its characters.
    """
    if text is None:
        return sql.SQL("NULL")
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return sql.SQL(f"E'{escaped}'" if "\\" in text else f"'{escaped}'")


def columns(names: Sequence[str]) -> Statement:
    """The names, as a list of columns."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def loaded_columns(shape: TableShape) -> Statement:
    """Those that a row holds values for, as a list of columns."""
    return columns([column.name for column in shape.loaded_columns])


def create_staging(name: str, shape: TableShape, *, not_null: bool) -> Statement:
    """A temporary table for a batch's rows: the loaded columns and the key, gone at the end of the transaction.

    Key columns that are computed are computed here too, since rows are merged by them.
    """
    key = shape.key
    definitions = [
        sql.SQL("{} {}{}{}{}").format(
            sql.Identifier(column.name),
            sql.SQL(column.type),
            _collate(column),
            _value(column) if column.generated else sql.SQL(""),
            sql.SQL(" NOT NULL" if column.not_null and not_null else ""),
        )
        for column in shape.columns
        if column.takes_values or column.name in key
    ]
    return sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(
        sql.Identifier(name), sql.SQL(", ").join(definitions)
    )


def create_referred(name: Name, of: Sequence[ColumnShape]) -> Statement:
    """An empty temporary table to which columns of these types may refer."""
    definitions = [sql.SQL("{} {}{}").format(sql.Identifier(one.name), sql.SQL(one.type), _collate(one)) for one in of]
    return sql.SQL("CREATE TEMPORARY TABLE {} ({}, UNIQUE ({}))").format(
        name.sql, sql.SQL(", ").join(definitions), columns([one.name for one in of])
    )


def create_hidden(name: Name, shape: TableShape, settings: str) -> Statement:
    """A table of the shape's columns, without keys, constraints and indexes. `settings` follow the columns."""
    return _create_table(name, shape, sql.SQL(", ").join(_definition(column) for column in shape.columns), settings)


def create_hidden_as(name: Name, shape: TableShape, settings: str, source: Name) -> Statement:
    """A table of the shape's columns, cast from the same of another table, and without all that `complete` gives it."""
    values = [
        sql.SQL("CAST({} AS {})").format(sql.Identifier(column.name), sql.SQL(column.type)) for column in shape.columns
    ]
    create = _create_table(name, shape, columns([column.name for column in shape.columns]), settings)
    return create + sql.SQL(" AS SELECT {} FROM {}").format(sql.SQL(", ").join(values), source.sql)


def _create_table(name: Name, shape: TableShape, columns: Statement, settings: str) -> Statement:
    unlogged = sql.SQL("UNLOGGED " if shape.persistence == "u" else "")
    return sql.SQL("CREATE {}TABLE {} ({}){}").format(unlogged, name.sql, columns, sql.SQL(settings))


def complete(table: Name, shape: TableShape) -> Iterator[Statement]:
    """Make the columns NOT NULL, all in one pass over the rows, and give them their identities and defaults."""
    not_null = [_add_not_null(column) for column in shape.columns if column.not_null]
    values = [_add_value(column) for column in shape.columns if column.identity or column.default is not None]
    for actions in (not_null, values):
        if actions:
            yield sql.SQL("ALTER TABLE {} {}").format(table.sql, sql.SQL(", ").join(actions))


def _add_not_null(column: ColumnShape) -> Statement:
    if column.not_null_name:
        return sql.SQL("ADD{} {}").format(_not_null(column), sql.Identifier(column.name))
    return sql.SQL("ALTER COLUMN {} SET NOT NULL").format(sql.Identifier(column.name))


def _add_value(column: ColumnShape) -> Statement:
    add = "ADD" if column.identity else "SET"
    return sql.SQL("ALTER COLUMN {} {}{}").format(sql.Identifier(column.name), sql.SQL(add), _value(column))


def tune(table: Name, shape: TableShape) -> Iterator[Statement]:
    """Give the columns of a table or materialized view their storage, compression, statistics targets and options."""
    for column in shape.columns:
        for action in column.tuning:
            yield sql.SQL("ALTER TABLE {} ALTER COLUMN {} {}").format(
                table.sql, sql.Identifier(column.name), sql.SQL(action)
            )


def add_constraint(table: Name, constraint: ConstraintShape, name: str) -> Statement:
    """Add a key, unique, check or exclusion constraint under a name."""
    add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} ").format(table.sql, sql.Identifier(name))
    if constraint.kind not in ("p", "u"):
        return add + sql.SQL(constraint.definition + ("" if constraint.validated else " NOT VALID"))
    definition, parenthesis, deferrable = constraint.definition.rpartition(")")
    options = f" WITH ({constraint.options})" if constraint.options else ""
    key = add + sql.SQL(definition + parenthesis + options)
    if constraint.tablespace:
        key += sql.SQL(" USING INDEX TABLESPACE {}").format(sql.Identifier(constraint.tablespace))
    return key + sql.SQL(deferrable)


def add_foreign_key(table: Name, key: ForeignKeyShape, name: str, target: Name, *, valid: bool) -> Statement:
    """Add a foreign key under a name, to a target that may be called otherwise for now."""
    return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}){}{}").format(
        table.sql,
        sql.Identifier(name),
        columns(key.columns),
        target.sql,
        columns(key.target_columns),
        sql.SQL(key.options),
        sql.SQL("" if valid else " NOT VALID"),
    )


def create_index(table: Name, index: IndexShape, name: str) -> Statement:
    """Create an index under a name; takes SHARE, so that writers wait."""
    return sql.SQL("CREATE {}INDEX {} ON {} {}{}{}{}").format(
        sql.SQL("UNIQUE " if index.unique else ""),
        sql.Identifier(name),
        table.sql,
        sql.SQL(index.definition),
        sql.SQL(f" WITH ({index.options})" if index.options else ""),
        sql.SQL(" TABLESPACE {}").format(sql.Identifier(index.tablespace)) if index.tablespace else sql.SQL(""),
        sql.SQL(index.predicate),
    )


def create_statistics(name: Name, kinds: str, on: str, target: int | None, table: Name) -> Iterator[Statement]:
    """Extended statistics under a name, with their own statistics target."""
    create = sql.SQL("CREATE STATISTICS {} {}ON {} FROM {}")
    yield create.format(name.sql, sql.SQL(kinds), sql.SQL(on), table.sql)
    if target is not None:
        yield sql.SQL("ALTER STATISTICS {} SET STATISTICS {}").format(name.sql, sql.Literal(target))


def tune_index(name: Name, index: IndexShape) -> Iterator[Statement]:
    """Give the index's expressions their statistics targets."""
    for action in index.tuning:
        yield sql.SQL("ALTER INDEX {} {}").format(name.sql, sql.SQL(action))


def add_unvalidated(table: Name, name: str, definition: sql.Composable) -> Statement:
    """Add a check under a name for rows to come; ACCESS EXCLUSIVE, for milliseconds."""
    return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} NOT VALID").format(table.sql, sql.Identifier(name), definition)


def validate(table: Name, name: str) -> Statement:
    """Read the rows that are there; takes SHARE UPDATE EXCLUSIVE, so that nobody waits."""
    return sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table.sql, sql.Identifier(name))


def set_not_null(table: Name, column: str) -> Statement:
    """Reads no row where a valid check says the same."""
    return sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL").format(table.sql, sql.Identifier(column))


def add_key_using_index(table: Name, key: ConstraintShape, name: str, index: str) -> Statement:
    """Make a primary key or unique constraint of a unique index, which takes the constraint's name."""
    _, _, deferrable = key.definition.rpartition(")")
    return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} USING INDEX {}{}").format(
        table.sql,
        sql.Identifier(name),
        sql.SQL("PRIMARY KEY" if key.kind == "p" else "UNIQUE"),
        sql.Identifier(index),
        sql.SQL(deferrable),
    )


def drop_constraint(table: Name, name: str) -> Statement:
    """Drop a constraint; of a foreign key it takes ACCESS EXCLUSIVE on both tables."""
    return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table.sql, sql.Identifier(name))


def rename_constraint(table: Name, old: str, new: str) -> Statement:
    """Rename a constraint, and its index if it has one."""
    return sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(
        table.sql, sql.Identifier(old), sql.Identifier(new)
    )


def rename_type(type_: str, new: str) -> Statement:
    """Rename a type, which is named as format_type spells it."""
    return sql.SQL("ALTER TYPE {} RENAME TO {}").format(sql.SQL(type_), sql.Identifier(new))


def create_enum(type_: str, labels: Sequence[str]) -> Statement:
    """An enum type of the labels, in their order; its name is quoted."""
    return sql.SQL("CREATE TYPE {} AS ENUM ({})").format(sql.SQL(type_), sql.SQL(", ").join(map(literal, labels)))


def rename(kind: str, old: Name, new: str) -> Statement:
    """Rename a relation; `kind` is its word in ALTER."""
    return sql.SQL("ALTER {} {} RENAME TO {}").format(sql.SQL(kind), old.sql, sql.Identifier(new))


def give_owner(kind: str, name: Name, owner: str) -> Statement:
    """Make a role the owner; `kind` is the object's word in ALTER."""
    return sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(kind), name.sql, sql.Identifier(owner))


def grant_select(table: Name, role: str, only: Sequence[str] | None) -> Statement:
    """Let a role read the table, or some of its columns."""
    of_columns = sql.SQL(" ({})").format(columns(only)) if only is not None else sql.SQL("")
    return sql.SQL("GRANT SELECT{} ON {} TO {}").format(of_columns, table.sql, sql.Identifier(role))


def migrate_in_place(table: Name, difference: Difference, text: str | None) -> Statement:
    """What brings one difference about in the catalog alone. Takes ACCESS EXCLUSIVE, for milliseconds.

    `text` is the table's whole new comment, its state included, where the difference is a comment.
    """
    match difference:
        case ColumnAdded(column):
            add = _alter(table, "ADD COLUMN {}", _definition(column))
            if column.comment is None:
                return add
            return add + sql.SQL("; ") + comment_on_column(table, column.name, column.comment)
        case ColumnDropped(column):
            return _alter(table, "DROP COLUMN {}", sql.Identifier(column.name))
        case TypeChanged(name, _, after):
            return _alter(
                table, "ALTER COLUMN {} TYPE {}{}", sql.Identifier(name), sql.SQL(after.type), _collate(after)
            )
        case NotNullDropped(name):
            return _alter(table, "ALTER COLUMN {} DROP NOT NULL", sql.Identifier(name))
        case DefaultChanged(name, after):
            return _alter(table, "ALTER COLUMN {} SET DEFAULT {}", sql.Identifier(name), sql.SQL(after))
        case ConstraintDropped(ConstraintShape(name)) | ForeignKeyDropped(ForeignKeyShape(name)):
            return drop_constraint(table, name)
        case IndexDropped(index):
            return sql.SQL("DROP INDEX {}").format(table.sibling(index.name).sql)
        case IndexTuned(index, options):
            return sql.SQL("ALTER INDEX {} SET ({})").format(table.sibling(index).sql, sql.SQL(options))
        case CommentChanged(None, _):
            return sql.SQL("COMMENT ON TABLE {} IS {}").format(table.sql, literal(text))
        case CommentChanged(str() as name, after):
            return comment_on_column(table, name, after)
    raise AssertionError(f"{type(difference).__name__} is not done in place")


def _alter(table: Name, action: str, *parts: Statement) -> Statement:
    return sql.SQL("ALTER TABLE {} ").format(table.sql) + sql.SQL(action).format(*parts)


def comment_on_column(table: Name, column: str, text: str) -> Statement:
    """Set a column's comment."""
    place = sql.SQL(".").join((table.sql, sql.Identifier(column)))
    return sql.SQL("COMMENT ON COLUMN {} IS {}").format(place, literal(text))


def _definition(column: ColumnShape) -> Statement:
    """The column as CREATE TABLE and ADD COLUMN take it."""
    kind = _SERIAL[column.type] if column.new_sequence else column.type
    return sql.SQL("{} {}{}{}{}").format(
        sql.Identifier(column.name), sql.SQL(kind), _collate(column), _value(column), _not_null(column)
    )


def _value(column: ColumnShape) -> Statement:
    """Where the column's values come from that a row does not have."""
    if column.generated:
        stored = "STORED" if column.generated == "s" else "VIRTUAL"
        return sql.SQL(f" GENERATED ALWAYS AS ({column.default}) {stored}")
    if column.identity:
        when = "ALWAYS" if column.identity == "a" else "BY DEFAULT"
        options = f" ({column.sequence_options})" if column.sequence_options else ""
        return sql.SQL(f" GENERATED {when} AS IDENTITY{options}")
    return sql.SQL("" if column.default is None else f" DEFAULT {column.default}")


def _not_null(column: ColumnShape) -> Statement:
    if not column.not_null:
        return sql.SQL("")
    if not column.not_null_name:
        return sql.SQL(" NOT NULL")
    return sql.SQL(" CONSTRAINT {} NOT NULL").format(sql.Identifier(column.not_null_name))


def _collate(column: ColumnShape) -> Statement:
    return sql.SQL(f" COLLATE {column.collation}" if column.collation else "")
