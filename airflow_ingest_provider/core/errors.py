"""What can go wrong, sorted by who can mend it."""


class IngestError(Exception):
    """The base of every error that this package raises on purpose.

    Whatever is raised, the current batch is rolled back, batches committed before stay with their
    high watermark, and the connection is usable and outside a transaction.
    """


class DefinitionError(IngestError):
    """The metadata asks for something that cannot be done: mend the definition, or the live table."""


class BatchError(IngestError):
    """`batches` did not give what it should: mend the function that makes the batches."""


class RowError(IngestError):
    """A row does not fit its table: mend the source.

    Attributes name the place and never the value, which may be private: `table` is the qualified
    name, `column` the column's name (None where the whole row is meant), `row_number` counts the
    table's rows within the batch from 1 (None where PostgreSQL does not tell), `value_type` is the
    value's Python type (None where PostgreSQL refused the value).
    """

    def __init__(
        self,
        problem: str,
        *,
        table: str,
        column: str | None = None,
        row_number: int | None = None,
        value_type: str | None = None,
    ) -> None:
        self.problem = problem
        self.table = table
        self.column = column
        self.row_number = row_number
        self.value_type = value_type
        super().__init__(problem)

    def __str__(self) -> str:
        row = f"row {self.row_number}" if self.row_number else "a row"
        column = f", column {self.column!r}" if self.column is not None else ""
        kind = f" ({self.value_type})" if self.value_type else ""
        return f"{row} of {self.table}{column}{kind}: {self.problem}"

    def __reduce__(self) -> tuple[object, ...]:
        return _row_error, (self.problem, self.table, self.column, self.row_number, self.value_type)


def _row_error(
    problem: str, table: str, column: str | None, row_number: int | None, value_type: str | None
) -> RowError:
    """Rebuild a RowError from its pickle: exceptions with keyword arguments need a hand."""
    return RowError(problem, table=table, column=column, row_number=row_number, value_type=value_type)


class LockNotAcquired(IngestError):
    """Others stood in the way for longer than the caller's patience: try again later."""


class ConcurrentIngestError(IngestError):
    """Another run took the table over: let that one finish, or start again after it."""


def kind_of(value: object) -> str:
    """What a message calls a value that should be another: by its class, or by its own name where it is a class."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
