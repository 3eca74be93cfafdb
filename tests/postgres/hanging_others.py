"""What people hang on the table `people` from outside: keys, views, and all that uses it."""

from tests.postgres.hanging import OTHER, READER, SUBSCRIPTION, TABLESPACE, WRITER, Hanging

# Children are unlogged, so that they may refer to an unlogged table too.
KEYS = (
    Hanging(
        "inbound keys",
        """CREATE UNLOGGED TABLE child (a int DEFAULT 2 REFERENCES people ON UPDATE RESTRICT ON DELETE SET DEFAULT,
               b int, c text REFERENCES people (code) MATCH FULL ON UPDATE CASCADE);
           ALTER TABLE child ADD CONSTRAINT "b's" FOREIGN KEY (b) REFERENCES people DEFERRABLE INITIALLY DEFERRED;
           INSERT INTO child VALUES (1, 2, 'c-2'), (NULL, NULL, NULL)""",
    ),
    Hanging(
        "inbound key NOT VALID",
        """CREATE UNLOGGED TABLE unproved (a int);
           INSERT INTO unproved VALUES (77);
           ALTER TABLE unproved ADD FOREIGN KEY (a) REFERENCES people NOT VALID""",
    ),
    Hanging(
        "inbound key comment",
        """CREATE UNLOGGED TABLE remarked (a int REFERENCES people);
           COMMENT ON CONSTRAINT remarked_a_fkey ON remarked IS 'its person'""",
    ),
    Hanging(
        "inbound key that sets some columns",
        """CREATE UNLOGGED TABLE setting (a int, b text, c int,
               UNIQUE (a), FOREIGN KEY (a) REFERENCES people ON DELETE SET NULL (a))""",
        min_version=15,
    ),
    Hanging(
        "inbound key NOT ENFORCED",
        "CREATE UNLOGGED TABLE wishing (a int REFERENCES people NOT ENFORCED); INSERT INTO wishing VALUES (78)",
        min_version=18,
    ),
    Hanging(
        "inbound key with its triggers disabled",
        """CREATE UNLOGGED TABLE unchecked (a int REFERENCES people);
           RESET ROLE;
           ALTER TABLE unchecked DISABLE TRIGGER ALL""",
        by_owner=False,
        swap=False,
    ),
    Hanging(
        "inbound key of a partitioned table",
        """CREATE TABLE divided (a int REFERENCES people) PARTITION BY LIST (a);
           CREATE TABLE divided_1 PARTITION OF divided FOR VALUES IN (1);
           CREATE TABLE divided_2 PARTITION OF divided DEFAULT;
           INSERT INTO divided VALUES (1), (2)""",
        swap=False,
        group="persistence",
    ),
    Hanging(
        "inbound key of a partition",
        """CREATE TABLE shares (a int) PARTITION BY LIST (a);
           CREATE UNLOGGED TABLE share PARTITION OF shares DEFAULT;
           ALTER TABLE share ADD FOREIGN KEY (a) REFERENCES people;
           INSERT INTO shares VALUES (1)""",
    ),
    Hanging(
        "inbound key of somebody else",
        f"""GRANT REFERENCES, SELECT ON people TO {OTHER};
            RESET ROLE;
            CREATE UNLOGGED TABLE elsewhere.theirs (a int REFERENCES people);
            ALTER TABLE elsewhere.theirs OWNER TO {OTHER}""",
        by_owner=False,
    ),
)

VIEWS = (
    Hanging(
        "view",
        f"""CREATE VIEW named WITH (security_barrier) AS SELECT name, id, age FROM people WHERE id > 0;
            GRANT SELECT ON named TO {READER} WITH GRANT OPTION;
            GRANT UPDATE (name) ON named TO {WRITER};
            COMMENT ON VIEW named IS 'its view';
            COMMENT ON COLUMN named.name IS 'its name';
            ALTER VIEW named ALTER name SET DEFAULT 'nobody'""",
    ),
    Hanging(
        "view over views",
        """CREATE VIEW below AS SELECT * FROM people;
           CREATE VIEW elsewhere.between AS SELECT b.*, p.code AS again FROM below b JOIN people p USING (id);
           CREATE VIEW above (number) AS SELECT count(*) FROM elsewhere.between;
           COMMENT ON COLUMN above.number IS 'how many'""",
    ),
    Hanging(
        "security invoker", "CREATE VIEW invoked WITH (security_invoker) AS SELECT age FROM people", min_version=15
    ),
    Hanging(
        "check options",
        """CREATE VIEW local_check AS SELECT * FROM people WHERE id > 0 WITH LOCAL CHECK OPTION;
           CREATE VIEW cascaded_check AS SELECT * FROM local_check WHERE age > 0 WITH CASCADED CHECK OPTION""",
    ),
    Hanging(
        "INSTEAD OF triggers",
        """CREATE VIEW watched_view AS SELECT id, name, age FROM people;
           CREATE TRIGGER instead INSTEAD OF UPDATE ON watched_view FOR EACH ROW EXECUTE FUNCTION watch('x');
           COMMENT ON TRIGGER instead ON watched_view IS 'its trigger'""",
    ),
    Hanging(
        "rule of a view",
        """CREATE VIEW ruled AS SELECT id, age FROM people;
           CREATE RULE ignores AS ON DELETE TO ruled DO INSTEAD NOTHING;
           COMMENT ON RULE ignores ON ruled IS 'its rule'""",
    ),
    Hanging(
        "rule of a view that writes the table",
        """CREATE VIEW writing AS SELECT id, name FROM people;
           CREATE RULE writes AS ON UPDATE TO writing DO INSTEAD UPDATE people SET name = new.name WHERE id = old.id""",
        swap=False,
    ),
    Hanging(
        "view by functional dependency",
        """CREATE VIEW grouped AS SELECT p.id, p.name, p.age, count(*) FROM people p JOIN people q USING (id)
               GROUP BY p.id""",
    ),
    Hanging(
        "recursive view",
        """CREATE RECURSIVE VIEW line (id, depth) AS SELECT id, 1 FROM people WHERE mentor IS NULL
               UNION SELECT p.id, depth + 1 FROM people p JOIN line ON line.id = p.mentor""",
    ),
    Hanging("view of rows as JSON", "CREATE VIEW documents AS SELECT to_jsonb(p) - 'age' AS document FROM people p"),
    Hanging(
        "view that makes rows",
        """CREATE VIEW populated AS
               SELECT r.name FROM jsonb_populate_recordset(NULL::people, '[{"name": "x"}]') r""",
        swap=False,
    ),
    # PostgreSQL prints such names for all columns of the table, in their order.
    Hanging(
        "view that names all columns",
        """CREATE VIEW christened AS SELECT b AS name, c AS age FROM people p (a, b, c) WHERE a > 0;
           COMMENT ON VIEW christened IS 'name and age'""",
        moves=False,
    ),
    Hanging(
        "view of system columns",
        "CREATE VIEW places AS SELECT tableoid::regclass AS place, xmin IS NULL AS frozen FROM people",
    ),
    Hanging("view of the table's name", "CREATE VIEW size AS SELECT pg_relation_size('people'::regclass) > 0 AS full"),
    Hanging("view that locks", "CREATE VIEW locking AS SELECT id, age FROM people FOR UPDATE"),
    Hanging("view of a sample", "CREATE VIEW sampled AS SELECT age FROM people TABLESAMPLE bernoulli (100)"),
    Hanging(
        "view with renamed columns",
        """CREATE VIEW renamed AS SELECT id, age AS years FROM people;
           ALTER VIEW renamed RENAME years TO "Jahre %";
           CREATE VIEW joined AS SELECT * FROM renamed r (a, b) NATURAL JOIN people p""",
    ),
    Hanging(
        "view of somebody else",
        f"""GRANT SELECT ON people TO {OTHER};
            RESET ROLE;
            CREATE VIEW elsewhere.their_view AS SELECT id, age FROM people;
            ALTER VIEW elsewhere.their_view OWNER TO {OTHER};
            CREATE VIEW over_theirs AS SELECT age FROM elsewhere.their_view;
            ALTER VIEW over_theirs OWNER TO {OTHER}""",
        by_owner=False,
    ),
    Hanging(
        "view of a member",
        f"""GRANT SELECT ON people TO {WRITER};
            RESET ROLE;
            CREATE VIEW members_view AS SELECT id, age FROM people;
            GRANT CREATE ON SCHEMA public TO {WRITER};
            ALTER VIEW members_view OWNER TO {WRITER}""",
    ),
    Hanging(
        "what uses a view",
        """CREATE VIEW used AS SELECT id, name, age FROM people;
           CREATE FUNCTION takes_used(used) RETURNS int LANGUAGE sql AS 'SELECT 1';
           CREATE TABLE guarded (a int);
           CREATE POLICY reads_used ON guarded USING (EXISTS (SELECT FROM used))""",
    ),
    Hanging(
        "materialized view",
        f"""CREATE MATERIALIZED VIEW ages AS SELECT age, count(*) FROM people GROUP BY age;
            CREATE UNIQUE INDEX "ages' index" ON ages (age) WITH (fillfactor = 60);
            GRANT SELECT ON ages TO {READER}; GRANT SELECT (age) ON ages TO {WRITER};
            COMMENT ON MATERIALIZED VIEW ages IS 'its ages';
            COMMENT ON COLUMN ages.age IS 'its age';
            ALTER MATERIALIZED VIEW ages CLUSTER ON "ages' index";
            ALTER MATERIALIZED VIEW ages SET (fillfactor = 50, autovacuum_enabled = off);
            CREATE VIEW over_ages AS SELECT age FROM ages""",
    ),
    Hanging(
        "materialized view that reads a view",
        """CREATE VIEW source AS SELECT id, code FROM people;
           CREATE MATERIALIZED VIEW indirect AS SELECT * FROM source;
           CREATE MATERIALIZED VIEW unread AS SELECT count(*) FROM source WITH NO DATA""",
    ),
    Hanging(
        "materialized views of materialized views",
        """CREATE MATERIALIZED VIEW elsewhere.first_level AS SELECT id, age FROM people;
           CREATE MATERIALIZED VIEW second_level AS
               SELECT id, age FROM elsewhere.first_level JOIN people USING (id, age);
           CREATE INDEX ON second_level (age);
           CREATE VIEW third_level AS SELECT age FROM second_level""",
    ),
    Hanging(
        "materialized view without data",
        "CREATE MATERIALIZED VIEW empty AS SELECT age, code FROM people WITH NO DATA; CREATE INDEX ON empty (age)",
    ),
    Hanging(
        "materialized view's tuning",
        """CREATE MATERIALIZED VIEW tuned AS SELECT id, name FROM people;
           ALTER MATERIALIZED VIEW tuned ALTER name SET STORAGE EXTERNAL, ALTER name SET COMPRESSION pglz,
               ALTER name SET STATISTICS 5, ALTER id SET (n_distinct = 5)""",
    ),
    Hanging(
        "materialized view's index tuning",
        f"""CREATE MATERIALIZED VIEW sought AS SELECT id, name FROM people;
            CREATE INDEX sought_index ON sought (lower(name)) TABLESPACE {TABLESPACE};
            COMMENT ON INDEX sought_index IS 'its index';
            ALTER INDEX sought_index ALTER COLUMN 1 SET STATISTICS 6""",
    ),
    Hanging(
        "materialized view's statistics",
        """CREATE MATERIALIZED VIEW counted AS SELECT id, name FROM people;
           CREATE STATISTICS counts ON id, name FROM counted""",
    ),
    Hanging(
        "materialized view of a member",
        f"""GRANT SELECT ON people TO {WRITER};
            RESET ROLE;
            CREATE MATERIALIZED VIEW members_ages AS SELECT age FROM people;
            GRANT CREATE ON SCHEMA public TO {WRITER};
            ALTER MATERIALIZED VIEW members_ages OWNER TO {WRITER}""",
        group="row security",
    ),
    Hanging(
        "materialized view of the table and of a view on it",
        """CREATE VIEW called AS SELECT id, name FROM people;
           CREATE MATERIALIZED VIEW both_ways AS SELECT p.age, c.name FROM people p JOIN called c USING (id)""",
        swap=False,
    ),
    Hanging(
        "row type of a materialized view",
        """CREATE MATERIALIZED VIEW typed AS SELECT id, mentor FROM people;
           CREATE FUNCTION takes_typed(typed) RETURNS int LANGUAGE sql AS 'SELECT 1'""",
        swap=False,
    ),
    Hanging(
        "policy of another table that reads a materialized view",
        """CREATE MATERIALIZED VIEW consulted AS SELECT id FROM people;
           CREATE TABLE consulting (a int);
           CREATE POLICY consults ON consulting USING (EXISTS (SELECT FROM consulted))""",
        swap=False,
    ),
    Hanging(
        "function that reads a materialized view",
        """CREATE MATERIALIZED VIEW atomic_ages AS SELECT id FROM people;
           CREATE FUNCTION of_ages() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM atomic_ages; END""",
        swap=False,
    ),
    Hanging(
        "materialized view of an extension",
        """RESET ROLE;
           CREATE MATERIALIZED VIEW extension_view AS SELECT id FROM people;
           ALTER EXTENSION plpgsql ADD MATERIALIZED VIEW extension_view""",
        swap=False,
    ),
)

USERS = (
    Hanging(
        "functions by name",
        """CREATE FUNCTION how_many() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM people';
           CREATE FUNCTION the_first() RETURNS text LANGUAGE plpgsql AS
               'DECLARE p people; BEGIN SELECT * INTO p FROM people ORDER BY id LIMIT 1; RETURN p.code; END';
           CREATE VIEW by_function AS SELECT how_many(), the_first()""",
    ),
    Hanging(
        "another table that draws from the identity",
        "CREATE TABLE drawing (a int DEFAULT nextval('people_number_seq'), b int DEFAULT nextval('people_id_seq'))",
        swap=False,
    ),
    Hanging(
        "view of the identity's sequence", "CREATE VIEW stand AS SELECT last_value FROM people_number_seq", swap=False
    ),
    Hanging(
        "policy of another table",
        """CREATE TABLE secured (a int);
           CREATE POLICY reads ON secured USING (EXISTS (SELECT FROM people WHERE people.id = secured.a))""",
        swap=False,
    ),
    Hanging(
        "rule of another table",
        """CREATE TABLE ruling (a int);
           CREATE RULE deletes AS ON INSERT TO ruling DO ALSO DELETE FROM people WHERE id = new.a""",
        swap=False,
    ),
    Hanging(
        "trigger of another table",
        """CREATE CONSTRAINT TRIGGER from_people AFTER UPDATE ON diary FROM people
               FOR EACH ROW EXECUTE FUNCTION watch()""",
        swap=False,
    ),
    Hanging(
        "function of the row type", "CREATE FUNCTION takes(people) RETURNS int LANGUAGE sql AS 'SELECT 1'", swap=False
    ),
    Hanging(
        "function that returns rows",
        "CREATE FUNCTION gives() RETURNS SETOF people LANGUAGE sql AS 'SELECT * FROM people'",
        swap=False,
    ),
    Hanging(
        "column of the row type", "CREATE TABLE holding (person people); INSERT INTO holding VALUES (NULL)", swap=False
    ),
    Hanging("column of an array of rows", "CREATE TABLE listing (persons people[])", swap=False),
    Hanging("domain over the row type", "CREATE DOMAIN citizen AS people CHECK ((VALUE).age > 0)", swap=False),
    Hanging("type of the row type", "CREATE TYPE pair AS (a people, b int)", swap=False),
    Hanging("view of whole rows", "CREATE VIEW whole_rows AS SELECT p FROM people p", swap=False),
    Hanging(
        "function with a parsed body",
        "CREATE FUNCTION parsed() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM people; END",
        swap=False,
    ),
    Hanging(
        "publication",
        "RESET ROLE; CREATE PUBLICATION of_people FOR TABLE people WITH (publish = 'insert')",
        swap=False,
        group="persistence",
    ),
    Hanging(
        "publication of some columns and rows",
        """RESET ROLE;
           CREATE PUBLICATION of_some FOR TABLE people (id, age) WHERE (id > 0) WITH (publish = 'insert')""",
        min_version=15,
        swap=False,
        group="persistence",
    ),
    Hanging(
        "publication of all tables",
        "RESET ROLE; CREATE PUBLICATION of_all FOR ALL TABLES WITH (publish = 'insert')",
        swap=False,
        group="publication",
    ),
    Hanging(
        "publication of the schema",
        "RESET ROLE; CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA public WITH (publish = 'insert')",
        min_version=15,
        swap=False,
        group="publication",
    ),
    Hanging(
        "subscription",
        f"""RESET ROLE;
            CREATE SUBSCRIPTION {SUBSCRIPTION} CONNECTION 'dbname=none' PUBLICATION none
                WITH (connect = false, slot_name = NONE);
            SET allow_system_table_mods = on;
            INSERT INTO pg_subscription_rel SELECT oid, 'people'::regclass, 'r' FROM pg_subscription;
            RESET allow_system_table_mods""",
        swap=False,
    ),
    Hanging("member of an extension", "RESET ROLE; ALTER EXTENSION plpgsql ADD TABLE people", swap=False),
    Hanging(
        "heir",
        """CREATE TABLE heir (more int) INHERITS (people);
           INSERT INTO heir (id, name, age, number, code) VALUES (3, 'Heir', 3, 1, 'h-3'), (9, 'Air', 9, 2, 'h-9')""",
        swap=False,
        group="heirs",
    ),
    Hanging("parent", "CREATE TABLE forebears (name text); ALTER TABLE people INHERIT forebears", swap=False),
)

# After all that says the names that these change.
NAMES = (
    Hanging(
        "serial's sequence",
        f"""GRANT USAGE ON SEQUENCE people_id_seq TO {READER};
            COMMENT ON SEQUENCE people_id_seq IS 'its sequence';
            ALTER SEQUENCE people_id_seq RENAME TO "id's seq";
            ALTER SEQUENCE "id's seq" INCREMENT BY 3 CACHE 5""",
    ),
    Hanging(
        "names",
        """ALTER TABLE people RENAME CONSTRAINT people_pkey TO "the Key";
           ALTER TABLE people RENAME CONSTRAINT people_code_key TO "people's code";
           ALTER INDEX people_name_idx RENAME TO "Name %s";
           ALTER INDEX people_lower_idx RENAME TO people_name_idx;
           ALTER SEQUENCE people_number_seq RENAME TO "number's"
        """,
    ),
)
