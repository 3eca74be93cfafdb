"""What keeps a plan from being carried out: found before anything is changed, and told as an error."""

from collections.abc import Iterator

import sqlalchemy as sa

from airflow_ingest_provider.core import catalog, rehearsal, trials, walls
from airflow_ingest_provider.core.bounds import bounds
from airflow_ingest_provider.core.catalog import Access
from airflow_ingest_provider.core.differences import (
    ColumnAdded,
    ConstraintAdded,
    ConstraintDropped,
    Difference,
    EnumChanged,
    ForeignKeyAdded,
    IndexDropped,
    NotNullAdded,
    TypeChanged,
)
from airflow_ingest_provider.core.errors import DefinitionError
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.options import Migrate, Options
from airflow_ingest_provider.core.plan import Action, Planned
from airflow_ingest_provider.core.shape import ConstraintShape, ForeignKeyShape, TableShape
from airflow_ingest_provider.core.widening import holds_all


def check_role(name: Name, access: Access) -> None:
    """Raise DefinitionError where the role may not keep a table's state, or would not see all of its rows."""
    if not access.may_own:
        raise DefinitionError(
            f"role {access.role!r} does not own {name}, and the high watermark is kept in the table's comment: "
            f"expected the owner {access.owner!r} or a member that inherits its rights; GRANT {access.owner} TO "
            f"{access.role} (WITH INHERIT TRUE from PostgreSQL 16 on), SET ROLE {access.owner}, or connect as the owner"
        )
    if access.hides_rows:
        raise DefinitionError(
            f"{name} has row security forced on its owner, which may hide rows from role {access.role!r}: expected to "
            "see all of them; ALTER TABLE ... NO FORCE ROW LEVEL SECURITY, or use a role with BYPASSRLS"
        )


def check_may_create(conn: sa.Connection, name: Name) -> None:
    """Raise DefinitionError where the role may not create a table of the name, or the schema that it would be in."""
    if lacking := catalog.lacking_to_create(conn, name.schema):
        raise DefinitionError(
            f"there is no table {name}, and the role lacks CREATE on {lacking}: expected to be allowed to create the "
            f"table; GRANT CREATE ON {lacking}, or connect as another role"
        )


def check(conn: sa.Connection, this: Planned, options: Options, *, rows_stay: bool) -> None:
    """Raise DefinitionError where the plan is not wanted, or cannot be carried out without losing what must stay."""
    if not this.plan.differences:
        return
    _check_wanted(conn, this, options)
    for column in this.plan.dropped:
        if column in this.facts.pinned:
            raise DefinitionError(
                f"{this.live.name}: column {column!r} is no longer declared, but is used by "
                f"{', '.join(this.facts.pinned[column])}: declare it again, or remove what uses it"
            )
    _check_bounds(conn, this)
    _check_names(this)
    _check_referred_keys(this)
    _check_enums(conn, this)
    _check_defaults(conn, this)
    if this.plan.action is Action.REBUILD and this.plan.target is not None:
        _check_swappable(conn, this, this.plan.target)
        rehearsal.check(conn, this.plan, this.live)
    if rows_stay:
        _check_casts(conn, this)
        if catalog.has_rows(conn, this.live.name):
            _check_rows(conn, this)


def _check_wanted(conn: sa.Connection, this: Planned, options: Options) -> None:
    if options.migrate == Migrate.OFF and this.plan.differences:
        raise DefinitionError(
            f"{this.live.name} differs from its definition, and migrate is {Migrate.OFF!r}: expected no difference; "
            f"migrate it first, or change the definition\n{this.plan}"
        )
    if options.migrate == Migrate.SAFE:
        held = [column for column in this.plan.dropped if catalog.holds_values(conn, this.live.name, column)]
        if held:
            raise DefinitionError(
                f"{this.live.name}: {', '.join(held)} would be dropped with values, and migrate is {Migrate.SAFE!r}: "
                f"declare what is to stay, or pass migrate={Migrate.AUTO!r}\n{this.plan}"
            )


def _check_bounds(conn: sa.Connection, this: Planned) -> None:
    """Raise DefinitionError for a change that PostgreSQL only makes elsewhere, or not at all."""
    found = bounds(conn, this.live.oid)
    for difference in this.plan.differences:
        against = found.against(difference)
        if against:
            raise DefinitionError(
                f"{this.live.name}: {difference}: this cannot be changed here, since {against}: declare what is live, "
                "or change that first"
            )


def _check_names(this: Planned) -> None:
    """Raise DefinitionError for a constraint to be added that is called as one of another kind that stays."""
    live, target = this.live, this.plan.target
    assert target is not None, "a table that is there has a target"
    foreign_keys = {one.name for one in live.foreign_keys} & {one.name for one in target.foreign_keys}
    others = {one.name for one in live.constraints} & {one.name for one in target.constraints}
    not_null = {one.not_null_name for one in live.columns} & {
        one.not_null_name for one in target.columns if one.not_null
    }
    for difference in this.plan.differences:
        match difference:
            case ConstraintAdded(ConstraintShape(name)) | ForeignKeyAdded(ForeignKeyShape(name)) if name in not_null:
                what = "NOT NULL constraint"
            case ConstraintAdded(ConstraintShape(name)) if name in foreign_keys:
                what = "foreign key"
            case ForeignKeyAdded(ForeignKeyShape(name)) if name in others:
                what = "constraint"
            case _:
                continue
        raise DefinitionError(
            f"{live.name}: {difference}: its name {name!r} is that of a {what} that stays: declare it by another name, "
            "or rename what is there"
        )


def _check_referred_keys(this: Planned) -> None:
    """Foreign keys need the key that they refer to, and not DEFERRABLE: those of other tables, and the table's own."""
    dropped = [set(columns) for one in this.plan.differences for columns in _key_dropped(one)]
    if not dropped:
        return
    name, target = this.live.name, this.plan.target
    assert target is not None, "a table that is there has a target"
    keys = [*target.of_kind("p"), *target.of_kind("u")]
    deferrable = [set(key.columns) for key in keys if key.deferrable]
    left = [set(key.columns) for key in keys if not key.deferrable]
    left += [set(index.columns) for index in target.indexes if index.unique]
    inbound = [(key.table, key) for key in this.facts.inbound]
    own = [(name, key) for key in target.foreign_keys if key.target == name]
    for table, key in (*inbound, *own):
        referred = set(key.target_columns)
        if referred not in left and referred in dropped:
            found = "is declared DEFERRABLE" if referred in deferrable else "is no longer declared"
            raise DefinitionError(
                f"{name}: the key ({', '.join(key.target_columns)}) {found}, but foreign key {key.name} of {table} "
                "refers to it: declare it as it was, or drop the foreign key"
            )


def _key_dropped(difference: Difference) -> Iterator[tuple[str, ...]]:
    """The columns of the key that goes, if one does."""
    match difference:
        case ConstraintDropped(key):
            yield key.columns
        case IndexDropped(index) if index.unique:
            yield index.columns


def _check_enums(conn: sa.Connection, this: Planned) -> None:
    """A type that loses labels is made anew: nothing else may use the old one."""
    for difference in this.plan.differences:
        if isinstance(difference, EnumChanged):
            users = catalog.type_users(conn, difference.type, this.live.oid)
            users += this.facts.pinned.get(difference.column, ())
            if users:
                raise DefinitionError(
                    f"{this.live.name}: the labels of type {difference.type} are {list(difference.before)} and "
                    f"declared as {list(difference.after)}, for which the type has to be made anew, and it is used by "
                    f"{', '.join(users)} too: declare all labels in their order, or another type"
                )


def _check_defaults(conn: sa.Connection, this: Planned) -> None:
    """A default that people gave a column stays, and has to fit the column's new type."""
    for difference in this.plan.differences:
        if not isinstance(difference, TypeChanged) or this.plan.target is None:
            continue
        before, after = this.live.column(difference.column), this.plan.target.column(difference.column)
        if before is None or after is None or after.generated or after.default is None:
            continue
        if after.default == before.default and not trials.takes_default(conn, after):
            raise DefinitionError(
                f"{this.live.name}: column {after.name!r} is to be {after.type}, and its default {after.default} is of "
                "another type: declare a server_default, or drop that default first"
            )


def _check_swappable(conn: sa.Connection, this: Planned, target: TableShape) -> None:
    """Raise DefinitionError where something on the table cannot be carried over to a new one."""
    in_the_way = walls.walls(conn, [this.live.oid])[this.live.oid]
    found = dict.fromkeys([*in_the_way, *walls.retyping(conn, this.live.oid, this.live.retyped(target))])
    if found:
        raise DefinitionError(
            f"{this.live.name} has to be replaced by a new table for this change ({'; '.join(this.plan.lines)}), and "
            f"cannot be because of {'; '.join(found)}: remove it and put it back afterwards, or change the definition; "
            "what a role may not do, grant it"
        )


def _check_casts(conn: sa.Connection, this: Planned) -> None:
    for difference in this.plan.differences:
        if isinstance(difference, TypeChanged) and not difference.conversion and not difference.after.generated:
            before, after = difference.before, difference.after.type
            if not catalog.is_assignable(conn, before, after):
                raise DefinitionError(
                    f"{this.live.name}: column {difference.column!r}: PostgreSQL does not assign {before} to {after}: "
                    f"say how with conversions={{{difference.column!r}: 'an SQL expression'}}, or declare the old type"
                )


def _check_rows(conn: sa.Connection, this: Planned) -> None:
    name = this.live.name
    lossy = []
    for difference in this.plan.differences:
        match difference:
            case ColumnAdded(column) if difference.needs_values:
                raise DefinitionError(
                    f"{name} has rows, and the new column {column.name!r} is NOT NULL without a server_default: give "
                    f"it one, let it be nullable, or say how with conversions={{{column.name!r}: 'an SQL expression'}}"
                )
            case NotNullAdded(column_name) if column_name not in this.facts.conversions:
                count = catalog.count_nulls(conn, name, column_name)
                if count:
                    raise DefinitionError(
                        f"{name}: column {column_name!r} is declared NOT NULL and {count} rows hold NULL: "
                        "fill them first, or let it be nullable"
                    )
            case EnumChanged(column_name, type_, labels, after):
                gone = [label for label in labels if label not in after]
                column_ = this.live.column(column_name)
                count = catalog.count_labels(conn, name, column_, gone) if column_ and gone else 0
                if count:
                    lossy.append(f"column {column_name!r}: {count} rows hold a label that {type_} no longer has")
            case TypeChanged(column_name) if not difference.conversion and not difference.after.generated:
                before = this.live.column(column_name)
                if before is None or holds_all(before.type, difference.after.type):
                    continue
                found = trials.lossy(conn, name, before, difference.after)
                if found:
                    lossy.append(f"column {column_name!r}: {found}")
    if lossy:
        raise DefinitionError(f"{name}: the new type does not hold every stored value: {'; '.join(lossy)}")
