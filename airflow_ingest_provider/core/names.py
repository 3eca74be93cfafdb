"""Qualified and temporary names of relations."""

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg import sql

MAX_BYTES = 63
"""PostgreSQL's NAMEDATALEN - 1: longer identifiers are cut off silently, in bytes and not characters."""


@dataclass(frozen=True, order=True)
class Name:
    """A relation's schema and name, as PostgreSQL stores them (unquoted)."""

    schema: str
    name: str

    def __str__(self) -> str:
        """As messages show it: in double quotes where it would be hard to read without."""
        return f"{readable(self.schema)}.{readable(self.name)}"

    @property
    def quoted(self) -> str:
        """As text of SQL, always in double quotes: reserved words need them too."""
        return self.sql.as_string(None)

    @property
    def sql(self) -> sql.Composable:
        """The name, ready to be composed into a statement."""
        return sql.Identifier(self.schema, self.name)

    @property
    def lock_key(self) -> int:
        """A 64-bit key for advisory locks: of the name, since a table's OID changes at a swap."""
        digest = hashlib.sha256(f"{self.schema}\0{self.name}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    def sibling(self, name: str) -> "Name":
        """Another relation of the same schema."""
        return Name(self.schema, name)


def readable(identifier: str) -> str:
    """The identifier, bare where it is a plain word."""
    plain = identifier.isascii() and identifier.replace("_", "a").isalnum() and identifier.islower()
    if plain and not identifier[0].isdigit():
        return identifier
    return sql.Identifier(identifier).as_string(None)


def temporary_name(token: str, purpose: str = "table") -> str:
    """A name nobody else uses for the length of a transaction; `token` is unique to its use."""
    return f"{_TEMPORARY}{purpose}_{token}"


_TEMPORARY = "_ingest_"
_OF_A_RUN = re.compile(_TEMPORARY + "[a-z]+[0-9]*_[0-9a-f]{12}")
"""A token is longer, but PostgreSQL cuts it where it names a sequence after table and column."""


def is_temporary(name: str) -> bool:
    """Whether it is a run's temporary name: outside of a run, what it names was left by one that was killed."""
    return _OF_A_RUN.match(name) is not None


def check_length(identifier: str) -> str:
    """The identifier, if PostgreSQL stores it whole; ValueError otherwise."""
    size = len(identifier.encode())
    if not 0 < size <= MAX_BYTES:
        raise ValueError(
            f"the identifier {identifier!r} takes {size} bytes; PostgreSQL keeps 1 to {MAX_BYTES}: choose another name"
        )
    return identifier


def kept_of(identifier: str) -> str:
    """What PostgreSQL keeps of the identifier."""
    return _cut(identifier, MAX_BYTES)


def default_name(table: str, columns: Sequence[str], label: str) -> str:
    """The name that PostgreSQL gives a part of a table; of table and columns the longer is cut, and never the label."""
    middle = "_".join(columns)
    sizes = [len(table.encode()), len(middle.encode())]
    while sum(sizes) > MAX_BYTES - len(f"__{label}"):
        sizes[0 if sizes[0] > sizes[1] else 1] -= 1
    return "_".join((_cut(table, sizes[0]), _cut(middle, sizes[1]), label))


def free_name(wanted: str, taken: Collection[str]) -> str:
    """The name, or, where it is taken, the name and a number; what is too long then is cut before the number."""
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = _cut(wanted, MAX_BYTES - len(str(number))) + str(number)
    return name


def stems(wanted: str) -> set[str]:
    """What is left of the names that `free_name` may give, without the digits at their end."""
    return {_cut(wanted, MAX_BYTES - digits).rstrip("0123456789") for digits in range(4)}


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
