"""What people hang on a table: scripts that can be run one after another, in any combination, on `people`.

Scripts are run by a superuser in the role OWNER, to whom the table and the schemas belong; one that needs another
role says SET ROLE or RESET ROLE at its start.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

OWNER = "keeps_owner"
MEMBER = "keeps_member"
"""A member of OWNER, who may therefore do all that an owner may."""
READER, WRITER, OTHER = "keeps_reader", "keeps_writer", "keeps_other"
TABLESPACE, SUBSCRIPTION = "keeps_space", "keeps_subscription"

ORDER = ("id", "name", "age", "number", "mentor", "code", "half")
MOVED = ("number", "code", "mentor", "id", "age", "name", "half")
"""Columns of one type change places: what takes a column by its place takes another one unnoticed."""


def people(*order: str, age: Any = sa.Integer, computed: bool = True) -> sa.Table:
    """The table, with all that the definition decides; its columns in the order given."""
    half = [sa.Computed("mentor / 2", persisted=True)] if computed else []
    columns: dict[str, sa.Column[Any]] = {
        "id": sa.Column("id", sa.Integer, primary_key=True),
        "name": sa.Column("name", sa.Text),
        "age": sa.Column("age", age),
        "number": sa.Column("number", sa.Integer, sa.Identity(always=True, start=100, increment=5)),
        "mentor": sa.Column("mentor", sa.Integer),
        "code": sa.Column("code", sa.Text, nullable=False, unique=True),
        "half": sa.Column("half", sa.Integer, *half),
    }
    table: sa.Table = sa.Table("people", sa.MetaData(), *(columns[name] for name in order or ORDER))
    sa.Index("people_name_idx", table.c.name, postgresql_with={"fillfactor": 70})
    sa.Index("people_lower_idx", sa.text("lower(name)"), table.c.code.desc(), postgresql_where=table.c.id > 0)
    return table


@dataclass(frozen=True)
class Hanging:
    """Something that hangs on the table. Of a `group`, a combination holds one at most.

    `swap` says whether another table can carry it, `moves` whether one with its columns in another order can,
    `by_owner` whether it takes no superuser to carry it, and `combines` whether rows can be replaced in place too while
    it hangs there.
    """

    name: str
    sql: str
    min_version: int = 14
    swap: bool = True
    by_owner: bool = True
    group: str = ""
    combines: bool = True
    moves: bool = True


# What many scripts need: a trigger's function, a table to refer to, and one whose rows must not be touched.
SETTING = f"""
    CREATE SCHEMA elsewhere;
    CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE FUNCTION any_age() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 7';
    CREATE TABLE towns (id int PRIMARY KEY, region int, UNIQUE (id, region));
    INSERT INTO towns VALUES (1, 1), (2, 1);
    CREATE TABLE diary (entry text, person int);
    INSERT INTO diary VALUES ('dear diary', 1);
    GRANT SELECT ON diary TO PUBLIC;
    GRANT USAGE ON SCHEMA elsewhere TO {OTHER}, {WRITER};
    SELECT setval('people_id_seq', 1000), setval('people_number_seq', 2000);
"""

TABLE = (
    Hanging("unlogged", "ALTER TABLE people SET UNLOGGED", group="persistence"),
    Hanging("dropped column", "ALTER TABLE people ADD gone int DEFAULT 7; ALTER TABLE people DROP gone"),
    Hanging("grant to PUBLIC", "GRANT SELECT ON people TO PUBLIC"),
    Hanging("grant to several", f"GRANT SELECT, UPDATE ON people TO {READER}; GRANT ALL ON people TO {OTHER}"),
    Hanging("grant option", f"GRANT SELECT, INSERT ON people TO {WRITER} WITH GRANT OPTION"),
    Hanging(
        "grant by a grantee",
        f"""GRANT DELETE ON people TO {WRITER} WITH GRANT OPTION;
            SET ROLE {WRITER};
            GRANT DELETE ON people TO {READER}""",
    ),
    Hanging("less than an owner's rights", f"REVOKE TRUNCATE ON people FROM {OWNER}"),
    Hanging("maintain", f"GRANT MAINTAIN ON people TO {READER}", min_version=17),
    Hanging("column grant", f"GRANT SELECT (name, age), UPDATE (age) ON people TO {READER}, PUBLIC"),
    Hanging(
        "column grant by a grantee",
        f"""GRANT REFERENCES (id) ON people TO {WRITER} WITH GRANT OPTION;
            SET ROLE {WRITER};
            GRANT REFERENCES (id) ON people TO {READER}""",
    ),
    Hanging(
        "default privileges on tables",
        f"""RESET ROLE;
            ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT ALL ON TABLES TO {OTHER};
            ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} REVOKE TRUNCATE ON TABLES FROM {OWNER};
            ALTER DEFAULT PRIVILEGES FOR ROLE {MEMBER} GRANT SELECT ON TABLES TO PUBLIC;
            ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC""",
    ),
    Hanging(
        "default privileges on sequences",
        f"""RESET ROLE;
            ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT ALL ON SEQUENCES TO {OTHER};
            ALTER DEFAULT PRIVILEGES FOR ROLE {MEMBER} GRANT ALL ON SEQUENCES TO {OTHER};
            ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC""",
    ),
    # With policies, a materialized view of somebody who does not own the table has to stay as it is.
    Hanging("row-level security", "ALTER TABLE people ENABLE ROW LEVEL SECURITY", group="row security"),
    # Forced, policies are for the owner too, and a run that would see part of the rows ends with an error.
    Hanging(
        "forced row-level security",
        "ALTER TABLE people ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        by_owner=False,
        group="row security",
    ),
    Hanging(
        "policies",
        f"""CREATE POLICY "o'wn %s" ON people AS RESTRICTIVE FOR UPDATE TO {READER}, {WRITER}
                USING (name = CURRENT_USER) WITH CHECK (age > any_age());
            CREATE POLICY adding ON people FOR INSERT WITH CHECK (true);
            CREATE POLICY all_of_it ON people USING (id IN (SELECT person FROM diary))""",
    ),
    Hanging(
        "policy that reads the table itself",
        f"""CREATE POLICY itself ON people FOR SELECT TO {READER}
                USING (EXISTS (SELECT FROM people p WHERE p.mentor = people.id))""",
    ),
    Hanging(
        "policy that names all columns",
        f"""CREATE POLICY p_names ON people FOR SELECT TO {READER}
                USING (EXISTS (SELECT b FROM people p (a, b, c) WHERE c > age))""",
        moves=False,
    ),
    Hanging(
        "policy comment",
        "CREATE POLICY noted ON people FOR SELECT USING (true); COMMENT ON POLICY noted ON people IS 'its policy'",
    ),
    Hanging(
        "trigger states",
        """CREATE TRIGGER state_origin BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION watch();
           CREATE TRIGGER state_disabled BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION watch();
           CREATE TRIGGER state_replica BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION watch();
           CREATE TRIGGER state_always BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION watch();
           ALTER TABLE people DISABLE TRIGGER state_disabled, ENABLE REPLICA TRIGGER state_replica,
               ENABLE ALWAYS TRIGGER state_always""",
    ),
    Hanging(
        "trigger with conditions",
        r"""CREATE TRIGGER "if Changed" AFTER UPDATE OF name, age ON people FOR EACH ROW
                WHEN (old.* IS DISTINCT FROM new.*) EXECUTE FUNCTION watch('a ''quoted'' % :word', '\n');
            COMMENT ON TRIGGER "if Changed" ON people IS 'its trigger: 100 % \ it''s'""",
    ),
    Hanging(
        "trigger of statements",
        """CREATE TRIGGER moved AFTER UPDATE ON people REFERENCING OLD TABLE AS was NEW TABLE AS becomes
               FOR EACH STATEMENT EXECUTE FUNCTION watch();
           CREATE TRIGGER emptied BEFORE TRUNCATE ON people EXECUTE FUNCTION watch()""",
    ),
    Hanging("trigger on insert", "CREATE TRIGGER came BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION watch()"),
    Hanging(
        "constraint triggers",
        """CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON people DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION watch();
           CREATE CONSTRAINT TRIGGER of_two AFTER DELETE ON people FROM towns DEFERRABLE
               FOR EACH ROW WHEN (old.age > 100) EXECUTE FUNCTION watch()""",
    ),
    Hanging(
        "comment of a constraint trigger's constraint",
        """CREATE CONSTRAINT TRIGGER remarked AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION watch();
           COMMENT ON CONSTRAINT remarked ON people IS 'its constraint'""",
    ),
    Hanging(
        "trigger that depends on an extension",
        """CREATE TRIGGER extended BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION watch();
           ALTER TRIGGER extended ON people DEPENDS ON EXTENSION plpgsql""",
        swap=False,
    ),
    Hanging(
        "all triggers disabled",
        """ALTER TABLE people ADD CONSTRAINT unwatched FOREIGN KEY (mentor) REFERENCES people;
           RESET ROLE;
           ALTER TABLE people DISABLE TRIGGER ALL""",
        by_owner=False,
        swap=False,
    ),
    Hanging("table comment", r"COMMENT ON TABLE people IS E'It''s 100 % :people, \\ \n and {}'"),
    Hanging("column comments", "COMMENT ON COLUMN people.name IS 'its name'; COMMENT ON COLUMN people.number IS 'No.'"),
    Hanging("key comment", "COMMENT ON CONSTRAINT people_pkey ON people IS 'its key'"),
    Hanging("key index comment", "COMMENT ON INDEX people_pkey IS 'its index'"),
    Hanging("unique comment", "COMMENT ON CONSTRAINT people_code_key ON people IS 'its code'"),
    Hanging("index comment", "COMMENT ON INDEX people_lower_idx IS 'its other index'"),
    Hanging("row type comment", "COMMENT ON TYPE people IS 'its type'", swap=False),
    Hanging(
        "row type grant", f"GRANT USAGE ON TYPE people TO {READER}; REVOKE USAGE ON TYPE people FROM PUBLIC", swap=False
    ),
    Hanging(
        "NOT NULL comment",
        "COMMENT ON CONSTRAINT people_code_not_null ON people IS 'is required'",
        min_version=18,
        group="NOT NULL",
    ),
    Hanging(
        "NOT NULL name",
        "ALTER TABLE people RENAME CONSTRAINT people_id_not_null TO \"needs 'id'\"",
        min_version=18,
    ),
    Hanging(
        "NOT NULL NO INHERIT",
        """ALTER TABLE people ALTER code DROP NOT NULL;
           ALTER TABLE people ADD CONSTRAINT own_code NOT NULL code NO INHERIT""",
        min_version=18,
        group="NOT NULL",
        swap=False,
    ),
    Hanging(
        "NOT NULL NOT VALID",
        """ALTER TABLE people ALTER code DROP NOT NULL;
           ALTER TABLE people ADD CONSTRAINT unproved_code NOT NULL code NOT VALID""",
        min_version=18,
        group="NOT NULL",
        swap=False,
    ),
    Hanging("replica identity full", "ALTER TABLE people REPLICA IDENTITY FULL", group="replica identity"),
    Hanging("replica identity nothing", "ALTER TABLE people REPLICA IDENTITY NOTHING", group="replica identity"),
    Hanging(
        "replica identity of an index",
        "ALTER TABLE people REPLICA IDENTITY USING INDEX people_pkey",
        group="replica identity",
    ),
    Hanging(
        "storage parameters",
        """ALTER TABLE people SET (fillfactor = 60, autovacuum_enabled = off, autovacuum_vacuum_scale_factor = 0.25,
               parallel_workers = 2, toast_tuple_target = 4000, log_autovacuum_min_duration = 5)""",
    ),
    Hanging(
        "TOAST parameters",
        "ALTER TABLE people SET (toast.autovacuum_enabled = off, toast.autovacuum_vacuum_threshold = 9)",
    ),
    Hanging("column storage", "ALTER TABLE people ALTER name SET STORAGE EXTERNAL, ALTER code SET STORAGE MAIN"),
    Hanging("column compression", "ALTER TABLE people ALTER name SET COMPRESSION pglz"),
    Hanging("column options", "ALTER TABLE people ALTER name SET (n_distinct = -0.5, n_distinct_inherited = 9)"),
    Hanging("statistics targets", "ALTER TABLE people ALTER age SET STATISTICS 7, ALTER half SET STATISTICS 0"),
    Hanging(
        "extended statistics",
        """CREATE STATISTICS people_stats (ndistinct, mcv) ON name, age FROM people;
           CREATE STATISTICS elsewhere.people_stats ON lower(name), (age + 1) FROM people;
           COMMENT ON STATISTICS elsewhere.people_stats IS 'its statistics'""",
    ),
    Hanging(
        "extended statistics target",
        "CREATE STATISTICS aimed ON age, mentor FROM people; ALTER STATISTICS aimed SET STATISTICS 33",
    ),
    Hanging(
        "extended statistics of somebody else",
        f"""CREATE STATISTICS elsewhere.foreign_stats ON age, code FROM people;
            RESET ROLE;
            GRANT CREATE ON SCHEMA elsewhere TO {OTHER};
            ALTER STATISTICS elsewhere.foreign_stats OWNER TO {OTHER}""",
        by_owner=False,
    ),
    Hanging("defaults", "ALTER TABLE people ALTER name SET DEFAULT 'it''s %', ALTER age SET DEFAULT any_age()"),
    Hanging(
        "default of a sequence",
        "CREATE SEQUENCE shared; ALTER TABLE people ALTER mentor SET DEFAULT nextval('shared')",
        group="mentor default",
    ),
    Hanging(
        "owned sequence",
        """CREATE SEQUENCE elsewhere_seq AS smallint START 7 INCREMENT BY 3 CYCLE OWNED BY people.mentor;
           ALTER TABLE people ALTER mentor SET DEFAULT nextval('elsewhere_seq')""",
        group="mentor default",
    ),
    Hanging(
        "serial that draws from elsewhere",
        "CREATE SEQUENCE common; ALTER TABLE people ALTER id SET DEFAULT nextval('common')",
        group="serial",
    ),
    Hanging("serial without its default", "ALTER TABLE people ALTER id DROP DEFAULT", group="serial"),
    Hanging("two sequences of a column", "CREATE SEQUENCE spare START 70 OWNED BY people.id"),
    Hanging("identity's sequence: grants", f"GRANT USAGE ON SEQUENCE people_number_seq TO {READER} WITH GRANT OPTION"),
    Hanging("identity's sequence: comment", "COMMENT ON SEQUENCE people_number_seq IS 'its numbers'"),
    Hanging("identity's sequence: type", "ALTER SEQUENCE people_number_seq AS bigint MAXVALUE 2147483647"),
    Hanging("identity's sequence: unlogged", "ALTER SEQUENCE people_number_seq SET UNLOGGED", min_version=15),
    Hanging("CHECK", "ALTER TABLE people ADD CONSTRAINT \"it's %s\" CHECK (age > 0 AND name <> ':x %')"),
    Hanging(
        "CHECK comment", "ALTER TABLE people ADD CHECK (id > 0); COMMENT ON CONSTRAINT people_id_check ON people IS 'x'"
    ),
    Hanging("CHECK NOT VALID", "ALTER TABLE people ADD CONSTRAINT unproved CHECK (age > 1) NOT VALID"),
    Hanging(
        "CHECK NOT VALID that rows stand against",
        "ALTER TABLE people ADD CONSTRAINT for_new_rows CHECK (age <> 33) NOT VALID",
    ),
    Hanging("CHECK NO INHERIT", "ALTER TABLE people ADD CONSTRAINT own_only CHECK (age > 2) NO INHERIT"),
    # Nothing inherits from a table with one of these two checks.
    Hanging(
        "CHECK of the whole row",
        "ALTER TABLE people ADD CONSTRAINT whole CHECK (people IS DISTINCT FROM NULL)",
        group="heirs",
        swap=False,
    ),
    Hanging(
        "CHECK that names the table",
        "ALTER TABLE people ADD CHECK (tableoid = 'people'::regclass)",
        group="heirs",
        swap=False,
    ),
    Hanging(
        "CHECK NOT ENFORCED", "ALTER TABLE people ADD CONSTRAINT wish CHECK (age > 90) NOT ENFORCED", min_version=18
    ),
    Hanging(
        "EXCLUDE",
        """ALTER TABLE people ADD CONSTRAINT apart EXCLUDE (code WITH =) WITH (fillfactor = 60) WHERE (id > 0)
               DEFERRABLE INITIALLY DEFERRED;
           COMMENT ON CONSTRAINT apart ON people IS 'its exclusion'; COMMENT ON INDEX apart IS 'its index'""",
    ),
    Hanging(
        "outgoing keys",
        """ALTER TABLE people ADD CONSTRAINT lives FOREIGN KEY (mentor) REFERENCES towns
               ON UPDATE CASCADE ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED;
           ALTER TABLE people ADD CONSTRAINT lives_too FOREIGN KEY (mentor, half) REFERENCES towns (id, region)
               MATCH FULL NOT VALID;
           COMMENT ON CONSTRAINT lives ON people IS 'its town'""",
    ),
    Hanging(
        "outgoing keys of the same columns",
        """ALTER TABLE people ADD CONSTRAINT first_town FOREIGN KEY (mentor) REFERENCES towns;
           ALTER TABLE people ADD CONSTRAINT second_town FOREIGN KEY (mentor) REFERENCES towns ON DELETE CASCADE""",
    ),
    Hanging(
        "outgoing key that sets some columns",
        """ALTER TABLE people ADD CONSTRAINT some_columns FOREIGN KEY (mentor) REFERENCES towns
               ON DELETE SET DEFAULT (mentor)""",
        min_version=15,
    ),
    Hanging(
        "outgoing key NOT ENFORCED",
        "ALTER TABLE people ADD CONSTRAINT wished FOREIGN KEY (age) REFERENCES towns NOT ENFORCED",
        min_version=18,
    ),
    Hanging(
        "self-referring keys",
        """ALTER TABLE people ADD CONSTRAINT mentored FOREIGN KEY (mentor) REFERENCES people ON DELETE SET NULL;
           ALTER TABLE people ADD CONSTRAINT maybe FOREIGN KEY (half) REFERENCES people DEFERRABLE NOT VALID;
           COMMENT ON CONSTRAINT mentored ON people IS 'its mentor'""",
    ),
    Hanging(
        "rules",
        """CREATE RULE "quiet %" AS ON DELETE TO people WHERE old.id < 0 DO INSTEAD NOTHING;
           CREATE RULE unquiet AS ON DELETE TO people WHERE old.id < 0
               DO ALSO INSERT INTO diary VALUES ('gone', old.id);
           ALTER TABLE people DISABLE RULE unquiet;
           COMMENT ON RULE unquiet ON people IS 'its rule'""",
        combines=False,
    ),
    Hanging(
        "rules on update",
        """CREATE RULE renames AS ON UPDATE TO people WHERE old.id < 0 DO INSTEAD NOTHING;
           CREATE RULE elsewhere AS ON UPDATE TO people WHERE old.id < 0
               DO ALSO INSERT INTO diary VALUES ('renamed', old.id);
           ALTER TABLE people ENABLE ALWAYS RULE renames;
           ALTER TABLE people ENABLE REPLICA RULE elsewhere""",
        combines=False,
    ),
    Hanging(
        "rule that names all columns",
        """CREATE RULE r_names AS ON DELETE TO people WHERE old.id < 0
               DO ALSO INSERT INTO diary SELECT b, a FROM people p (a, b)""",
        moves=False,
        combines=False,
    ),
    Hanging(
        "rule on insert",
        "CREATE RULE enters AS ON INSERT TO people WHERE new.id < 0 DO INSTEAD NOTHING",
        combines=False,
    ),
    Hanging("cluster mark", "ALTER TABLE people CLUSTER ON people_name_idx", group="cluster"),
    Hanging("clustered by the key", "CLUSTER people USING people_pkey", group="cluster"),
    Hanging("index statistics target", "ALTER INDEX people_lower_idx ALTER COLUMN 1 SET STATISTICS 44"),
    Hanging("index parameters", "ALTER INDEX people_lower_idx SET (fillfactor = 55, deduplicate_items = off)"),
    Hanging("key parameters", "ALTER INDEX people_pkey SET (fillfactor = 55)"),
    Hanging(
        "index that depends on an extension", "ALTER INDEX people_name_idx DEPENDS ON EXTENSION plpgsql", swap=False
    ),
    Hanging(
        "tablespaces",
        f"""ALTER TABLE people SET TABLESPACE {TABLESPACE};
            ALTER INDEX people_pkey SET TABLESPACE {TABLESPACE};
            ALTER INDEX people_lower_idx SET TABLESPACE {TABLESPACE}""",
    ),
    Hanging(
        "access method",
        """RESET ROLE;
           CREATE ACCESS METHOD heaped TYPE TABLE HANDLER heap_tableam_handler;
           ALTER TABLE people SET ACCESS METHOD heaped""",
        min_version=15,
    ),
)
