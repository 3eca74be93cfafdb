"""Frozen descriptions of a table as PostgreSQL's catalog tells it: values, without a connection."""

from dataclasses import dataclass

from airflow_ingest_provider.core.names import Name

PartName = tuple[str, str]
"""Whether it names a column, a constraint or an index, and the name: PostgreSQL keeps a set of names for each."""

INTEGERS = frozenset({"int2", "int4", "int8"})
"""The names of the types that a serial or identity column may have."""


@dataclass(frozen=True)
class TypeShape:
    """A column's type, with domains resolved to what they are made of.

    `name` is pg_type.typname ("int4", "numeric", "mood"; of an array: "_int4"), `kind` is
    pg_type.typtype ("b" base, "e" enum, "c" composite, "r" range, "m" multirange), `modifier` is
    atttypmod (-1: none), `element` is the type of an array's elements or of a range's bounds, `labels` are an
    enum's, and `fields` the types of a composite type's attributes, in order. `equality` is the schema of its `=`
    operator: that of an extension's type may be anywhere.
    """

    name: str
    kind: str = "b"
    modifier: int = -1
    element: "TypeShape | None" = None
    labels: tuple[str, ...] = ()
    equality: str = "pg_catalog"
    fields: "tuple[TypeShape, ...]" = ()

    @property
    def enum(self) -> "TypeShape | None":
        """The enum that the type is, or that its elements are."""
        return self if self.kind == "e" else self.element.enum if self.element else None

    @property
    def is_array(self) -> bool:
        return self.element is not None and self.kind == "b"


@dataclass(frozen=True)
class ColumnShape:
    """One column.

    `type` is what format_type prints, `identity` is attidentity ("", "a" ALWAYS, "d" BY DEFAULT),
    `generated` is attgenerated ("", "s" STORED, "v" VIRTUAL), and `default` the expression of the
    default or of the generated column. `sequence` is the sequence that the column owns, `serial` says
    that the default draws from it; `sequence_options` are an identity's. `tuning` holds the ALTER COLUMN
    actions that give storage, compression, statistics target and options their live values. `collation` is the column's
    own, where it is not that of its type; texts that are equal by one that is not `deterministic` may look different.
    """

    name: str
    type: str
    value: TypeShape
    collation: str | None = None
    deterministic: bool = True
    not_null: bool = False
    not_null_name: str | None = None
    identity: str = ""
    generated: str = ""
    default: str | None = None
    sequence: Name | None = None
    serial: bool = False
    sequence_options: str = ""
    comment: str | None = None
    tuning: tuple[str, ...] = ()

    @property
    def part_names(self) -> tuple[PartName, ...]:
        """Its name, and that of its NOT NULL constraint."""
        names = [("column", self.name)]
        if self.not_null and self.not_null_name:
            names.append(("constraint", self.not_null_name))
        return tuple(names)

    @property
    def takes_values(self) -> bool:
        """Whether rows hold a value for the column: computed columns have none."""
        return not self.generated

    @property
    def new_sequence(self) -> bool:
        """Whether the default draws from a sequence that is still to be made."""
        return self.serial and self.sequence is None


@dataclass(frozen=True)
class IndexShape:
    """An index that backs no constraint.

    `definition` is everything from USING on, but for the storage parameters, which are `options`, and the WHERE clause,
    which is `predicate`. `tuning` holds the ALTER COLUMN actions of its expressions. `columns` are those that it is
    dropped with.
    """

    name: str
    definition: str
    unique: bool = False
    valid: bool = True
    tablespace: str | None = None
    comment: str | None = None
    options: str = ""
    predicate: str = ""
    tuning: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def part_names(self) -> tuple[PartName, ...]:
        return (("index", self.name),)

    def __str__(self) -> str:
        options = f" WITH ({self.options})" if self.options else ""
        return f"{self.definition}{options}{self.predicate}"


@dataclass(frozen=True)
class ConstraintShape:
    """A primary key, unique, check or exclusion constraint, as pg_get_constraintdef prints it, without NOT VALID.

    `index` is the definition of the index behind it, everything from USING on, and `options` its storage parameters.
    """

    name: str
    kind: str
    definition: str
    columns: tuple[str, ...] = ()
    deferrable: bool = False
    tablespace: str | None = None
    comment: str | None = None
    validated: bool = True
    index: str | None = None
    options: str = ""

    @property
    def part_names(self) -> tuple[PartName, ...]:
        """Its name, which the index behind it has too."""
        return (("constraint", self.name), ("index", self.name))[: 1 if self.index is None else 2]

    @property
    def has_btree(self) -> bool:
        """Whether it is a key that can take over an index of its own."""
        return self.kind in ("p", "u") and self.index is not None and self.index.startswith("USING btree")


@dataclass(frozen=True)
class ForeignKeyShape:
    """A foreign key of the table: its columns, the table it refers to, and what it does there."""

    name: str
    columns: tuple[str, ...]
    target: Name
    target_columns: tuple[str, ...]
    options: str = ""
    validated: bool = True
    comment: str | None = None

    @property
    def part_names(self) -> tuple[PartName, ...]:
        return (("constraint", self.name),)

    @property
    def is_deferred(self) -> bool:
        """Whether rows are checked at the end of a transaction alone."""
        return " INITIALLY DEFERRED" in self.options

    @property
    def acts_on_delete(self) -> bool:
        """Whether it does more than check, or checks at once, when a row that it refers to is deleted."""
        return " ON DELETE " in self.options


@dataclass(frozen=True, kw_only=True)
class InboundKey(ForeignKeyShape):
    """A foreign key of another table to this one."""

    table: Name


@dataclass(frozen=True)
class TableShape:
    """A table's definition: what the metadata decides, and what people added to it."""

    name: Name
    oid: int
    kind: str
    persistence: str
    columns: tuple[ColumnShape, ...]
    constraints: tuple[ConstraintShape, ...] = ()
    foreign_keys: tuple[ForeignKeyShape, ...] = ()
    indexes: tuple[IndexShape, ...] = ()

    def column(self, name: str) -> ColumnShape | None:
        """The column of that name, if there is one."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def parts(self) -> "tuple[ConstraintShape | ForeignKeyShape | IndexShape, ...]":
        """All constraints and indexes."""
        return (*self.constraints, *self.foreign_keys, *self.indexes)

    @property
    def checks_each_row(self) -> bool:
        """Whether PostgreSQL checks rows for a unique or exclusion constraint one after the other, as it writes them.

        Those of the primary key are written by their keys, which stay.
        """
        constraints = any(one.kind in ("u", "x") and not one.deferrable for one in self.constraints)
        return constraints or any(index.unique for index in self.indexes)

    def retyped(self, after: "TableShape") -> tuple[str, ...]:
        """The columns that have another type or collation in a later shape."""
        pairs = ((column, after.column(column.name)) for column in self.columns)
        return tuple(one.name for one, new in pairs if new and (new.type, new.collation) != (one.type, one.collation))

    @property
    def part_names(self) -> frozenset[PartName]:
        """Names of all columns, constraints and indexes, each with what it names."""
        return frozenset(name for part in (*self.columns, *self.parts) for name in part.part_names)

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns, in its order; empty without one."""
        return self.primary_key.columns if self.primary_key else ()

    @property
    def names(self) -> frozenset[str]:
        """What its constraints and indexes are called, those of NOT NULL too."""
        return frozenset(name for what, name in self.part_names if what != "column")

    @property
    def primary_key(self) -> ConstraintShape | None:
        return next((constraint for constraint in self.constraints if constraint.kind == "p"), None)

    @property
    def loaded_columns(self) -> tuple[ColumnShape, ...]:
        """The columns that a row holds values for, in order."""
        return tuple(column for column in self.columns if column.takes_values)

    def of_kind(self, kind: str) -> tuple[ConstraintShape, ...]:
        """The constraints of one pg_constraint.contype."""
        return tuple(constraint for constraint in self.constraints if constraint.kind == kind)
