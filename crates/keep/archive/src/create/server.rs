use std::{fmt, path::Path, time::Duration};

use howdah_backup::SegmentSize;
use howdah_http::client_tls;
use howdah_pgconf::ControlData;
use howdah_sql::{Dsn, Session as Sql, Target, Tls};
use howdah_types::{BootTime, Lsn, SystemId, Timeline};

use crate::ArchiveError;

/// How a checkpoint that is spread may take: `checkpoint_timeout` and then some.
const CHECKPOINT: Duration = Duration::from_secs(7200);

/// Any other question.
const QUESTION: Duration = Duration::from_secs(60);

/// The server that is backed up.
#[derive(Clone)]
pub struct Server {
    /// How to connect.
    pub dsn: Dsn,
}

impl fmt::Debug for Server {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} as {}", self.dsn.host, self.dsn.port, self.dsn.user)
    }
}

/// What the server has said at the beginning.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    pub(super) start: Lsn,
    pub(super) timeline: Timeline,
    pub(super) is_replica: bool,
    pub(super) system_id: SystemId,
    pub(super) version: u32,
    pub(super) segment_size: SegmentSize,
    pub(super) has_checksums: bool,
}

/// And at the end.
#[derive(Clone, Debug)]
pub(super) struct Stopped {
    pub(super) finish: Lsn,
    pub(super) label: String,
    pub(super) tablespaces: String,
}

/// The session that holds the backup open: if it ends, the server gives the backup up.
pub(super) struct Session {
    sql: Sql,
    pub(super) begun: Begun,
}

fn asked<T>(what: &'static str, result: Result<T, howdah_sql::SqlError>) -> Result<T, ArchiveError> {
    result.map_err(|source| ArchiveError::Server { what, source })
}

fn by(duration: Duration) -> BootTime {
    howdah_clock::now() + duration
}

const FACTS: &str = "SELECT pg_is_in_recovery(), current_setting('server_version_num'), \
    (SELECT system_identifier FROM pg_control_system()), \
    (SELECT timeline_id FROM pg_control_checkpoint()), \
    current_setting('data_checksums'), current_setting('archive_mode'), \
    (SELECT setting::bigint * CASE unit WHEN '8kB' THEN 8192 ELSE 1 END FROM pg_settings WHERE name = 'wal_segment_size'), \
    extract(epoch FROM pg_postmaster_start_time())::bigint, \
    (SELECT min_recovery_end_timeline FROM pg_control_recovery())";

/// How far the start of a server and what its directory says of it may be apart, in seconds.
const STARTS_APART: i64 = 120;

/// Whether a server is the one of a directory: another one's files would be stored under this one's name.
fn is_of(data: &Path, system: SystemId, started: i64) -> Result<(), ArchiveError> {
    let refused = |why: String| {
        Err(ArchiveError::Refused(format!(
            "{} is not the directory of the server that answers: {why}. Look at PGHOST, PGPORT and the directory",
            data.display()
        )))
    };
    let path = data.join("global/pg_control");
    let bytes = std::fs::read(&path).map_err(|error| ArchiveError::local(&path, error))?;
    let control = ControlData::parse(&bytes)
        .map_err(|error| ArchiveError::Refused(format!("{}: {error}", path.display())))?;
    if control.system_id != system {
        return refused(format!(
            "it is of cluster {}, and the server of {system}",
            control.system_id
        ));
    }
    // A primary and its replica are of one cluster.
    let pid = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    match pid
        .lines()
        .nth(2)
        .and_then(|line| line.trim().parse::<i64>().ok())
    {
        Some(written) if (written - started).abs() <= STARTS_APART => Ok(()),
        Some(_) => refused("its server was started at another time".to_owned()),
        None => refused("no server runs on it".to_owned()),
    }
}

async fn connect(server: &Server) -> Result<Sql, ArchiveError> {
    let dsn = &server.dsn;
    let tls = if dsn.needs_tls {
        let trusting =
            client_tls(None, None, true).map_err(|error| ArchiveError::Setting(error.to_string()))?;
        Tls::Require(trusting)
    } else {
        Tls::Off
    };
    let target = Target {
        host: &dsn.host,
        port: dsn.port,
        user: &dsn.user,
        password: dsn.password.as_deref(),
        database: &dsn.database,
        application: "howdah backup",
        // The session waits for a checkpoint, then for hours of copying.
        options: "-c statement_timeout=0 -c lock_timeout=0",
        tls,
    };
    asked(
        "connecting to the server",
        Sql::connect(&target, by(QUESTION)).await,
    )
}

/// Begins a backup on the server.
pub(super) async fn begin(server: &Server, data: &Path, fast: bool) -> Result<Session, ArchiveError> {
    let sql = connect(server).await?;
    let facts = asked("asking the server", sql.row(FACTS, by(QUESTION)).await)?;
    let text = |at: usize| facts.get(at).unwrap_or_default().to_owned();
    let odd = |what: &str| ArchiveError::Refused(format!("the server says an odd {what}"));
    let is_replica = text(0) == "t";
    let version: u32 = text(1).parse().map_err(|_| odd("version"))?;
    let mode = text(5);
    if mode == "off" || (is_replica && mode.is_empty()) {
        return Err(ArchiveError::Refused(
            "archive_mode is off: a backup cannot be restored without its WAL. Set archive_mode and archive_command first"
                .to_owned(),
        ));
    }
    if version >= 140_000 {
        asked(
            "setting the session up",
            sql.run("SET idle_session_timeout = 0", by(QUESTION)).await,
        )?;
    }
    let system_id = SystemId(
        text(2)
            .parse::<i64>()
            .map_err(|_| odd("system identifier"))?
            .cast_unsigned(),
    );
    is_of(data, system_id, text(7).parse().map_err(|_| odd("start"))?)?;
    let size: u64 = text(6).parse().map_err(|_| odd("size of segments"))?;
    let start = if version >= 150_000 {
        format!("SELECT pg_backup_start('howdah', {fast})")
    } else {
        format!("SELECT pg_start_backup('howdah', {fast}, false)")
    };
    let started = asked("beginning the backup", sql.row(&start, by(CHECKPOINT)).await)?;
    let start: Lsn = started
        .get(0)
        .unwrap_or_default()
        .parse()
        .map_err(|_| odd("position"))?;
    // The timeline of the checkpoint that the backup begins with.
    let timeline = asked(
        "asking for the timeline",
        sql.row("SELECT timeline_id FROM pg_control_checkpoint()", by(QUESTION))
            .await,
    )?;
    let timeline: u32 = timeline
        .get(0)
        .unwrap_or_default()
        .parse()
        .map_err(|_| odd("timeline"))?;
    Ok(Session {
        sql,
        begun: Begun {
            start,
            timeline: Timeline(timeline),
            is_replica,
            system_id,
            version,
            segment_size: SegmentSize::try_from(size).map_err(ArchiveError::Refused)?,
            has_checksums: text(4) == "on",
        },
    })
}

impl Session {
    /// Ends the backup on the server.
    pub(super) async fn stop(self) -> Result<Stopped, ArchiveError> {
        let stop = if self.begun.version >= 150_000 {
            "SELECT lsn, labelfile, spcmapfile FROM pg_backup_stop(false)"
        } else {
            "SELECT lsn, labelfile, spcmapfile FROM pg_stop_backup(false, false)"
        };
        let row = asked("ending the backup", self.sql.row(stop, by(CHECKPOINT)).await)?;
        let facts = asked("asking the server", self.sql.row(FACTS, by(QUESTION)).await)?;
        if (facts.get(0) == Some("t")) != self.begun.is_replica {
            return Err(ArchiveError::Refused(
                "the replica was promoted while it was backed up: make the backup again".to_owned(),
            ));
        }
        // A replica that follows a new primary reads another timeline's WAL by now.
        let timelines = [facts.get(3), facts.get(8).filter(|_| self.begun.is_replica)];
        let timelines = timelines
            .into_iter()
            .flatten()
            .filter_map(|id| id.parse::<u32>().ok());
        if let Some(other) = timelines
            .filter(|id| *id != 0)
            .find(|id| *id != self.begun.timeline.0)
        {
            return Err(ArchiveError::Refused(format!(
                "the timeline changed from {} to {other} while the backup was made: make it again",
                self.begun.timeline
            )));
        }
        let label = row.get(1).unwrap_or_default().to_owned();
        let in_label = label
            .lines()
            .find_map(|line| line.strip_prefix("START TIMELINE: ")?.trim().parse::<u32>().ok());
        if in_label.is_some_and(|in_label| in_label != self.begun.timeline.0) {
            return Err(ArchiveError::Refused(format!(
                "the timeline changed from {} while the backup was made: make it again",
                self.begun.timeline
            )));
        }
        let finish = row.get(0).unwrap_or_default().parse();
        Ok(Stopped {
            finish: finish
                .map_err(|_| ArchiveError::Refused("the server says an odd position".to_owned()))?,
            label,
            tablespaces: row.get(2).unwrap_or_default().to_owned(),
        })
    }
}

/// Whether a server is in recovery.
///
/// # Errors
/// It does not answer.
pub async fn is_replica(server: &Server) -> Result<bool, ArchiveError> {
    let sql = connect(server).await?;
    let row = asked(
        "asking the server",
        sql.row("SELECT pg_is_in_recovery()", by(QUESTION)).await,
    )?;
    Ok(row.get(0) == Some("t"))
}
