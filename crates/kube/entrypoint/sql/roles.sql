-- Roles that grants in users' scripts name. Variables: admin, human.
SELECT format('CREATE ROLE %I NOLOGIN CREATEDB', :'admin')
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'admin') \gexec

SELECT format('CREATE ROLE %I NOLOGIN', wanted)
FROM unnest(ARRAY[:'human', 'cron_admin', 'robot_zmon']) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) \gexec

SELECT format('GRANT %I TO %I', granted, grantee)
FROM (VALUES ('cron_admin', :'admin'), ('pg_read_all_stats', :'admin'), ('pg_monitor', 'robot_zmon')) AS wanted (granted, grantee)
WHERE NOT EXISTS (
    SELECT
    FROM pg_catalog.pg_auth_members AS member
        JOIN pg_catalog.pg_roles AS of ON of.oid = member.roleid
        JOIN pg_catalog.pg_roles AS who ON who.oid = member.member
    WHERE of.rolname = granted AND who.rolname = grantee
) \gexec
