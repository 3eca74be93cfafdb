"""What PostgreSQL refuses of rows, as errors that name the place and what to do, and never a value."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import sqlalchemy as sa

from airflow_ingest_provider.core.errors import RowError
from airflow_ingest_provider.core.names import Name
from airflow_ingest_provider.core.session import INSUFFICIENT_PRIVILEGE, diagnosis, run, sqlstate

_DATA_EXCEPTION = "22"
_CONSTRAINT_VIOLATION = "23"
_TOO_LARGE = "54000"
_OF_PARTITIONS = ("ExecFindPartition", "ExecPartitionCheckEmitError")
"""Where PostgreSQL finds that a row has no partition to go to, or is none of the one that is loaded: it is told as a
check constraint is, of which there is none."""
_OF_INPUT = ("42", "P0", "XX")
"""SQLSTATE classes in which types refuse a text: tsquery, jsonpath and regclass, a domain's function, PostGIS."""


def raise_row_error(
    error: Exception,
    table: str,
    place: tuple[int | None, str | None] = (None, None),
    known_as: Callable[[str], str] = str,
    remedies: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise the RowError that a driver's error means, where it is about a row; return where it is not.

    Of a COPY, `place` is the row's number, and the column where the error came from its type's input.
    `known_as` gives the name by which people know a constraint, `remedies` what to do about one where it may not be the
    source that is to be mended. The driver's own error is left out of the traceback: its DETAIL quotes values of the
    row.
    """
    state = sqlstate(error) or ""
    row_number, column = place
    is_of_input = column is not None and state[:2] in _OF_INPUT and state != INSUFFICIENT_PRIVILEGE
    if state[:2] not in (_DATA_EXCEPTION, _CONSTRAINT_VIOLATION) and state != _TOO_LARGE and not is_of_input:
        return
    if diagnosis(error, "source_function") in _OF_PARTITIONS:
        problem = f"no partition takes it, SQLSTATE {state}: create one, or mend the source"
        raise RowError(problem, table=table, row_number=row_number) from None
    name = diagnosis(error, "constraint_name")
    constraint = f" (constraint {known_as(name)!r})" if name else ""
    remedy = remedies.get(name or "", _REMEDIES.get(state, "mend the source"))
    raise RowError(
        f"{reason(state, constraint)}: {remedy}",
        table=table,
        column=diagnosis(error, "column_name") or column,
        row_number=row_number,
    ) from None


def copy_place(context: str, relation: Name, columns: Sequence[str]) -> tuple[int | None, str | None]:
    """The line and the column that the CONTEXT of a failed COPY into a relation names, in the server's language.

    It quotes no names, so they are looked for whole. (`lc_messages` is not ours to set: it takes a superuser.)
    """
    name = re.escape(relation.name)
    line = re.search(rf"^(?:COPY {name},|{name} 복사,|{name}のCOPY、)\D*(\d+)", context, re.MULTILINE)
    if line is None:
        return None, None
    # ", column age: ", ", colonne age : ", "、列 age: ", " 行, 列 age: ", "번째 줄, age 열: "
    named = r"[^:,、]*[,、] ?(?:\S+ )?{}(?: 열)?(?: ?:|$)"
    rest = context[line.end() :]
    found = [column for column in columns if re.match(named.format(re.escape(column)), rest, re.MULTILINE)]
    return int(line[1]), max(found, key=len, default=None)


def still_referred(referring: Name, key: str, lacking: str, column: str | None = None) -> RowError:
    """The error for a row of a table that refers, by its foreign key, to a key that goes; `lacking` says where."""
    return RowError(
        f"its foreign key {key} refers to a key {lacking}: bring that row too, or first delete or change the rows of "
        f"{referring}, or drop the foreign key",
        table=str(referring),
        column=column,
    )


def reason(state: str, constraint: str = "") -> str:
    """What a SQLSTATE says of a value or a row, without the value."""
    return f"{_REASONS.get(state, 'PostgreSQL refused it')}{constraint}, SQLSTATE {state}"


def check_deferred(conn: sa.Connection) -> None:
    """Check what constraints have put off to the commit, and put off nothing more in this transaction.

    Raises RowError, for the table whose constraint does not hold: the error at COMMIT would quote values of the row.
    """
    try:
        run(conn, "SET CONSTRAINTS ALL IMMEDIATE")
    except sa.exc.DBAPIError as error:
        schema, table = diagnosis(error, "schema_name"), diagnosis(error, "table_name")
        if isinstance(error.orig, Exception) and schema and table:
            raise_row_error(error.orig, str(Name(schema, table)))
        raise


_REASONS = {
    "22000": "PostgreSQL refused the value (of a range: its lower bound is above its upper one)",
    "22001": "the value is too long for the column",
    "22003": "the number is out of the column's range",
    "22007": "the text is no valid date or time",
    "22008": "the date or time is out of range",
    "22021": "the text holds bytes that are no characters of its encoding",
    "22026": "the text is shorter or longer than the column's type",
    "22P02": "the text is not valid for the column's type",
    "22P05": "the text holds characters that the database's encoding lacks",
    "23502": "the column is NOT NULL and the value is None",
    "23503": "no row of the referred table has this key",
    "23505": "a row with this key is there already",
    "23514": "the check constraint does not hold",
    "23P01": "the exclusion constraint does not hold",
    "54000": "the value is too large, for its index as a rule",
}

_EMPTY = "mend the source; where an empty text stands for no value, as in a CSV file, pass None"
_REMEDIES = {"22007": _EMPTY, "22P02": _EMPTY}
"""What to do about a row. The text may be an empty one: the message never shows it."""
