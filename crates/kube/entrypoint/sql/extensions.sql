-- Extensions of every database, as far as they are installed, and loaded where they have to be. Variable: admin.
SELECT string_to_array(replace(replace(current_setting('shared_preload_libraries'), ' ', ''), '"', ''), ',')::text AS loaded \gset

SELECT format('CREATE EXTENSION IF NOT EXISTS %I SCHEMA public', wanted)
FROM unnest(ARRAY['pg_stat_statements', 'pg_stat_kcache', 'set_user']) WITH ORDINALITY AS e (wanted, place)
    JOIN pg_catalog.pg_available_extensions AS available ON available.name = wanted
WHERE available.installed_version IS NULL
    AND wanted = ANY (:'loaded'::text[])
    AND EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'public')
    -- It stands on the other one.
    AND (wanted <> 'pg_stat_kcache' OR 'pg_stat_statements' = ANY (:'loaded'::text[]))
ORDER BY place \gexec

SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', function.oid::regprocedure, :'admin')
FROM pg_catalog.pg_proc AS function
    JOIN pg_catalog.pg_depend AS part ON part.classid = 'pg_proc'::regclass AND part.objid = function.oid AND part.deptype = 'e'
    JOIN pg_catalog.pg_extension AS extension ON extension.oid = part.refobjid AND part.refclassid = 'pg_extension'::regclass
WHERE (extension.extname, function.proname) IN (
        ('pg_stat_statements', 'pg_stat_statements_reset'), ('pg_stat_kcache', 'pg_stat_kcache_reset'), ('set_user', 'set_user')
    )
    -- set_user(text) leads to roles that are no superusers, and set_user(text, text) asks for a token to come back.
    AND NOT has_function_privilege(:'admin', function.oid, 'EXECUTE') \gexec

SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', function::regprocedure, :'admin')
FROM unnest(ARRAY['pg_catalog.pg_stat_reset()', 'pg_catalog.pg_switch_wal()']) AS function
WHERE current_database() = 'postgres' AND NOT has_function_privilege(:'admin', function, 'EXECUTE') \gexec

SELECT 'CREATE EXTENSION IF NOT EXISTS pg_cron'
FROM pg_catalog.pg_available_extensions
WHERE name = 'pg_cron' AND installed_version IS NULL
    AND current_database() = coalesce(current_setting('cron.database_name', true), '')
    AND 'pg_cron' = ANY (:'loaded'::text[]) \gexec

SELECT 'GRANT USAGE ON SCHEMA cron TO cron_admin'
FROM pg_catalog.pg_namespace
WHERE nspname = 'cron' AND NOT has_schema_privilege('cron_admin', oid, 'USAGE') \gexec
