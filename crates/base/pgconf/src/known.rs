/// GUCs that not every major since 13 has: name, the major that brought it, the first major without it (0: none yet).
/// From the release notes of PostgreSQL 14 to 18.
const CHANGED: &[(&str, u32, u32)] = &[
    ("vacuum_cleanup_index_scale_factor", 0, 14),
    ("operator_precedence_warning", 0, 14),
    ("vacuum_defer_cleanup_age", 0, 16),
    ("promote_trigger_file", 0, 16),
    ("force_parallel_mode", 0, 16),
    ("lc_collate", 0, 16),
    ("lc_ctype", 0, 16),
    ("stats_temp_directory", 0, 15),
    ("old_snapshot_threshold", 0, 17),
    ("db_user_namespace", 0, 17),
    ("trace_recovery_messages", 0, 17),
    ("client_connection_check_interval", 14, 0),
    ("compute_query_id", 14, 0),
    ("debug_discard_caches", 14, 0),
    ("default_toast_compression", 14, 0),
    ("enable_async_append", 14, 0),
    ("enable_memoize", 14, 0),
    ("huge_page_size", 14, 0),
    ("idle_session_timeout", 14, 0),
    ("log_recovery_conflict_waits", 14, 0),
    ("min_dynamic_shared_memory", 14, 0),
    ("recovery_init_sync_method", 14, 0),
    ("remove_temp_files_after_crash", 14, 0),
    ("ssl_crl_dir", 14, 0),
    ("track_wal_io_timing", 14, 0),
    ("vacuum_failsafe_age", 14, 0),
    ("vacuum_multixact_failsafe_age", 14, 0),
    ("allow_in_place_tablespaces", 15, 0),
    ("archive_library", 15, 0),
    ("log_startup_progress_interval", 15, 0),
    ("recovery_prefetch", 15, 0),
    ("recursive_worktable_factor", 15, 0),
    ("stats_fetch_consistency", 15, 0),
    ("wal_decode_buffer_size", 15, 0),
    ("createrole_self_grant", 16, 0),
    ("debug_io_direct", 16, 0),
    ("debug_logical_replication_streaming", 16, 0),
    ("debug_parallel_query", 16, 0),
    ("enable_presorted_aggregate", 16, 0),
    ("gss_accept_delegation", 16, 0),
    ("icu_validation_level", 16, 0),
    ("max_parallel_apply_workers_per_subscription", 16, 0),
    ("reserved_connections", 16, 0),
    ("scram_iterations", 16, 0),
    ("send_abort_for_crash", 16, 0),
    ("send_abort_for_kill", 16, 0),
    ("vacuum_buffer_usage_limit", 16, 0),
    ("allow_alter_system", 17, 0),
    ("commit_timestamp_buffers", 17, 0),
    ("enable_group_by_reordering", 17, 0),
    ("event_triggers", 17, 0),
    ("io_combine_limit", 17, 0),
    ("max_notify_queue_pages", 17, 0),
    ("multixact_member_buffers", 17, 0),
    ("multixact_offset_buffers", 17, 0),
    ("notify_buffers", 17, 0),
    ("restrict_nonsystem_relation_kind", 17, 0),
    ("serializable_buffers", 17, 0),
    ("subtransaction_buffers", 17, 0),
    ("summarize_wal", 17, 0),
    ("sync_replication_slots", 17, 0),
    ("synchronized_standby_slots", 17, 0),
    ("trace_connection_negotiation", 17, 0),
    ("transaction_buffers", 17, 0),
    ("transaction_timeout", 17, 0),
    ("wal_summary_keep_time", 17, 0),
    ("autovacuum_vacuum_max_threshold", 18, 0),
    ("autovacuum_worker_slots", 18, 0),
    ("enable_distinct_reordering", 18, 0),
    ("enable_self_join_elimination", 18, 0),
    ("extension_control_path", 18, 0),
    ("file_copy_method", 18, 0),
    ("idle_replication_slot_timeout", 18, 0),
    ("io_max_combine_limit", 18, 0),
    ("io_max_concurrency", 18, 0),
    ("io_method", 18, 0),
    ("io_workers", 18, 0),
    ("log_lock_failures", 18, 0),
    ("max_active_replication_origins", 18, 0),
    ("md5_password_warnings", 18, 0),
    ("oauth_validator_libraries", 18, 0),
    ("ssl_groups", 18, 0),
    ("ssl_tls13_ciphers", 18, 0),
    ("track_cost_delay_timing", 18, 0),
    ("vacuum_max_eager_freeze_failure_rate", 18, 0),
    ("vacuum_truncate", 18, 0),
];

/// Whether a server of this major starts with this GUC in its configuration. Names with a dot belong to extensions and
/// are always accepted; names that no table knows are left to the server.
#[must_use]
pub fn is_known(name: &str, major: u32) -> bool {
    CHANGED
        .iter()
        .find(|(changed, _, _)| changed.eq_ignore_ascii_case(name))
        .is_none_or(|(_, since, until)| major >= *since && (*until == 0 || major < *until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_later_or_went_away_is_known_by_major() {
        assert!(!is_known("io_method", 15) && is_known("io_method", 18));
        assert!(is_known("old_snapshot_threshold", 15) && !is_known("old_snapshot_threshold", 17));
        assert!(is_known("shared_buffers", 15) && is_known("bg_mon.listen_address", 15));
    }
}
