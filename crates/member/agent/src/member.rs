//! Our own record in the store.

use std::{collections::BTreeMap, time::Duration};

use howdah_backup::{ArchiveState, Report, second};
use howdah_config::LocalConfig;
use howdah_dcs::{ArchiveMark, HowdahMark, LITTLE_WAL, LeaseId, Member};
use howdah_member_api::PATRONI_VERSION;
use howdah_postgres::Sample;
use howdah_types::{BootTime, Lsn, Origins, PgState, Role, Tags};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What our record says besides the configuration.
pub(crate) struct Now<'a> {
    pub(crate) state: PgState,
    pub(crate) role: Role,
    pub(crate) sample: Option<&'a Sample>,
    pub(crate) pending_restart: &'a Map<String, Value>,
    pub(crate) scheduled_restart: Option<Value>,
    pub(crate) pause: bool,
    pub(crate) leads: bool,
    /// The revision of the dynamic configuration that is in effect.
    pub(crate) config: Option<u64>,
    /// The revision that PostgreSQL does not start with.
    pub(crate) unstartable: Option<u64>,
    /// What of the dynamic configuration is not taken, and why.
    pub(crate) notes: Vec<String>,
    /// Which promotions began the timelines of the data.
    pub(crate) origins: Origins,
    /// Promises that were asked for up to then are not relied upon.
    pub(crate) settled: Option<BootTime>,
    /// The length of our lease as the store granted it.
    pub(crate) granted: Option<Duration>,
    /// How the archive is.
    pub(crate) archive: Option<ArchiveMark>,
}

/// What of an archiver's report goes into the record.
pub(crate) fn archive_mark(report: &Report) -> ArchiveMark {
    let archive = report.archive.as_ref();
    let moment = |of: fn(&ArchiveState) -> Option<Timestamp>| archive.and_then(of).map(second);
    ArchiveMark {
        troubles: report.troubles(Timestamp::now()),
        last_backup: moment(|archive| archive.last_backup_at),
        restorable_from: moment(|archive| archive.restorable_from),
        proved: moment(|archive| archive.proved_at),
        not_proved: archive.and_then(|archive| archive.drill_trouble.clone()),
    }
}

fn conn_url(config: &LocalConfig) -> String {
    let pg = &config.postgresql;
    format!("postgres://{}/{}", pg.connect_address, pg.database)
}

fn api_url(config: &LocalConfig) -> String {
    let scheme = if config.restapi.tls.is_some() {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{}/patroni", config.restapi.connect_address)
}

/// How a leader introduces itself when it asks other members to let it lead without the store, in Patroni's form.
pub(crate) fn introduction(
    config: &LocalConfig,
    slots: Option<&BTreeMap<String, Lsn>>,
) -> Map<String, Value> {
    let mut about = Map::new();
    about.insert("name".to_owned(), json!(config.name));
    about.insert("conn_url".to_owned(), json!(conn_url(config)));
    about.insert("api_url".to_owned(), json!(api_url(config)));
    if let Some(slots) = slots {
        about.insert("slots".to_owned(), json!(slots));
    }
    about
}

/// The record.
pub(crate) fn record(config: &LocalConfig, tags: &Tags, now: &Now<'_>) -> Member {
    let pg = &config.postgresql;
    let sample = now.sample.filter(|_| now.state == PgState::Running);
    let replica = sample.filter(|sample| sample.in_recovery);
    let behind_checkpoint = sample.is_some_and(|s| {
        (!s.in_recovery || now.role == Role::StandbyLeader) && s.checkpoint_timeline < s.timeline
    });
    Member {
        conn_url: conn_url(config),
        api_url: api_url(config),
        state: now.state,
        role: now.role,
        version: PATRONI_VERSION.to_owned(),
        proxy_url: pg
            .proxy_address
            .as_ref()
            .map(|address| format!("postgres://{address}/{}", pg.database)),
        checkpoint_after_promote: (now.leads && behind_checkpoint).then_some(false),
        tags: Tags::new(tags.published()),
        pending_restart: !now.pending_restart.is_empty(),
        pending_restart_reason: (!now.pending_restart.is_empty()).then(|| now.pending_restart.clone()),
        xlog_location: sample.map(Sample::lsn),
        receive_lsn: replica.map(|sample| sample.received),
        replay_lsn: replica.map(|sample| sample.replayed),
        replication_state: replica
            .and_then(|sample| sample.replication_state)
            .map(str::to_owned),
        timeline: sample.map(|sample| sample.timeline),
        scheduled_restart: now.scheduled_restart.clone(),
        pause: now.pause,
        howdah: Some(HowdahMark {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: now.config,
            unstartable: now.unstartable,
            origins: now.origins.clone(),
            settled: now.settled,
            lease_ms: now
                .granted
                .and_then(|length| u64::try_from(length.as_millis()).ok()),
            notes: config
                .notes
                .iter()
                .cloned()
                .chain(now.notes.iter().cloned())
                .collect(),
            machine: config.machine.clone(),
            archive: now.archive.clone().filter(|_| now.leads),
        }),
        other: Map::new(),
    }
}

/// A move of less than [`LITTLE_WAL`] is written this late.
const LITTLE_EVERY: Duration = Duration::from_secs(60);

/// Writes the record when something other than the position has changed, and the position at most once in a while.
#[derive(Default)]
pub(crate) struct Publisher {
    written: Option<(LeaseId, Member, BootTime)>,
}

impl Publisher {
    /// The record to write now, if any.
    pub(crate) fn due(&self, record: &Member, lease: LeaseId, now: BootTime, every: Duration) -> bool {
        match &self.written {
            None => true,
            Some((known_lease, known, at)) => {
                *known_lease != lease
                    || without_position(known) != without_position(record)
                    || (known != record && now >= *at + every && moved(known, record) >= LITTLE_WAL)
                    || (known != record && now >= *at + LITTLE_EVERY)
            }
        }
    }

    /// It was written.
    pub(crate) fn written(&mut self, record: Member, lease: LeaseId, now: BootTime) {
        self.written = Some((lease, record, now));
    }

    /// It is gone from the store, or may be.
    pub(crate) fn forget(&mut self) {
        self.written = None;
    }
}

/// By how many bytes the position has moved; one that has appeared or gone has moved far.
fn moved(known: &Member, record: &Member) -> u64 {
    let by = |a: Option<Lsn>, b: Option<Lsn>| match (a, b) {
        (Some(a), Some(b)) => a.0.abs_diff(b.0),
        (None, None) => 0,
        _ => u64::MAX,
    };
    by(known.xlog_location, record.xlog_location)
        .max(by(known.receive_lsn, record.receive_lsn))
        .max(by(known.replay_lsn, record.replay_lsn))
}

fn without_position(member: &Member) -> Member {
    Member {
        xlog_location: None,
        receive_lsn: None,
        replay_lsn: None,
        ..member.clone()
    }
}
