use howdah_pgconf::TimelineEvidence;
use howdah_sql::SimpleQueryRow;
use howdah_types::{BootTime, Lsn, Timeline};
use serde::{Deserialize, Serialize};

use crate::{DataDir, PgError, Session};

/// Everything about a running server that a decision or a health check needs, from one query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// It is a replica.
    pub in_recovery: bool,
    /// What it writes, or has received last.
    pub timeline: Timeline,
    /// The timeline of the last checkpoint.
    pub checkpoint_timeline: Timeline,
    /// Primary: flushed.
    pub flushed: Lsn,
    /// Replica: received and flushed.
    pub received: Lsn,
    /// Replica: replayed.
    pub replayed: Lsn,
    /// Replica: commit time of the last replayed transaction, as PostgreSQL prints it.
    pub replayed_at: Option<String>,
    /// Replica: replay is paused.
    pub replay_paused: bool,
    /// Replica: the WAL receiver.
    pub receiver: Option<Receiver>,
    /// `primary_conninfo`
    pub primary_conninfo: String,
    /// `synchronous_standby_names`
    pub sync_names: String,
    /// `synchronous_commit` in the server's files.
    pub sync_commit: String,
    /// `pg_stat_replication`
    pub senders: Vec<Sender>,
    /// Slots, but for temporary ones.
    pub slots: Vec<SlotRow>,
    /// It copies slots with `failover` from the primary by itself.
    pub syncs_slots: bool,
    /// `hot_standby_feedback`
    pub feedback: bool,
    /// `server_version_num`
    pub version: u32,
    /// As PostgreSQL prints it.
    pub started_at: String,
    /// In seconds since 1970.
    pub started_epoch: f64,
    /// In seconds since 1970.
    pub replayed_epoch: f64,
    /// Replica: its position is where its WAL ends. Before it has replayed all that it has, it answers already, and has more.
    pub is_at_end: bool,
    /// The WAL receiver, or the archive, delivers (`streaming`, `in archive recovery`).
    pub replication_state: Option<&'static str>,
}

/// `pg_stat_wal_receiver`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Receiver {
    /// `streaming` when it works.
    pub status: Option<String>,
    /// The timeline that comes.
    pub received_tli: Option<u32>,
    /// Where the upstream's WAL ended when it said so last; bytes.
    pub latest_end: Option<u64>,
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// Role.
    pub usename: Option<String>,
    /// The member's name.
    pub application_name: String,
    /// From where.
    pub client_addr: Option<String>,
    /// `streaming` when it works.
    pub state: String,
    /// `async`, `potential`, `sync`, `quorum`
    pub sync_state: String,
    /// Its place in `synchronous_standby_names`.
    pub sync_priority: i64,
    /// `write_lsn`, bytes.
    #[serde(skip_serializing, default)]
    pub write: Option<u64>,
    /// `flush_lsn`, bytes.
    #[serde(skip_serializing, default)]
    pub flush: Option<u64>,
    /// `replay_lsn`, bytes.
    #[serde(skip_serializing, default)]
    pub replay: Option<u64>,
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SlotRow {
    /// Its name.
    pub slot_name: String,
    /// Logical: the output plugin.
    #[serde(default)]
    pub plugin: Option<String>,
    /// Logical: whose changes it decodes.
    #[serde(default)]
    pub database: Option<String>,
    /// In use.
    pub active: bool,
    /// The oldest WAL it keeps, bytes.
    pub restart: Option<u64>,
    /// Logical: confirmed by its consumer, bytes.
    #[serde(default)]
    pub confirmed: Option<u64>,
    /// It keeps rows from being removed.
    #[serde(default)]
    pub has_xmin: bool,
    /// Logical: the oldest transaction whose view of the catalogue it needs.
    #[serde(default)]
    pub catalog_xmin: Option<u32>,
    /// The WAL that it needs is gone.
    #[serde(default)]
    pub lost: bool,
    /// PostgreSQL 17 and later copy it to standbys.
    #[serde(default)]
    pub failover: bool,
    /// It is such a copy.
    #[serde(default)]
    pub synced: bool,
}

/// What the startup process waits for when it has replayed all that is there: the next WAL, or a moment before it looks again.
const AT_END: &[&str] = &["RecoveryWalStream", "RecoveryRetrieveRetryInterval"];

const QUERY: &str = "
WITH r AS (SELECT pg_is_in_recovery() AS rec)
SELECT r.rec,
  CASE WHEN r.rec THEN 0 ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS tli,
  (SELECT timeline_id FROM pg_control_checkpoint()) AS checkpoint_tli,
  (SELECT min_recovery_end_timeline FROM pg_control_recovery()) AS recovery_tli,
  CASE WHEN r.rec THEN 0 ELSE pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint END AS flushed,
  COALESCE(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0'), 0)::bigint AS received,
  COALESCE(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0)::bigint AS replayed,
  pg_last_xact_replay_timestamp()::text AS replayed_at,
  COALESCE(EXTRACT(EPOCH FROM pg_last_xact_replay_timestamp()), 0) AS replayed_epoch,
  CASE WHEN r.rec THEN pg_is_wal_replay_paused() ELSE false END AS paused,
  (SELECT row_to_json(w) FROM (SELECT status, received_tli,
     pg_wal_lsn_diff(latest_end_lsn, '0/0')::bigint AS latest_end FROM pg_stat_wal_receiver) w) AS receiver,
  current_setting('primary_conninfo') AS conninfo,
  current_setting('restore_command') AS restore_command,
  current_setting('synchronous_standby_names') AS sync_names,
  -- Our own session has it set to `local`: what the files say is what others get.
  CASE WHEN r.rec THEN 'on' ELSE COALESCE((SELECT setting FROM pg_file_settings
     WHERE name = 'synchronous_commit' AND applied ORDER BY seqno DESC LIMIT 1), 'on') END AS sync_commit,
  (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size') AS segment_size,
  (SELECT COALESCE(json_agg(s), '[]') FROM (SELECT usename, application_name, host(client_addr) AS client_addr, state, sync_state,
     sync_priority, pg_wal_lsn_diff(write_lsn, '0/0')::bigint AS write, pg_wal_lsn_diff(flush_lsn, '0/0')::bigint AS flush,
     pg_wal_lsn_diff(replay_lsn, '0/0')::bigint AS replay FROM pg_stat_replication
     WHERE state <> 'backup') s) AS senders,
  (SELECT COALESCE(json_agg(s), '[]') FROM (SELECT slot_name, plugin, database, active,
     pg_wal_lsn_diff(restart_lsn, '0/0')::bigint AS restart, pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint AS confirmed,
     xmin IS NOT NULL AS has_xmin, catalog_xmin::text::bigint AS catalog_xmin, COALESCE(wal_status = 'lost', false) AS lost,
     COALESCE((to_jsonb(r) ->> 'failover')::boolean, false) AS failover, COALESCE((to_jsonb(r) ->> 'synced')::boolean, false) AS synced
     FROM pg_replication_slots r WHERE NOT temporary) s) AS slots,
  COALESCE(current_setting('sync_replication_slots', true) = 'on', false) AS syncs_slots,
  current_setting('hot_standby_feedback') = 'on' AS feedback,
  (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup') AS startup,
  current_setting('server_version_num') AS version,
  pg_postmaster_start_time()::text AS started_at,
  EXTRACT(EPOCH FROM pg_postmaster_start_time()) AS started_epoch
FROM r";

impl Sample {
    /// Takes one. Looks into the data directory where the server does not say which timeline it has received.
    ///
    /// # Errors
    /// The server does not answer by `deadline`.
    pub async fn take(session: &Session, dir: &DataDir, deadline: BootTime) -> Result<Self, PgError> {
        let row = session.row(QUERY, deadline).await?;
        Ok(Sample::from_row(&row, dir))
    }

    fn from_row(row: &SimpleQueryRow, dir: &DataDir) -> Self {
        let text = |column: &str| row.try_get(column).ok().flatten().unwrap_or_default();
        let number = |column: &str| text(column).parse::<u64>().unwrap_or(0);
        let float = |column: &str| text(column).parse::<f64>().unwrap_or(0.0);
        let timeline = |column: &str| Timeline(text(column).parse().unwrap_or(0));
        let in_recovery = text("rec") == "t";
        let receiver: Option<Receiver> = serde_json::from_str(text("receiver")).ok();
        let checkpoint_timeline = timeline("checkpoint_tli");
        let (received, replayed) = (Lsn(number("received")), Lsn(number("replayed")));
        let timeline = if in_recovery {
            let receiver = receiver.as_ref().and_then(|r| r.received_tli);
            let receiver = receiver.filter(|timeline| *timeline > 0).map(Timeline);
            let evidence = TimelineEvidence {
                checkpoint: checkpoint_timeline,
                recovery: timeline("recovery_tli"),
                receiver,
                segment: match receiver {
                    Some(_) => None,
                    None => dir.newest_timeline_at(received.max(replayed), number("segment_size")),
                },
            };
            evidence.timeline()
        } else {
            timeline("tli")
        };
        let streams = receiver.as_ref().and_then(|r| r.status.as_deref()) == Some("streaming");
        let replication_state = match (in_recovery, streams) {
            (true, true) => Some("streaming"),
            (true, false) if !text("restore_command").is_empty() => Some("in archive recovery"),
            _ => None,
        };
        Sample {
            in_recovery,
            timeline,
            checkpoint_timeline,
            flushed: Lsn(number("flushed")),
            received,
            replayed,
            replayed_at: Some(text("replayed_at").to_owned()).filter(|text| !text.is_empty()),
            replay_paused: text("paused") == "t",
            receiver,
            primary_conninfo: text("conninfo").to_owned(),
            sync_names: text("sync_names").to_owned(),
            sync_commit: text("sync_commit").to_owned(),
            senders: serde_json::from_str(text("senders")).unwrap_or_default(),
            slots: serde_json::from_str(text("slots")).unwrap_or_default(),
            syncs_slots: text("syncs_slots") == "t",
            feedback: text("feedback") == "t",
            version: u32::try_from(number("version")).unwrap_or(0),
            started_at: text("started_at").to_owned(),
            started_epoch: float("started_epoch"),
            replayed_epoch: float("replayed_epoch"),
            is_at_end: !in_recovery || received > Lsn(0) || AT_END.contains(&text("startup")),
            replication_state,
        }
    }

    /// Primary: flushed. Replica: the larger of received and replayed.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        if self.in_recovery {
            self.received.max(self.replayed)
        } else {
            self.flushed
        }
    }

    /// Replica: WAL comes from an upstream.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.replication_state == Some("streaming")
    }

    /// Replica: host and port in `primary_conninfo`.
    #[must_use]
    pub fn upstream(&self) -> Option<(String, u16)> {
        let value = |key: &str| {
            let start = self.primary_conninfo.find(&format!("{key}="))? + key.len() + 1;
            let rest = self.primary_conninfo.get(start..)?;
            Some(rest.split_whitespace().next()?.trim_matches('\'').to_owned())
        };
        Some((value("host")?, value("port")?.parse().ok()?))
    }
}
