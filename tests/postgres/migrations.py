"""Changes of a definition: what is live, what is declared, and what the migration says and makes of it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from airflow_ingest_provider.core.plan import Action

IN_PLACE, STEPS, REBUILD, NOTHING = Action.IN_PLACE, Action.STEPS, Action.REBUILD, Action.NOTHING


@dataclass(frozen=True)
class Case:
    """SQL of the live table's columns, the declared columns, a row before and after, and what the plan says.

    `more` is SQL that is run on the live table, `options` are `ingest`'s, `major` the first PostgreSQL that has it.
    """

    before: str
    declared: tuple[Any, ...]
    row: str
    after: tuple[Any, ...]
    plan: tuple[str, ...]
    action: Action
    more: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    major: int = 14


def column(name: str, kind: Any, *more: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, *more, **options)


INTEGER, TEXT = sa.Integer(), sa.Text()

CASES = {
    "nothing": Case("a int, b text", (column("a", INTEGER), column("b", TEXT)), "1, 'x'", (1, "x"), (), NOTHING),
    "added": Case("a int", (column("a", INTEGER), column("b", TEXT)), "1", (1, None), ("b: added as text",), IN_PLACE),
    "added with a constant": Case(
        "a int",
        (column("a", INTEGER), column("b", TEXT, server_default="x", nullable=False)),
        "1",
        (1, "x"),
        ("b: added as text",),
        IN_PLACE,
    ),
    "added in front": Case(
        "a int", (column("b", TEXT), column("a", INTEGER)), "1", (None, 1), ("b: added as text",), REBUILD
    ),
    "added and drawn from an identity": Case(
        "a int",
        (column("a", INTEGER), column("b", INTEGER, sa.Identity())),
        "7",
        (7, 1),
        ("b: added as integer",),
        REBUILD,
    ),
    "added and computed": Case(
        "a int",
        (column("a", INTEGER), column("b", INTEGER, sa.Computed("a * 2", persisted=True))),
        "7",
        (7, 14),
        ("b: added as integer",),
        REBUILD,
    ),
    "dropped": Case(
        "a int, b text", (column("a", INTEGER),), "1, 'x'", (1,), ("b: dropped, with its values",), IN_PLACE
    ),
    "all columns others": Case(
        "a int", (column("b", INTEGER),), "1", (None,), ("a: dropped, with its values", "b: added as integer"), IN_PLACE
    ),
    "moved": Case(
        "a int, b text",
        (column("b", TEXT), column("a", INTEGER)),
        "1, 'x'",
        ("x", 1),
        ("columns in the order b, a",),
        REBUILD,
    ),
    "serial to bigserial, and all else moved": Case(
        """d serial primary key, a int not null default 7, b varchar(3) collate "C" not null default 'x',
           c numeric(4,1)[], e timestamp(3), f bit(2)""",
        (
            column("f", postgresql.BIT(2)),
            column("e", postgresql.TIMESTAMP(precision=3)),
            column("d", sa.BigInteger, primary_key=True),
            column("c", postgresql.ARRAY(sa.Numeric(4, 1, asdecimal=False))),
            column("b", sa.String(3, collation="C"), nullable=False, server_default="x"),
            column("a", INTEGER, nullable=False, server_default="7"),
            sa.CheckConstraint("a > 0", name="positive"),
        ),
        "1, 8, 'y', '{1.5}', '2020-01-02 03:04:05.678', '10'",
        ("10", datetime(2020, 1, 2, 3, 4, 5, 678000), 1, [1.5], "y", 8),
        ("columns in the order f, e, d, c, b, a", "d: integer -> bigint", "added CHECK ((a > 0))"),
        REBUILD,
    ),
    "varchar widened": Case(
        "a varchar(3)",
        (column("a", sa.String(9)),),
        "'x'",
        ("x",),
        ("a: character varying(3) -> character varying(9)",),
        IN_PLACE,
    ),
    "varchar to text": Case(
        "a varchar(3)", (column("a", TEXT),), "'x'", ("x",), ("a: character varying(3) -> text",), IN_PLACE
    ),
    "text to varchar": Case(
        "a text", (column("a", sa.String(3)),), "'x'", ("x",), ("a: text -> character varying(3)",), REBUILD
    ),
    "numeric widened": Case(
        "a numeric(4,2)",
        (column("a", sa.Numeric(9, 2, asdecimal=False)),),
        "1.25",
        (1.25,),
        ("a: numeric(4,2) -> numeric(9,2)",),
        IN_PLACE,
    ),
    "numeric rescaled": Case(
        "a numeric(4,2)",
        (column("a", sa.Numeric(9, 1, asdecimal=False)),),
        "1.50",
        (1.5,),
        ("a: numeric(4,2) -> numeric(9,1)",),
        REBUILD,
    ),
    "numeric limited": Case(
        "a numeric",
        (column("a", sa.Numeric(9, 2, asdecimal=False)),),
        "1",
        (1.0,),
        ("a: numeric -> numeric(9,2)",),
        REBUILD,
    ),
    "int to bigint": Case("a int", (column("a", sa.BigInteger),), "1", (1,), ("a: integer -> bigint",), REBUILD),
    "bigint to int": Case("a bigint", (column("a", INTEGER),), "1", (1,), ("a: bigint -> integer",), REBUILD),
    "int to text": Case("a int", (column("a", TEXT),), "1", ("1",), ("a: integer -> text",), REBUILD),
    "json to jsonb": Case("a json", (column("a", postgresql.JSONB),), "'[1]'", ([1],), ("a: json -> jsonb",), REBUILD),
    "collated": Case(
        "a text",
        (column("a", sa.Text(collation="C")),),
        "'x'",
        ("x",),
        ('a: collation default -> pg_catalog."C"',),
        REBUILD,
    ),
    "not null": Case("a int", (column("a", INTEGER, nullable=False),), "1", (1,), ("a: NOT NULL",), STEPS),
    "null allowed": Case("a int not null", (column("a", INTEGER),), "1", (1,), ("a: NULL allowed",), IN_PLACE),
    "default": Case("a int", (column("a", INTEGER, server_default="7"),), "1", (1,), ("a: default 7",), IN_PLACE),
    "comment": Case("a int", (column("a", INTEGER, comment="It's"),), "1", (1,), ("a: comment",), IN_PLACE),
    "key added": Case(
        "a int not null", (column("a", INTEGER, primary_key=True),), "1", (1,), ("added PRIMARY KEY (a)",), STEPS
    ),
    "key dropped": Case(
        "a int primary key",
        (column("a", INTEGER, nullable=False),),
        "1",
        (1,),
        ("dropped t_pkey: PRIMARY KEY (a)",),
        IN_PLACE,
    ),
    "key dropped, and NULL allowed": Case(
        "a int primary key",
        (column("a", INTEGER),),
        "1",
        (1,),
        ("a: NULL allowed", "dropped t_pkey: PRIMARY KEY (a)"),
        IN_PLACE,
    ),
    "key moved, and NULL allowed": Case(
        "a int primary key, b int not null",
        (column("a", INTEGER), column("b", INTEGER, primary_key=True, autoincrement=False)),
        "1, 2",
        (1, 2),
        ("a: NULL allowed", "dropped t_pkey: PRIMARY KEY (a)", "added PRIMARY KEY (b)"),
        STEPS,
    ),
    "key that is unique from now on, and referred to": Case(
        "a int primary key, b int not null",
        (column("a", INTEGER, unique=True, nullable=False), column("b", INTEGER, primary_key=True)),
        "1, 2",
        (1, 2),
        ("dropped t_pkey: PRIMARY KEY (a)", "added PRIMARY KEY (b)", "added UNIQUE (a)"),
        REBUILD,
        more=("CREATE TABLE child (a int REFERENCES t (a))", "INSERT INTO child SELECT a FROM t"),
    ),
    "unique that is the key from now on, and referred to by the table itself": Case(
        "a int unique, b int references t (a)",
        (column("a", INTEGER, primary_key=True, autoincrement=False), column("b", INTEGER)),
        "1, 1",
        (1, 1),
        ("a: NOT NULL", "dropped t_a_key: UNIQUE (a)", "added PRIMARY KEY (a)"),
        REBUILD,
    ),
    "dropped with its check, in place": Case(
        "a int, b int check (b > 0)",
        (column("a", INTEGER),),
        "1, 2",
        (1,),
        ("b: dropped, with its values", "dropped t_b_check: CHECK ((b > 0))"),
        IN_PLACE,
    ),
    "dropped with its check and foreign key, by a rebuild": Case(
        "a int unique, b int check (b > 0) references t (a)",
        (column("a", sa.BigInteger, unique=True),),
        "1, 1",
        (1,),
        (
            "b: dropped, with its values",
            "a: integer -> bigint",
            "dropped t_b_check: CHECK ((b > 0))",
            "dropped t_b_fkey: a foreign key to public.t",
        ),
        REBUILD,
    ),
    "dropped with the key that the table is clustered on": Case(
        "a int primary key, b int",
        (column("b", sa.BigInteger),),
        "1, 2",
        (2,),
        ("a: dropped, with its values", "b: integer -> bigint", "dropped t_pkey: PRIMARY KEY (a)"),
        REBUILD,
        more=("ALTER TABLE t CLUSTER ON t_pkey",),
    ),
    "serial to identity": Case(
        "a serial, b int",
        (column("a", INTEGER, sa.Identity(), nullable=False), column("b", INTEGER)),
        "1, 2",
        (1, 2),
        ("a: computed or identity as declared",),
        REBUILD,
    ),
    "no identity any more": Case(
        "a int generated by default as identity, b int",
        (column("a", INTEGER), column("b", INTEGER)),
        "1, 2",
        (1, 2),
        ("a: computed or identity as declared", "a: NULL allowed"),
        REBUILD,
    ),
    "text to an enum that is not there": Case(
        "a text",
        (lambda: column("a", sa.Enum("x", "y", name="letter")),),
        "'x'",
        ("x",),
        ("a: text -> letter, made by a::letter",),
        REBUILD,
        options={"conversions": {"a": "a::letter"}},
    ),
    "added with a comment": Case(
        "a int",
        (column("a", INTEGER), column("b", INTEGER, comment="It's")),
        "1",
        (1, None),
        ("b: added as integer",),
        IN_PLACE,
    ),
    "key changed": Case(
        "a int primary key, b int not null",
        (column("a", INTEGER, primary_key=True), column("b", INTEGER, primary_key=True)),
        "1, 2",
        (1, 2),
        ("dropped t_pkey: PRIMARY KEY (a)", "added PRIMARY KEY (a, b)"),
        STEPS,
    ),
    "unique added": Case("a int", (column("a", INTEGER, unique=True),), "1", (1,), ("added UNIQUE (a)",), STEPS),
    "unique dropped": Case(
        "a int unique", (column("a", INTEGER),), "1", (1,), ("dropped t_a_key: UNIQUE (a)",), IN_PLACE
    ),
    "check added": Case(
        "a int",
        (column("a", INTEGER), sa.CheckConstraint("a > 0", name="positive")),
        "1",
        (1,),
        ("added CHECK ((a > 0))",),
        STEPS,
    ),
    "index added": Case(
        "a int", (column("a", INTEGER, index=True),), "1", (1,), ("added index USING btree (a)",), STEPS
    ),
    "index dropped": Case(
        "a int",
        (column("a", INTEGER),),
        "1",
        (1,),
        ("dropped index i: USING btree (a)",),
        IN_PLACE,
        ("CREATE INDEX i ON t (a)",),
    ),
    "index of another name": Case(
        "a int",
        (column("a", INTEGER), lambda: sa.Index("j", "a")),
        "1",
        (1,),
        (),
        NOTHING,
        ("CREATE INDEX i ON t (a)",),
    ),
    "index options changed": Case(
        "a int, b text",
        (
            column("a", INTEGER),
            column("b", TEXT),
            lambda: sa.Index(
                "i", sa.text("lower(b) text_pattern_ops"), postgresql_where=sa.text("a > 0"), postgresql_include=["a"]
            ),
        ),
        "1, 'x'",
        (1, "x"),
        (
            "dropped index i: USING btree (b)",
            "added index USING btree (lower(b) text_pattern_ops) INCLUDE (a) WHERE (a > 0)",
        ),
        STEPS,
        ("CREATE INDEX i ON t (b)",),
    ),
    "no longer computed": Case(
        "a int, b int generated always as (a * 2) stored",
        (column("a", INTEGER), column("b", INTEGER)),
        "7",
        (7, 14),
        ("b: computed or identity as declared",),
        REBUILD,
    ),
    "several at once": Case(
        "a int, b text, c int",
        (
            column("c", sa.BigInteger, index=True),
            column("a", INTEGER, nullable=False),
            column("d", TEXT, server_default="d"),
        ),
        "1, 'x', 3",
        (3, 1, "d"),
        (
            "b: dropped, with its values",
            "columns in the order c, a, d",
            "c: integer -> bigint",
            "a: NOT NULL",
            "d: added as text",
            "added index USING btree (c)",
        ),
        REBUILD,
    ),
    "char to text": Case("a char(3)", (column("a", TEXT),), "'x'", ("x",), ("a: character(3) -> text",), REBUILD),
    "varchar narrowed": Case(
        "a varchar(9)",
        (column("a", sa.String(3)),),
        "'x'",
        ("x",),
        ("a: character varying(9) -> character varying(3)",),
        REBUILD,
    ),
    "varchar unlimited": Case(
        "a varchar(9)",
        (column("a", sa.String),),
        "'x'",
        ("x",),
        ("a: character varying(9) -> character varying",),
        IN_PLACE,
    ),
    "varchar to text with an index": Case(
        "a varchar(9)",
        (column("a", TEXT, index=True),),
        "'x'",
        ("x",),
        ("a: character varying(9) -> text",),
        IN_PLACE,
        ("CREATE INDEX i ON t (a)",),
    ),
    "varchar to text under a view": Case(
        "a varchar(9)",
        (column("a", TEXT),),
        "'x'",
        ("x",),
        ("a: character varying(9) -> text",),
        REBUILD,
        ("CREATE VIEW v AS SELECT a FROM t", "GRANT SELECT ON v TO PUBLIC"),
    ),
    "varchar widened under a computed column": Case(
        "a varchar(9), b text generated always as (a || 'x') stored",
        (column("a", sa.String(12)), column("b", TEXT, sa.Computed("a || 'x'", persisted=True))),
        "'x'",
        ("x", "xx"),
        ("a: character varying(9) -> character varying(12)",),
        REBUILD,
    ),
    "numeric unlimited": Case(
        "a numeric(4,2)",
        (column("a", sa.Numeric(asdecimal=False)),),
        "1.25",
        (1.25,),
        ("a: numeric(4,2) -> numeric",),
        IN_PLACE,
    ),
    "int to numeric": Case(
        "a int",
        (column("a", sa.Numeric(9, 2, asdecimal=False)),),
        "1",
        (1.0,),
        ("a: integer -> numeric(9,2)",),
        REBUILD,
    ),
    "numeric to int": Case("a numeric", (column("a", INTEGER),), "2.0", (2,), ("a: numeric -> integer",), REBUILD),
    "real to double": Case(
        "a real", (column("a", sa.Double),), "1.5", (1.5,), ("a: real -> double precision",), REBUILD
    ),
    "double to real": Case(
        "a float8", (column("a", sa.REAL),), "1.5", (1.5,), ("a: double precision -> real",), REBUILD
    ),
    "date to text": Case(
        "a date", (column("a", TEXT),), "'2020-01-02'", ("2020-01-02",), ("a: date -> text",), REBUILD
    ),
    "uuid to text": Case(
        "a uuid",
        (column("a", TEXT),),
        "'00000000-0000-0000-0000-000000000001'",
        ("00000000-0000-0000-0000-000000000001",),
        ("a: uuid -> text",),
        REBUILD,
    ),
    "array of int to bigint": Case(
        "a int[]",
        (column("a", postgresql.ARRAY(sa.BigInteger)),),
        "'{1,2}'",
        ([1, 2],),
        ("a: integer[] -> bigint[]",),
        REBUILD,
    ),
    "bits widened": Case(
        "a varbit(3)",
        (column("a", postgresql.BIT(9, varying=True)), column("b", INTEGER)),
        "B'101'",
        ("101", None),
        ("a: bit varying(3) -> bit varying(9)", "b: added as integer"),
        IN_PLACE,
    ),
    "text to int with a conversion": Case(
        "a text",
        (column("a", INTEGER),),
        "'7 kg'",
        (7,),
        ("a: text -> integer, made by split_part(a, ' ', 1)::int",),
        REBUILD,
        options={"conversions": {"a": "split_part(a, ' ', 1)::int"}},
    ),
    "renamed by a conversion": Case(
        "a text",
        (column("b", TEXT, nullable=False),),
        "'x'",
        ("x",),
        ("a: dropped, with its values", "b: added as text, made by a"),
        REBUILD,
        options={"conversions": {"t.b": "a"}},
    ),
    "added in the middle": Case(
        "a int, c int",
        (column("a", INTEGER), column("b", INTEGER), column("c", INTEGER)),
        "1, 3",
        (1, None, 3),
        ("b: added as integer",),
        REBUILD,
    ),
    "added with an expression": Case(
        "a int",
        (column("a", INTEGER), column("b", TEXT, server_default=sa.text("upper('x')"))),
        "1",
        (1, "X"),
        ("b: added as text",),
        REBUILD,
    ),
    "added and indexed": Case(
        "a int",
        (column("a", INTEGER), column("b", INTEGER, index=True)),
        "1",
        (1, None),
        ("b: added as integer", "added index USING btree (b)"),
        STEPS,
    ),
    "added as an enum": Case(
        "a int",
        (column("a", INTEGER), column("b", sa.Enum("x", "y", name="xy"))),
        "1",
        (1, None),
        ("b: added as xy",),
        IN_PLACE,
    ),
    "dropped with its index and key": Case(
        "a int, b int unique",
        (column("a", INTEGER),),
        "1, 2",
        (1,),
        ("b: dropped, with its values", "dropped t_b_key: UNIQUE (b)", "dropped index i: USING btree (b, a)"),
        IN_PLACE,
        ("CREATE INDEX i ON t (b, a)",),
    ),
    "dropped with what is computed from it": Case(
        "a int, b int, c int generated always as (b * 2) stored",
        (column("a", INTEGER),),
        "1, 2",
        (1,),
        ("c: dropped, with its values", "b: dropped, with its values"),
        IN_PLACE,
    ),
    "identity on a column that is there": Case(
        "a int not null",
        (column("a", INTEGER, sa.Identity(start=100), nullable=False),),
        "7",
        (7,),
        ("a: computed or identity as declared",),
        REBUILD,
    ),
    "identity for always": Case(
        "a int not null generated by default as identity",
        (column("a", INTEGER, sa.Identity(always=True), nullable=False),),
        "7",
        (7,),
        ("a: computed or identity as declared",),
        REBUILD,
    ),
    "computed otherwise": Case(
        "a int, b int generated always as (a * 2) stored",
        (column("a", INTEGER), column("b", INTEGER, sa.Computed("a * 3", persisted=True))),
        "7",
        (7, 21),
        ("b: computed or identity as declared",),
        REBUILD,
    ),
    "table comment": Case(
        "a int", (column("a", INTEGER), {"comment": "It's: 100%"}), "1", (1,), ("comment of the table",), IN_PLACE
    ),
    "key with more columns in its index": Case(
        "a int not null, b text",
        (column("a", INTEGER, nullable=False), column("b", TEXT), {"primary_key": {"postgresql_include": ["b"]}}),
        "1, 'x'",
        (1, "x"),
        ("added PRIMARY KEY (a) INCLUDE (b)",),
        STEPS,
    ),
    "key on what may be null": Case(
        "a int",
        (column("a", INTEGER, primary_key=True),),
        "1",
        (1,),
        ("a: NOT NULL", "added PRIMARY KEY (a)"),
        STEPS,
    ),
    "key of another type": Case(
        "a int primary key",
        (column("a", sa.BigInteger, primary_key=True),),
        "1",
        (1,),
        ("a: integer -> bigint",),
        REBUILD,
        ("CREATE TABLE child (a int REFERENCES t)", "CREATE VIEW v AS SELECT count(a) FROM t"),
    ),
    "unique made deferrable": Case(
        "a int unique",
        (column("a", INTEGER), lambda: sa.UniqueConstraint("a", deferrable=True, initially="DEFERRED")),
        "1",
        (1,),
        ("dropped t_a_key: UNIQUE (a)", "added UNIQUE (a) DEFERRABLE INITIALLY DEFERRED"),
        STEPS,
    ),
    "unique nulls": Case(
        "a int",
        (column("a", INTEGER), lambda: sa.UniqueConstraint("a", postgresql_nulls_not_distinct=True)),
        "1",
        (1,),
        ("added UNIQUE NULLS NOT DISTINCT (a)",),
        STEPS,
        major=15,
    ),
    "unique that a foreign key needs": Case(
        "a int unique, b int",
        (column("a", INTEGER), column("b", TEXT)),
        "1, 2",
        (1, "2"),
        ("b: integer -> text",),
        REBUILD,
        ("CREATE TABLE child (a int REFERENCES t (a))",),
    ),
    "index that the replica identity needs": Case(
        "a int not null",
        (column("a", INTEGER, nullable=False),),
        "1",
        (1,),
        (),
        NOTHING,
        ("CREATE UNIQUE INDEX i ON t (a)", "ALTER TABLE t REPLICA IDENTITY USING INDEX i"),
    ),
    "check of the same name": Case(
        "a int CONSTRAINT positive CHECK (a > 0)",
        (column("a", INTEGER), lambda: sa.CheckConstraint("a > -1", name="positive")),
        "1",
        (1,),
        ("dropped positive: CHECK ((a > 0))", "added CHECK ((a > '-1'::integer))"),
        STEPS,
    ),
    "check that was never validated": Case(
        "a int",
        (column("a", INTEGER), lambda: sa.CheckConstraint("a > 0", name="positive")),
        "1",
        (1,),
        ("validated positive",),
        STEPS,
        ("ALTER TABLE t ADD CONSTRAINT positive CHECK (a > 0) NOT VALID",),
    ),
    "foreign key added": Case(
        "a int",
        (column("a", INTEGER, sa.ForeignKey("parent.id", ondelete="CASCADE")),),
        "1",
        (1,),
        ("added a foreign key to public.parent",),
        STEPS,
    ),
    "foreign key with other actions": Case(
        "a int CONSTRAINT up REFERENCES parent",
        (column("a", INTEGER, sa.ForeignKey("parent.id", ondelete="SET NULL", name="up")),),
        "1",
        (1,),
        ("dropped up: a foreign key to public.parent", "added a foreign key to public.parent"),
        STEPS,
    ),
    "exclusion": Case(
        "a int4range",
        (column("a", postgresql.INT4RANGE), lambda: postgresql.ExcludeConstraint(("a", "&&"), name="apart")),
        "'[1,2)'",
        (postgresql.Range(1, 2),),
        ("added EXCLUDE USING gist (a WITH &&)",),
        REBUILD,
    ),
    "unique index": Case(
        "a int",
        (column("a", INTEGER), lambda: sa.Index("i", "a", unique=True)),
        "1",
        (1,),
        ("added unique index USING btree (a)",),
        STEPS,
    ),
    "two indexes alike": Case(
        "a int",
        (column("a", INTEGER), lambda: sa.Index("i", "a"), lambda: sa.Index("j", "a")),
        "1",
        (1,),
        ("added index USING btree (a)",),
        STEPS,
        ("CREATE INDEX k ON t (a)",),
    ),
    "index whose name is taken": Case(
        "a int, b int",
        (column("a", INTEGER), column("b", INTEGER), lambda: sa.Index("i", "b")),
        "1, 2",
        (1, 2),
        ("dropped index i: USING btree (a)", "added index USING btree (b)"),
        STEPS,
        ("CREATE INDEX i ON t (a)",),
    ),
    "index that a killed run left": Case(
        "a int",
        (column("a", INTEGER), lambda: sa.Index("i", "a")),
        "1",
        (1,),
        ("dropped index _ingest_step0_x: USING btree (a)", "added index USING btree (a)"),
        STEPS,
        ("CREATE INDEX _ingest_step0_x ON t (a)",),
    ),
    "check that a killed run left": Case(
        "a int",
        (column("a", INTEGER, nullable=False),),
        "1",
        (1,),
        ("a: NOT NULL", "dropped _ingest_step0_x: CHECK ((a IS NOT NULL))"),
        STEPS,
        ("ALTER TABLE t ADD CONSTRAINT _ingest_step0_x CHECK (a IS NOT NULL) NOT VALID",),
    ),
    **{
        f"index by {kind}": Case(
            "a text",
            (column("a", TEXT), lambda kind=kind: sa.Index("i", "a", postgresql_using=kind)),
            "'x'",
            ("x",),
            (f"added index USING {kind} (a)",),
            STEPS,
        )
        for kind in ("hash", "spgist", "brin")
    },
    "index in another order": Case(
        "a int, b text",
        (
            column("a", INTEGER),
            column("b", TEXT),
            lambda: sa.Index("i", sa.text('a DESC NULLS LAST, b COLLATE "C"'), postgresql_with={"fillfactor": 50}),
        ),
        "1, 'x'",
        (1, "x"),
        (
            "dropped index i: USING btree (a, b)",
            'added index USING btree (a DESC NULLS LAST, b COLLATE "C") WITH (fillfactor=50)',
        ),
        STEPS,
        ("CREATE INDEX i ON t (a, b)",),
    ),
    "index tuned by people": Case(
        "a int",
        (column("a", INTEGER, index=True),),
        "1",
        (1,),
        (),
        NOTHING,
        ("CREATE INDEX i ON t (a) WITH (fillfactor = 60)",),
    ),
    "index tuned as declared": Case(
        "a int",
        (column("a", INTEGER), lambda: sa.Index("i", "a", postgresql_with={"fillfactor": 50})),
        "1",
        (1,),
        ("index i: fillfactor=50",),
        IN_PLACE,
        ("CREATE INDEX i ON t (a)",),
    ),
    "labels added": Case(
        "a mood",
        (column("a", sa.Enum("ok", "so", "sad", "bad", name="mood")),),
        "'sad'",
        ("sad",),
        ("mood: added 'so', 'bad'",),
        IN_PLACE,
    ),
    "label taken away": Case(
        "a mood DEFAULT 'sad', b int",
        (column("a", sa.Enum("sad", name="mood")), column("b", INTEGER)),
        "'sad', 1",
        ("sad", 1),
        ("a: mood of 'sad'",),
        REBUILD,
        ("COMMENT ON TYPE mood IS 'moods'", "CREATE VIEW v AS SELECT b FROM t"),
    ),
    "labels in another order": Case(
        "a mood[]",
        (column("a", postgresql.ARRAY(sa.Enum("sad", "ok", name="mood"))),),
        "'{sad,ok}'",
        (["sad", "ok"],),
        ("a: mood of 'sad', 'ok'",),
        REBUILD,
    ),
    "enum to text": Case("a mood", (column("a", TEXT),), "'sad'", ("sad",), ("a: mood -> text",), REBUILD),
    "steps together": Case(
        "a int, b text, c int",
        (
            column("a", INTEGER, primary_key=True),
            column("b", TEXT, nullable=False, unique=True, comment="named"),
            column("c", INTEGER, sa.ForeignKey("parent.id"), index=True, server_default="1"),
            lambda: sa.CheckConstraint("a > 0", name="positive"),
        ),
        "1, 'x', 1",
        (1, "x", 1),
        (
            "a: NOT NULL",
            "b: NOT NULL",
            "c: default 1",
            "added CHECK ((a > 0))",
            "added PRIMARY KEY (a)",
            "added UNIQUE (b)",
            "added index USING btree (c)",
            "added a foreign key to public.parent",
            "b: comment",
        ),
        STEPS,
    ),
}
