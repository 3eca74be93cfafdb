"""From a connection of Airflow's to a connection to PostgreSQL, with all that it says."""

import itertools
import signal
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa
from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]
from airflow.sdk import Asset

from airflow_ingest_provider import HighWatermark, IngestError, ingest
from airflow_ingest_provider.demo import server
from airflow_ingest_provider.hooks import ingest as hook_module
from airflow_ingest_provider.hooks.ingest import IngestHook
from tests.waiting import until

if TYPE_CHECKING:
    from tests.airflow.conftest import Connect

numbers = sa.Table("numbers", sa.MetaData(), sa.Column("number", sa.Integer, primary_key=True))


def three(high_watermark: Any) -> Iterator[Any]:
    """Three rows, unless they were loaded before."""
    if high_watermark is None:
        yield 3, None, ((numbers, (number,)) for number in (1, 2, 3))


def setting(conn: sa.Connection, name: str) -> Any:
    return conn.scalar(sa.text("SELECT current_setting(:name)"), {"name": name})


def parameters(conn: sa.Connection) -> dict[str, str]:
    """What libpq was told."""
    info: Any = conn.connection.driver_connection.info  # type: ignore[union-attr]
    return dict(info.get_parameters() if conn.dialect.driver == "psycopg" else info.dsn_parameters)


@pytest.fixture(params=["postgresql+psycopg", "postgresql+psycopg2"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_extras_of_the_connection_are_honoured(connect: "Connect", scheme: str, dsn: str) -> None:
    extra = {
        "application_name": "nightly load",
        "connect_timeout": 7,
        "keepalives_idle": "30",
        "options": "-c statement_timeout=12345",
        "sslmode": "allow",
        "sqlalchemy_scheme": scheme,
        "cursor": "dictcursor",
        "iam": False,
    }
    connect(extra=extra)
    with IngestHook().get_sqlalchemy_engine().connect() as conn, psycopg.connect(dsn) as other:
        assert conn.dialect.driver == scheme.partition("+")[2]
        assert setting(conn, "statement_timeout") == "12345ms"
        given = parameters(conn)
        assert (given["connect_timeout"], given["keepalives_idle"], given["sslmode"]) == ("7", "30", "allow")
        seen = other.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nightly load'")
        assert seen.fetchone() == (1,)


def test_an_unset_driver_is_psycopg_3_without_prepared_statements(connect: "Connect") -> None:
    connect(extra={"sqlalchemy_scheme": "postgresql"})
    with IngestHook().get_sqlalchemy_engine().connect() as conn:
        raw: Any = conn.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)
        assert raw.prepare_threshold is None


def test_the_hooks_options_reach_the_server(connect: "Connect") -> None:
    connect()
    with IngestHook(options="-c work_mem=5MB").get_sqlalchemy_engine().connect() as conn:
        assert setting(conn, "work_mem") == "5MB"


def test_database_overrides_the_connections(connect: "Connect", database: str) -> None:
    connect(schema="elsewhere")
    with IngestHook(database=database).get_sqlalchemy_engine().connect() as conn:
        assert conn.scalar(sa.text("SELECT current_database()")) == database


def test_no_connection_outlives_its_use(connect: "Connect") -> None:
    connect()
    with IngestHook().get_sqlalchemy_engine().connect() as conn:
        raw: Any = conn.connection.driver_connection
    assert raw.closed


def test_callers_may_have_their_own_way_with_the_engine(connect: "Connect") -> None:
    connect(extra={"application_name": "mine"})
    engine = IngestHook().get_sqlalchemy_engine(
        {"isolation_level": "SERIALIZABLE", "connect_args": {"application_name": "theirs"}}
    )
    with engine.connect() as conn:
        assert setting(conn, "transaction_isolation") == "serializable"
        assert setting(conn, "application_name") == "theirs"


def test_each_connect_logs_in_with_a_token_of_its_own(connect: "Connect", monkeypatch: pytest.MonkeyPatch) -> None:
    connect(login="nobody_by_this_name", extra={"iam": True})
    tokens = (("postgres", f"token {number}", 5432) for number in itertools.count(1))
    monkeypatch.setattr(IngestHook, "get_iam_token", lambda self, connection: next(tokens))
    engine = IngestHook().get_sqlalchemy_engine()
    used = []
    for _ in range(2):
        with engine.connect() as conn:
            raw: Any = conn.connection.driver_connection
            used.append((raw.info.user, raw.info.password))
    assert used == [("postgres", "token 1"), ("postgres", "token 2")]


def test_a_missing_connection_is_named(airflow: None) -> None:
    told = r"no connection 'no_such'.*AIRFLOW_CONN_NO_SUCH, where a script outside of a task finds it too$"
    with pytest.raises(AirflowNotFoundException, match=told):
        IngestHook("no_such").get_sqlalchemy_engine()


@pytest.mark.parametrize("conn_type", ["mysql", "sqlite", "http"])
def test_a_connection_of_another_type_is_refused(connect: "Connect", conn_type: str) -> None:
    connect("other", conn_type=conn_type)
    with pytest.raises(IngestError, match=rf"'other' is of type '{conn_type}': expected 'postgres'; name a"):
        IngestHook("other").ingest(numbers.metadata, three)


def test_a_driver_in_the_type_belongs_into_the_extras(connect: "Connect") -> None:
    connect("other", conn_type="postgresql+psycopg")
    with pytest.raises(IngestError, match=r"leave \+psycopg out; .* \{'sqlalchemy_scheme': 'postgresql\+psycopg'\}$"):
        IngestHook("other").get_sqlalchemy_engine()


@pytest.mark.parametrize("driver", ["psycopg_async", "asyncpg"])
def test_an_async_driver_is_refused(connect: "Connect", driver: str) -> None:
    connect("other", extra={"sqlalchemy_scheme": f"postgresql+{driver}"})
    with pytest.raises(IngestError, match=rf"^connection 'other' uses postgresql\+{driver}: expected psycopg or psyc"):
        IngestHook("other").ingest(numbers.metadata, three)


@pytest.mark.parametrize("conn_id", [None, ""])
def test_what_is_no_connection_id_is_refused(conn_id: Any) -> None:
    with pytest.raises(ValueError, match=rf"conn_id is {conn_id!r}: expected the id of a connection, such as"):
        IngestHook(conn_id).get_sqlalchemy_engine()


@pytest.mark.parametrize("conn_type", ["postgres", "postgresql"])
def test_both_names_of_the_type_are_accepted(connect: "Connect", conn_type: str) -> None:
    connect(conn_type=conn_type)
    assert IngestHook().ingest(numbers.metadata, three).rows == 3


def test_ingest_loads_and_carries_on(connect: "Connect", scheme: str, dsn: str) -> None:
    connect(extra={"sqlalchemy_scheme": scheme})
    hook = IngestHook()
    assert hook.ingest(numbers.metadata, three).rows == 3
    assert hook.ingest(numbers.metadata, three).rows == 0
    assert hook.ingest(numbers.metadata, three, high_watermark=HighWatermark.EARLIEST).rows == 3
    with psycopg.connect(dsn) as other:
        assert other.execute("SELECT array_agg(number ORDER BY number) FROM numbers").fetchone() == ([1, 2, 3],)


def test_the_tables_become_output_assets_of_the_lineage(
    connect: "Connect", database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[dict[str, Any]] = []

    class Collector:
        def add_output_asset(self, **asset: Any) -> None:
            added.append(asset)

    monkeypatch.setattr(hook_module, "get_hook_lineage_collector", Collector)
    odd = sa.Table("od/d é", sa.MetaData(), sa.Column("number", sa.Integer))
    connect()
    hook = IngestHook()
    hook.ingest(numbers, three)
    hook.ingest(odd.metadata, lambda high_watermark: [])
    assert [asset["context"] for asset in added] == [hook, hook]
    assert [asset["uri"] for asset in added] == [Asset(asset["uri"]).uri for asset in added]
    assert [asset["uri"] for asset in added] == [
        f"postgres://localhost:5432/{database}/public/numbers",
        f"postgres://localhost:5432/{database}/public/od%2Fd%20%C3%A9",
    ]


def test_a_committed_run_does_not_fail_by_its_lineage(
    connect: "Connect", monkeypatch: pytest.MonkeyPatch, dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise KeyError("no collector")

    monkeypatch.setattr(hook_module, "get_hook_lineage_collector", broken)
    connect()
    assert IngestHook().ingest(numbers.metadata, three).rows == 3
    shown = capsys.readouterr()
    assert "the rows are committed, but not in the lineage" in shown.out + shown.err
    assert "no collector" in shown.out + shown.err


def test_a_lineage_of_many_tables_asks_the_catalog_once(connect: "Connect", monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = sa.MetaData()
    for name in "abc":
        sa.Table(name, metadata, sa.Column("number", sa.Integer))
    connect()
    hook = IngestHook()
    hook.ingest(metadata, lambda high_watermark: [])
    statements: list[str] = []
    with hook.get_sqlalchemy_engine().connect() as conn:
        sa.event.listen(conn, "before_cursor_execute", lambda *event: statements.append(event[2]))
        hook._add_lineage(conn, metadata)
    assert len(statements) == 1


def test_cancel_ends_the_running_statement(connect: "Connect", scheme: str, dsn: str) -> None:
    connect(extra={"sqlalchemy_scheme": scheme})
    hook = IngestHook()

    def cancel() -> None:
        until(lambda: asleep(dsn))
        hook.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(sa.exc.DBAPIError, match="canceling statement due to user request"):
        hook.ingest(numbers.metadata, three, sleep)
    canceller.join()
    assert hook.ingest(numbers.metadata, three).rows == 3, "the batch was rolled back"


def test_cancel_is_heard_before_the_run_begins_and_no_longer_than_it_lasts(
    connect: "Connect", scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(extra={"sqlalchemy_scheme": scheme})
    hook = IngestHook()
    engine = hook.get_sqlalchemy_engine({"poolclass": sa.pool.StaticPool})
    monkeypatch.setattr(hook, "get_sqlalchemy_engine", lambda: engine)

    def cancelled(*arguments: Any, **options: Any) -> Any:
        hook.cancel()
        return ingest(*arguments, **options)

    def cancelled_too_late(*arguments: Any, **options: Any) -> Any:
        result = ingest(*arguments, **options)
        hook.cancel()
        return result

    for run, rows in ((cancelled, None), (cancelled_too_late, 3), (ingest, 0)):
        monkeypatch.setattr(hook_module, "ingest", run)
        with nullcontext() if rows is not None else pytest.raises(IngestError, match="the run was cancelled"):
            assert hook.ingest(numbers.metadata, three).rows == rows
    engine.dispose()


def test_cancel_does_nothing_where_nothing_runs(connect: "Connect") -> None:
    connect()
    hook = IngestHook()
    hook.cancel()
    hook.ingest(numbers.metadata, three)
    hook.cancel()


def test_a_cancel_that_the_server_does_not_hear_is_a_warning(
    connect: "Connect", capsys: pytest.CaptureFixture[str]
) -> None:
    with server.running(durable=False) as lost:
        connect(host=str(lost.folder), schema="postgres")
        hook = IngestHook()

        def batches(high_watermark: Any) -> Iterator[Any]:
            lost.process.send_signal(signal.SIGINT)
            lost.process.wait()
            hook.cancel()  # as Airflow calls it, in a handler of signals
            raise InterruptedError("killed")

        with pytest.raises(InterruptedError):
            hook.ingest(numbers.metadata, batches)
    shown = capsys.readouterr()
    assert "the running statement could not be cancelled" in shown.out + shown.err


def sleep(conn: sa.Connection, batch_metadata: Any) -> None:
    conn.execute(sa.text("SELECT pg_sleep(60)"))


def asleep(dsn: str) -> bool:
    """Whether somebody sleeps in the test's database."""
    with psycopg.connect(dsn) as other:
        return bool(
            other.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
            ).rowcount
        )
