-- Functions by which the role of administrators manages other roles, without rights of its own to do so. Variables: admin, human.
--
-- They run with the rights of a superuser. So none touches a role that can become one, by whatever way.
BEGIN;
-- One that a database's owner has made first would run what that owner wants with our rights.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'user_management' AND nspowner <> session_user::regrole) THEN
        RAISE EXCEPTION 'there is a schema user_management of another owner: nothing is put into it';
    END IF;
END $$;
CREATE SCHEMA IF NOT EXISTS user_management;
SELECT format('GRANT USAGE ON SCHEMA user_management TO %I', :'admin') \gexec

CREATE OR REPLACE FUNCTION user_management.refuse_privileged(role_name text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A longer name means the role of its first 63 bytes, to the commands as well.
    IF EXISTS (
        SELECT
        FROM pg_roles AS target, pg_roles AS power
        WHERE target.rolname = role_name::name
            AND (power.rolsuper OR power.rolreplication OR power.rolbypassrls OR power.rolcreaterole
                OR power.rolname LIKE 'pg\_%' AND power.rolname NOT IN (
                    'pg_monitor', 'pg_read_all_settings', 'pg_read_all_stats', 'pg_stat_scan_tables', 'pg_database_owner'
                ))
            AND pg_has_role(target.oid, power.oid, 'MEMBER')
    ) OR role_name LIKE 'pg\_%' THEN
        RAISE EXCEPTION 'role % has rights that these functions do not manage', quote_ident(role_name)
            USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

-- Roles that others are granted, and that are made here.
CREATE OR REPLACE FUNCTION user_management.refuse_ours(role_name text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF role_name::name IN (
        'cron_admin', 'robot_zmon', current_setting('user_management.admin'), current_setting('user_management.human')
    ) THEN
        RAISE EXCEPTION 'role % is one that these functions do not manage', quote_ident(role_name)
            USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION user_management.random_password(length integer) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    letters constant text := 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
    password text := '';
    random bytea;
BEGIN
    IF length IS NULL OR length NOT BETWEEN 8 AND 256 THEN
        RAISE EXCEPTION 'a password has 8 to 256 characters, not %', length USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- The bytes of a random UUID are of the server's cryptographic generator; two of them have fixed bits.
    WHILE char_length(password) < length LOOP
        random := uuid_send(gen_random_uuid());
        FOR at IN 0..15 LOOP
            IF at NOT IN (6, 8) AND get_byte(random, at) < 248 AND char_length(password) < length THEN
                password := password || substr(letters, get_byte(random, at) % 62 + 1, 1);
            END IF;
        END LOOP;
    END LOOP;
    RETURN password;
END $$;

CREATE OR REPLACE FUNCTION user_management.create_application_user(username text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    password constant text := user_management.random_password(20);
BEGIN
    EXECUTE format('CREATE ROLE %I LOGIN PASSWORD %L', username, password);
    RETURN password;
END $$;

CREATE OR REPLACE FUNCTION user_management.create_application_user_or_change_password(username text, password text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM user_management.refuse_privileged(username);
    PERFORM user_management.refuse_ours(username);
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = username::name) THEN
        EXECUTE format('ALTER ROLE %I PASSWORD %L', username, password);
    ELSE
        EXECUTE format('CREATE ROLE %I LOGIN PASSWORD %L', username, password);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION user_management.create_role(rolename text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE ROLE %I ROLE %I', rolename, current_setting('user_management.admin'));
END $$;

CREATE OR REPLACE FUNCTION user_management.create_user(username text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE ROLE %I LOGIN IN ROLE %I, %I', username,
        current_setting('user_management.human'), current_setting('user_management.admin'));
    EXECUTE format('ALTER ROLE %I SET log_statement TO ''all''', username);
END $$;

CREATE OR REPLACE FUNCTION user_management.revoke_admin(username text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('REVOKE %I FROM %I', current_setting('user_management.admin'), username);
END $$;

CREATE OR REPLACE FUNCTION user_management.drop_role(username text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM user_management.refuse_privileged(username);
    PERFORM user_management.refuse_ours(username);
    EXECUTE format('DROP ROLE %I', username);
END $$;

CREATE OR REPLACE FUNCTION user_management.drop_user(username text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM user_management.drop_role(username);
END $$;

CREATE OR REPLACE FUNCTION user_management.terminate_backend(pid integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner name;
BEGIN
    SELECT usename INTO owner FROM pg_stat_activity AS backend
    WHERE backend.pid = terminate_backend.pid AND backend_type = 'client backend';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'process % is no client''s', pid USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM user_management.refuse_privileged(owner);
    RETURN pg_terminate_backend(pid);
END $$;

-- The names of the two roles, for the functions above.
SELECT format('ALTER FUNCTION user_management.%s SET user_management.%s TO %L', function, setting, value)
FROM (VALUES
    ('refuse_ours(text)', 'admin', :'admin'),
    ('refuse_ours(text)', 'human', :'human'),
    ('create_role(text)', 'admin', :'admin'),
    ('create_user(text)', 'admin', :'admin'),
    ('create_user(text)', 'human', :'human'),
    ('revoke_admin(text)', 'admin', :'admin')
) AS wanted (function, setting, value) \gexec

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA user_management FROM PUBLIC;
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', oid::regprocedure, :'admin')
FROM pg_catalog.pg_proc
WHERE pronamespace = 'user_management'::regnamespace AND proname NOT IN ('refuse_privileged', 'refuse_ours') \gexec
SELECT format('GRANT SELECT ON pg_catalog.pg_stat_activity TO %I', :'admin') \gexec
COMMIT;
