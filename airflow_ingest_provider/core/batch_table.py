"""A table's part of a batch: where its rows go, and how they get from there into the table."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Any

import sqlalchemy as sa

from airflow_ingest_provider.core import hidden, in_place, merge, reflection, sequences
from airflow_ingest_provider.core.creation import copied
from airflow_ingest_provider.core.errors import DefinitionError, RowError
from airflow_ingest_provider.core.formats import column_formats
from airflow_ingest_provider.core.hidden import HiddenTable
from airflow_ingest_provider.core.in_place import Compared, Reference
from airflow_ingest_provider.core.load import Destination, copy_rows
from airflow_ingest_provider.core.loaded import LoadedTable, Refresh
from airflow_ingest_provider.core.merge import Merged
from airflow_ingest_provider.core.names import Name, temporary_name
from airflow_ingest_provider.core.refusals import raise_row_error, still_referred
from airflow_ingest_provider.core.routing import TableBuffer
from airflow_ingest_provider.core.session import (
    EXCLUSION_VIOLATION,
    FOREIGN_KEY_VIOLATION,
    UNIQUE_VIOLATION,
    diagnosis,
    first_line,
    rolled_back,
    sqlstate,
)


class Route(Enum):
    """Where COPY writes a batch's rows, and how they get from there into the table."""

    DIRECT = "COPY into the table itself"
    STAGED = "COPY into a temporary table, then INSERT"
    UPSERT = "COPY into a temporary table, then upsert"
    REPLACE = "COPY into a temporary table, then replace the rows in place"
    HIDDEN = "COPY into a new table, then swap"


class BatchTable:
    """One table's part of one batch, in the batch's transaction."""

    def __init__(
        self,
        conn: sa.Connection,
        loaded: LoadedTable,
        token: str,
        route: Route,
        *,
        upserts: bool,
        all_keyed: bool = True,
    ) -> None:
        """Rows that are not `all_keyed` get their keys from a trigger, when they are merged."""
        self.loaded = loaded
        self.route = route
        self.hidden: HiddenTable | None = None
        self.written = 0
        """How many rows PostgreSQL counted in the COPYs: those that a trigger keeps out are not among them."""
        self._upserts = upserts
        self._shape = loaded.live
        self._token = token
        self.has_left = False
        """Whether rows that are gone are there yet, since others referred to them."""
        self._all_keyed = all_keyed
        self._compared: Compared | None = None
        self._superseded = 0
        self._destination: Name | None = None
        if route is Route.REPLACE or loaded.refresh is Refresh.SWAP:
            self._destination = self._make_destination(conn, token)
        formats = column_formats(loaded.table, self._shape.loaded_columns, conn.dialect)
        self.buffer = TableBuffer(str(loaded.name), formats)

    @property
    def takes_part(self) -> bool:
        """Whether the batch changes anything of the table: it brought rows, or the old ones go."""
        return self._destination is not None

    def destination(self, conn: sa.Connection) -> Destination:
        """Where COPY writes the rows; made when the first ones have come, or the old ones go whatever comes."""
        if self._destination is None:
            self._destination = self._make_destination(conn, self._token)
        columns = tuple(column.name for column in self._shape.loaded_columns)
        return Destination(self._destination, columns, str(self.loaded.name))

    def _make_destination(self, conn: sa.Connection, token: str) -> Name:
        if self.route is Route.HIDDEN:
            assert self.loaded.planned is not None, "a table is planned before a new one can take its place"
            self.hidden = hidden.prepare(conn, self.loaded.planned.plan, self.loaded.live, token)
            hidden.create(conn, self.hidden)
            self._shape = replace(self.hidden.shape, name=self.hidden.name)
            return self.hidden.name
        if self.route is Route.DIRECT:
            return self._shape.name
        return merge.stage(conn, self._shape, token, not_null=self._all_keyed)

    @property
    def ingest_table(self) -> sa.Table:
        """The table that holds the batch before it is visible."""
        if self.hidden is None:
            return self.loaded.table
        # With the declared schema, which the connection may translate into the one where both tables are.
        declared = self.loaded.table
        return copied(declared, sa.MetaData(), name=self.hidden.name.name, schema=declared.schema)

    def share_changed(self, conn: sa.Connection, sampled: int) -> float:
        """How many of the staged rows are new or changed, from 0 to 1, by a look at about so many of them."""
        percent = 100 * sampled / max(self.buffer.received, sampled)
        looked_at, unchanged = merge.count_unchanged(conn, self._staged, self._shape, percent)
        return 1 - unchanged / looked_at if looked_at else 1.0

    def turn_to_hidden(self, conn: sa.Connection, token: str) -> None:
        """Bring the staged rows into a hidden table: replacing in place turned out to be the longer way."""
        staged, self.route = self._staged, Route.HIDDEN
        self._destination = self._make_destination(conn, token)
        if self._upserts:
            self._superseded = in_place.insert_last(
                conn, staged, self._shape, self.buffer.received, all_keyed=self._all_keyed
            )
        else:
            merge.insert(conn, staged, self._shape)

    def delete_vanished(self, conn: sa.Connection, references: Sequence[Reference]) -> int:
        """The deleting half of a replacement in place: rows that stay are not deleted, whatever refers to them.

        Rows that are gone but that one which stays refers to, by one of the `references`, wait for `delete_left`.
        """
        if self.route is not Route.REPLACE:
            return 0
        if not self.loaded.key:
            return in_place.delete_all(conn, self._shape)
        self._compared = in_place.compare(
            conn,
            self._staged,
            self._shape,
            self._token,
            self.buffer.received,
            all_keyed=self._all_keyed,
        )
        deleted = in_place.delete_gone(conn, self._compared, self._shape, references)
        self.has_left = in_place.holds_gone(conn, self._compared, self._shape, references)
        return deleted

    def delete_left(self, conn: sa.Connection, references: Sequence[Reference]) -> int:
        """Delete what rows that stay referred to, once these are merged; RowError where one still does."""
        if self._compared is None or not self.has_left:
            return 0
        deleted = in_place.delete_gone(conn, self._compared, self._shape, references)
        for one in references:
            if in_place.holds_gone(conn, self._compared, self._shape, [one]):
                raise RowError(
                    f"no row of {self.loaded.name} has the key that some refer to (constraint {one.key.name!r}), "
                    "SQLSTATE 23503: mend the source",
                    table=str(one.referring.name),
                )
        return deleted

    def merge(self, conn: sa.Connection, *, compare_again: bool) -> Merged:
        """Bring the rows from where COPY wrote them into the table.

        `compare_again` where rows that stay may have been deleted since they were compared.
        """
        received = self.buffer.received
        if not self.takes_part:
            return Merged()
        if self.route in (Route.DIRECT, Route.HIDDEN):
            return Merged(inserted=self.written - self._superseded, superseded=self._superseded)
        key = self.loaded.key
        if self.route is Route.STAGED or not key:
            return merge.insert(conn, self._staged, self._shape)
        if self._compared:
            compared = self._compare_again(conn, self._compared, "again") if compare_again else self._compared
            merged = self._merge_compared(conn, compared)
        else:
            merged = merge.upsert(conn, self._staged, self._shape, received, all_keyed=self._all_keyed)
        if merged.superseded and not self._upserts:
            raise RowError(
                f"{merged.superseded} rows have the primary key of another row of the batch, and upsert is off",
                table=str(self.loaded.name),
            )
        return merged

    def _merge_compared(self, conn: sa.Connection, compared: Compared) -> Merged:
        """Write what differs: row by row, or all at once where rows exchange values of another unique key."""
        shape = self._shape
        if not shape.checks_each_row:
            return in_place.merge_differing(conn, compared, shape)
        try:
            with conn.begin_nested():
                return in_place.merge_differing(conn, compared, shape)
        except sa.exc.DBAPIError as error:
            if sqlstate(error) not in (UNIQUE_VIOLATION, EXCLUSION_VIOLATION) or self._acts_on_delete(conn):
                raise
        return in_place.rewrite_differing(conn, compared, shape)

    def _acts_on_delete(self, conn: sa.Connection) -> bool:
        """Whether a foreign key would do more than check, when a row is deleted and comes again at once."""
        own = [key for key in self._shape.foreign_keys if key.target == self._shape.name]
        inbound = reflection.inbound_keys(conn, [self._shape.oid])[self._shape.oid]
        return any(key.acts_on_delete for key in (*own, *inbound))

    def restore(self, conn: sa.Connection) -> None:
        """Bring back what `delete_left` took of rows that stay."""
        if self._compared:
            self._merge_compared(conn, self._compare_again(conn, self._compared, "restored"))

    def _compare_again(self, conn: sa.Connection, compared: Compared, name: str) -> Compared:
        self._compared = in_place.compare_again(conn, compared, self._shape, temporary_name(self._token, name))
        return self._compared

    @contextmanager
    def rows_explained(self, later: Collection[Name] = ()) -> Iterator[None]:
        """What PostgreSQL refuses of the rows, as a RowError; rows of `later` tables come after these.

        DefinitionError where it publishes the table's changes, and cannot tell its rows apart.
        """
        try:
            yield
        except sa.exc.DBAPIError as error:
            if _is_about_publishing(error):
                detail = diagnosis(error, "message_detail")
                why = f"{first_line(error)} ({detail.rstrip('.')})" if detail else first_line(error)
                raise DefinitionError(
                    f"{self.loaded.name}: {why}: ALTER TABLE ... REPLICA IDENTITY DEFAULT or FULL, "
                    "or take the table out of the publication"
                ) from error
            if isinstance(error.orig, Exception):
                self._raise_if_others_refer(error.orig)
                known_as = self.hidden.known_as if self.hidden else str
                remedies = {
                    key.name: f"mend the source; or, since rows of {key.target} come after these, declare the foreign "
                    "key, and where the tables refer to each other in a circle as DEFERRABLE INITIALLY DEFERRED"
                    for key in self._shape.foreign_keys
                    if key.target in later
                }
                if self.route in _EXCHANGE:
                    remedies |= {
                        one.name: "mend the source; or, where rows exchange these values, declare it DEFERRABLE, since "
                        f"they {_EXCHANGE[self.route]}"
                        for one in (*self._shape.of_kind("u"), *self._shape.of_kind("x"))
                        if not one.deferrable
                    }
                raise_row_error(error.orig, self.buffer.table, known_as=known_as, remedies=remedies)
            raise

    def _raise_if_others_refer(self, error: Exception) -> None:
        """RowError where a row of another table refers to a key that goes: it is that row which has to be told."""
        if sqlstate(error) != FOREIGN_KEY_VIOLATION:
            return
        said: Any = error.diag  # type: ignore[attr-defined]  # both drivers' errors with a SQLSTATE have it
        referring = Name(said.schema_name, said.table_name)
        if referring in (self.loaded.name, self._shape.name) or self._shape.kind == "p":
            return  # of a partitioned table it may be a partition
        lacking = f"that no row would have any more, SQLSTATE {FOREIGN_KEY_VIOLATION}"
        raise still_referred(referring, said.constraint_name, lacking) from None  # its DETAIL quotes the key

    def advance_sequences(self, conn: sa.Connection) -> None:
        """Move identity and serial sequences past the highest value."""
        if not self.buffer.received:
            return
        shape = hidden.with_sequences(conn, self.hidden) if self.hidden else self._shape
        sequences.advance(conn, shape, None if self.route in (Route.DIRECT, Route.HIDDEN) else self._staged)

    @property
    def _staged(self) -> Name:
        assert self._destination is not None, "called once rows have come, or when all are replaced"
        return self._destination


_EXCHANGE = {
    Route.UPSERT: "are checked one after the other",
    Route.REPLACE: "are replaced in place and foreign keys act when a row is deleted",
}
"""Why rows of a batch cannot exchange the values of a constraint that is not deferrable."""


def _is_about_publishing(error: sa.exc.DBAPIError) -> bool:
    """Whether PostgreSQL says that a publication needs another replica identity: other errors have its SQLSTATE too."""
    return diagnosis(error, "source_function") == "CheckCmdReplicaIdentity"


def share_changed(conn: sa.Connection, loaded: LoadedTable, rows: Sequence[Any], frame: Any, token: str) -> float:
    """How many of some rows are new or changed, from 0 to 1: they are staged for it, and gone afterwards.

    The `frame` is an Arrow object with more rows, or None. Raises RowError for a row that does not fit.
    """
    with rolled_back(conn):
        part = BatchTable(conn, loaded, token, Route.STAGED, upserts=True)
        part.buffer.add(list(rows))
        destination = part.destination(conn)
        copy_rows(conn, destination, part.buffer.take_all(), 1, binary=False)
        if frame is not None:
            part.buffer.add_frame(frame)
            for run in part.buffer.frame_runs():
                copy_rows(conn, destination, run.chunks, run.first_row, binary=run.binary)
        return part.share_changed(conn, part.buffer.received)


def route(loaded: LoadedTable, tables: Sequence[LoadedTable], *, upserts: bool) -> Route:
    """Where a batch's rows of one table go."""
    if loaded.refresh in (Refresh.SWAP, Refresh.FIRST_LOAD):
        return Route.HIDDEN
    if loaded.refresh is Refresh.IN_PLACE:
        return Route.REPLACE
    if loaded.key and upserts:
        return Route.UPSERT
    # Rows come in any order, and in several COPYs: those that refer to others must go in after them, or with them.
    keys = loaded.live.foreign_keys
    waits = bool(keys) and (len(tables) > 1 or any(key.target == loaded.name for key in keys))
    return Route.STAGED if waits else Route.DIRECT
