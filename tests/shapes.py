"""Tables as values, in few words: public.t, and what it is made of."""

from typing import Any

from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.shape import (
    ColumnShape,
    ConstraintShape,
    ForeignKeyShape,
    IndexShape,
    TableShape,
    TypeShape,
)

T, PARENT, OTHER = (Name("public", name) for name in ("t", "parent", "other"))
SEQUENCE = Name("public", "t_a_seq")

TYPES = {"integer": "int4", "bigint": "int8", "character varying": "varchar"}
"""What pg_type calls the types whose names are others in SQL."""


def column(name: str, type_: str, **more: Any) -> ColumnShape:
    bare = type_.partition("(")[0]
    return ColumnShape(name, type_, TypeShape(TYPES.get(bare, bare)), **more)


def enum(name: str, *labels: str, of: str = "mood") -> ColumnShape:
    return ColumnShape(name, of, TypeShape(of, kind="e", labels=labels))


def enums(name: str, *labels: str) -> ColumnShape:
    return ColumnShape(name, "mood[]", TypeShape("_mood", element=TypeShape("mood", kind="e", labels=labels)))


def serial(name: str, type_: str = "integer", **more: Any) -> ColumnShape:
    default = f"nextval('t_{name}_seq'::regclass)"
    more = {"default": default, "sequence": T.sibling(f"t_{name}_seq"), **more}
    return column(name, type_, not_null=True, serial=True, **more)


def key(*columns: str, name: str = "t_pkey", kind: str = "p", **more: Any) -> ConstraintShape:
    listed = ", ".join(columns)
    word = {"p": "PRIMARY KEY", "u": "UNIQUE"}[kind]
    return ConstraintShape(name, kind, f"{word} ({listed})", columns, index=f"USING btree ({listed})", **more)


def check(name: str, condition: str, *columns: str, **more: Any) -> ConstraintShape:
    return ConstraintShape(name, "c", f"CHECK (({condition}))", columns, **more)


def reference(name: str, *columns: str, to: Name = PARENT, of: tuple[str, ...] = ("id",), **more: Any) -> Any:
    return ForeignKeyShape(name, columns, to, of, **more)


def index(name: str, *columns: str, **more: Any) -> IndexShape:
    return IndexShape(name, f"USING btree ({', '.join(columns)})", columns=columns, **more)


def table(*parts: Any, oid: int = 2) -> TableShape:
    """A table of columns, constraints, foreign keys and indexes."""

    def of(kind: type) -> Any:
        return tuple(part for part in parts if isinstance(part, kind))

    return TableShape(T, oid, "r", "p", of(ColumnShape), of(ConstraintShape), of(ForeignKeyShape), of(IndexShape))
