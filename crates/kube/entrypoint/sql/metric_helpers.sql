-- Estimates of bloat, and sequences that are nearly used up. Variable: admin.
--
-- Estimates are as good as the statistics: what was never analysed is marked (is_na), and so is a table whose columns have no
-- statistics in part.
BEGIN;
-- One that a database's owner has made first would run what that owner wants with our rights.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'metric_helpers' AND nspowner <> session_user::regrole) THEN
        RAISE EXCEPTION 'there is a schema metric_helpers of another owner: nothing is put into it';
    END IF;
END $$;
CREATE SCHEMA IF NOT EXISTS metric_helpers;
SELECT format('GRANT USAGE ON SCHEMA metric_helpers TO %I, robot_zmon', :'admin') \gexec

-- A row of a table has a header of 24 bytes, a pointer of 4 and its columns, aligned to 8; a page has a header of 24.
CREATE OR REPLACE FUNCTION metric_helpers.get_table_bloat_approx(
    OUT t_database name,
    OUT t_schema_name name,
    OUT t_table_name name,
    OUT t_real_size numeric,
    OUT t_extra_size double precision,
    OUT t_extra_ratio double precision,
    OUT t_fill_factor integer,
    OUT t_bloat_size double precision,
    OUT t_bloat_ratio double precision,
    OUT t_is_na boolean
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER STRICT SET search_path = pg_catalog, pg_temp AS $$
    WITH page AS (
        SELECT current_setting('block_size')::numeric AS size, current_setting('block_size')::numeric - 24 AS room
    ), kept AS (
        SELECT
            class.oid,
            namespace.nspname,
            class.relname,
            class.reltuples,
            pg_relation_size(class.oid)::numeric AS bytes,
            coalesce((
                SELECT option_value::integer FROM pg_options_to_table(class.reloptions) WHERE option_name = 'fillfactor'
            ), 100) AS fill
        FROM pg_class AS class
            JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
        WHERE class.relkind IN ('r', 'm') AND class.relpersistence = 'p'
    ), width AS (
        SELECT
            kept.oid,
            -- Columns, and a bitmap of nulls where there are any.
            24 + 4 + ceil((
                coalesce(sum((1 - stats.stanullfrac) * stats.stawidth), 0)
                + CASE WHEN max(stats.stanullfrac) > 0 THEN ceil(count(*) / 8.0) ELSE 0 END
            )::numeric / 8) * 8 AS bytes,
            count(*) FILTER (WHERE stats.starelid IS NULL) > 0 AS lacks
        FROM kept
            JOIN pg_attribute AS attribute
                ON attribute.attrelid = kept.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
            LEFT JOIN pg_statistic AS stats
                ON stats.starelid = kept.oid AND stats.staattnum = attribute.attnum AND NOT stats.stainherit
        GROUP BY kept.oid
    ), need AS (
        SELECT
            kept.*,
            greatest(kept.bytes - ceil(kept.reltuples::numeric * width.bytes / page.room) * page.size, 0) AS extra,
            greatest(kept.bytes - ceil(kept.reltuples::numeric * width.bytes / (page.room * kept.fill / 100)) * page.size, 0) AS bloat,
            width.lacks OR kept.reltuples < 0 AS is_na
        FROM kept JOIN width USING (oid), page
    )
    SELECT
        current_database(), nspname, relname, bytes,
        extra::double precision, CASE WHEN bytes > 0 THEN (100 * extra / bytes)::double precision ELSE 0 END,
        fill,
        bloat::double precision, CASE WHEN bytes > 0 THEN (100 * bloat / bytes)::double precision ELSE 0 END,
        is_na
    FROM need
$$;

-- An entry of a B-tree has a header of 8 bytes, a pointer of 4 and its columns, aligned to 8; a page has a header of 24 and 16 bytes
-- of its own, and the first page of the file says where the root is. Equal keys share one entry since PostgreSQL 13, so that an
-- index may be smaller than this says.
CREATE OR REPLACE FUNCTION metric_helpers.get_btree_bloat_approx(
    OUT i_database name,
    OUT i_schema_name name,
    OUT i_table_name name,
    OUT i_index_name name,
    OUT i_real_size numeric,
    OUT i_extra_size double precision,
    OUT i_extra_ratio double precision,
    OUT i_fill_factor integer,
    OUT i_bloat_size double precision,
    OUT i_bloat_ratio double precision,
    OUT i_is_na boolean
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER STRICT SET search_path = pg_catalog, pg_temp AS $$
    WITH page AS (
        SELECT current_setting('block_size')::numeric AS size, current_setting('block_size')::numeric - 24 - 16 AS room
    ), kept AS (
        SELECT
            class.oid,
            namespace.nspname,
            of.relname AS table_name,
            class.relname,
            class.reltuples,
            index.indrelid,
            index.indkey,
            index.indnkeyatts,
            pg_relation_size(class.oid)::numeric AS bytes,
            coalesce((
                SELECT option_value::integer FROM pg_options_to_table(class.reloptions) WHERE option_name = 'fillfactor'
            ), 90) AS fill
        FROM pg_index AS index
            JOIN pg_class AS class ON class.oid = index.indexrelid
            JOIN pg_am AS method ON method.oid = class.relam AND method.amname = 'btree'
            JOIN pg_class AS of ON of.oid = index.indrelid
            JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
        WHERE class.relkind = 'i' AND class.relpersistence = 'p' AND index.indisvalid
    ), width AS (
        SELECT
            kept.oid,
            8 + 4 + ceil((
                coalesce(sum((1 - stats.stanullfrac) * stats.stawidth), 0)
                + CASE WHEN max(stats.stanullfrac) > 0 THEN 8 ELSE 0 END
            )::numeric / 8) * 8 AS bytes,
            count(*) FILTER (WHERE stats.starelid IS NULL) > 0 AS lacks
        FROM kept
            JOIN pg_attribute AS attribute ON attribute.attrelid = kept.oid AND attribute.attnum > 0
            -- A column has its table's statistics, and an expression those of the index.
            LEFT JOIN pg_statistic AS stats
                ON NOT stats.stainherit AND (stats.starelid, stats.staattnum) = (
                    CASE WHEN kept.indkey[attribute.attnum - 1] = 0 THEN kept.oid ELSE kept.indrelid END,
                    CASE WHEN kept.indkey[attribute.attnum - 1] = 0 THEN attribute.attnum ELSE kept.indkey[attribute.attnum - 1] END
                )
        GROUP BY kept.oid
    ), need AS (
        SELECT
            kept.*,
            greatest(kept.bytes - (1 + ceil(kept.reltuples::numeric * width.bytes / page.room)) * page.size, 0) AS extra,
            greatest(
                kept.bytes - (1 + ceil(kept.reltuples::numeric * width.bytes / (page.room * kept.fill / 100))) * page.size, 0
            ) AS bloat,
            width.lacks OR kept.reltuples < 0 AS is_na
        FROM kept JOIN width USING (oid), page
    )
    SELECT
        current_database(), nspname, table_name, relname, bytes,
        extra::double precision, CASE WHEN bytes > 0 THEN (100 * extra / bytes)::double precision ELSE 0 END,
        fill,
        bloat::double precision, CASE WHEN bytes > 0 THEN (100 * bloat / bytes)::double precision ELSE 0 END,
        is_na
    FROM need
$$;

-- Sequences that have used more than this part of their values: 0.8 is four fifths. The percentage is that of the values.
CREATE OR REPLACE FUNCTION metric_helpers.get_nearly_exhausted_sequences(
    IN threshold double precision,
    OUT schema_name name,
    OUT sequence_name name,
    OUT seq_percent_used numeric
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER STRICT SET search_path = pg_catalog, pg_temp AS $$
    WITH used AS (
        SELECT
            schemaname,
            sequencename,
            CASE
                WHEN last_value IS NULL THEN 0
                WHEN increment_by > 0 THEN (last_value::numeric - min_value) / nullif(max_value::numeric - min_value, 0)
                ELSE (max_value::numeric - last_value) / nullif(max_value::numeric - min_value, 0)
            END AS part
        FROM pg_sequences
        WHERE NOT cycle
    )
    SELECT schemaname, sequencename, round(100 * part, 2)
    FROM used
    WHERE part > threshold
$$;

CREATE OR REPLACE VIEW metric_helpers.table_bloat AS SELECT * FROM metric_helpers.get_table_bloat_approx();
CREATE OR REPLACE VIEW metric_helpers.index_bloat AS SELECT * FROM metric_helpers.get_btree_bloat_approx();
CREATE OR REPLACE VIEW metric_helpers.nearly_exhausted_sequences AS
    SELECT * FROM metric_helpers.get_nearly_exhausted_sequences(0.8);

-- What pg_stat_statements shows, with the rights of the caller: administrators and robot_zmon see the statements of all. Its columns are
-- those of the version that is installed: made again when another one is, or when a superuser's rights are still lent, as by Spilo.
--
-- The body is bound to the extension's own function. One that is looked up by its name at each call would be whatever the
-- database's owner has put into the schema public since.
SELECT $make$
    DROP VIEW IF EXISTS metric_helpers.pg_stat_statements;
    DROP FUNCTION IF EXISTS metric_helpers.pg_stat_statements(boolean);
    CREATE FUNCTION metric_helpers.pg_stat_statements(showtext boolean) RETURNS SETOF public.pg_stat_statements
    LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT * FROM public.pg_stat_statements(showtext);
    END;
    CREATE VIEW metric_helpers.pg_stat_statements AS SELECT * FROM metric_helpers.pg_stat_statements(true);
$make$
FROM pg_extension AS extension JOIN pg_namespace AS place ON place.oid = extension.extnamespace
WHERE extension.extname = 'pg_stat_statements' AND place.nspname = 'public'
    AND (
        to_regclass('metric_helpers.pg_stat_statements') IS NULL
        OR EXISTS (SELECT FROM pg_proc WHERE oid = to_regprocedure('metric_helpers.pg_stat_statements(boolean)') AND prosecdef)
        OR EXISTS (
            SELECT FROM pg_attribute AS have
            WHERE have.attrelid = to_regclass('public.pg_stat_statements') AND have.attnum > 0 AND NOT have.attisdropped
                AND NOT EXISTS (
                    SELECT FROM pg_attribute AS shown
                    WHERE shown.attrelid = to_regclass('metric_helpers.pg_stat_statements') AND shown.attname = have.attname
                )
        )
    ) \gexec

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA metric_helpers FROM PUBLIC;
SELECT format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA metric_helpers TO %I, robot_zmon', :'admin') \gexec
SELECT format('GRANT SELECT ON ALL TABLES IN SCHEMA metric_helpers TO %I, robot_zmon', :'admin') \gexec
COMMIT;
