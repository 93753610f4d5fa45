-- The server's log as tables of the database postgres: one for each file of the week, and all of them together. Variables: admin,
-- hourly. A query reads whole files. Their columns are those of PostgreSQL 14 and later.
BEGIN;
-- The owner of a parent table reads its children, whatever their own rights are.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relowner <> session_user::regrole
            AND (relname ~ '^postgres_log(_|$)' OR relname ~ '^failed_authentication(_|$)')
    ) THEN
        RAISE EXCEPTION 'there is a table postgres_log of another owner, or one of its parts: nothing is put below it';
    END IF;
END $$;
CREATE EXTENSION IF NOT EXISTS file_fdw SCHEMA public;
SELECT 'CREATE SERVER pglog FOREIGN DATA WRAPPER file_fdw'
WHERE NOT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'pglog') \gexec

CREATE TABLE IF NOT EXISTS public.postgres_log (
    log_time timestamp(3) with time zone,
    user_name text,
    database_name text,
    process_id integer,
    connection_from text,
    session_id text NOT NULL,
    session_line_num bigint NOT NULL,
    command_tag text,
    session_start_time timestamp with time zone,
    virtual_transaction_id text,
    transaction_id bigint,
    error_severity text,
    sql_state_code text,
    message text,
    detail text,
    hint text,
    internal_query text,
    internal_query_pos integer,
    context text,
    query text,
    query_pos integer,
    location text,
    application_name text,
    backend_type text,
    leader_pid integer,
    query_id bigint
);
SELECT format('GRANT SELECT ON public.postgres_log TO %I', :'admin') \gexec

-- Files: of a weekday, or of an hour of one. The entrypoint has made each, because the scan of a missing file fails.
CREATE TEMP TABLE log_file ON COMMIT DROP AS
SELECT
    'postgres_log_' || day || coalesce('_' || hour, '') AS relation,
    day::text,
    current_setting('log_directory') || '/postgresql-' || day || coalesce('-' || hour, '') || '.csv' AS path
FROM generate_series(1, 7) AS day,
    LATERAL (
        SELECT NULL AS hour WHERE NOT :'hourly'::boolean
        UNION ALL
        SELECT lpad(h::text, 2, '0') FROM generate_series(0, 23) AS h WHERE :'hourly'::boolean
    ) AS hours;

SELECT format(
    'CREATE FOREIGN TABLE public.%1$I () INHERITS (public.postgres_log) SERVER pglog OPTIONS (filename %2$L, format ''csv'');'
    'GRANT SELECT ON public.%1$I TO %3$I',
    relation, path, :'admin')
FROM log_file
WHERE to_regclass('public.' || relation) IS NULL \gexec

SELECT format(
    'CREATE OR REPLACE VIEW public.%I AS SELECT * FROM public.%I WHERE command_tag = ''authentication'' AND error_severity = ''FATAL'';'
    'GRANT SELECT ON public.%1$I TO robot_zmon',
    replace(relation, 'postgres_log', 'failed_authentication'), relation)
FROM log_file
WHERE to_regclass('public.' || replace(relation, 'postgres_log', 'failed_authentication')) IS NULL \gexec
COMMIT;
