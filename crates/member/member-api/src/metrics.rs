use std::fmt::Write;

use howdah_types::{BootTime, PgState, Role};

use crate::{MemberFacts, PATRONI_VERSION, Position, archive_metrics};

/// `GET /metrics`, with Patroni's names. All are gauges but the three WAL positions.
#[must_use]
pub fn metrics(facts: &MemberFacts, now: BootTime) -> String {
    let mut out = Page {
        text: String::new(),
        labels: labels(facts),
    };
    let flag = |value: bool| f64::from(u8::from(value));
    let version: String = PATRONI_VERSION
        .split('.')
        .map(|part| format!("{part:0>2}"))
        .collect();
    out.gauge("patroni_version", "Patroni semver without periods", &version);
    let running = facts.state == PgState::Running;
    out.number(
        "patroni_postgres_running",
        "Value is 1 if Postgres is running, 0 otherwise.",
        flag(running),
    );
    out.number(
        "patroni_postmaster_start_time",
        "Epoch seconds since Postgres started.",
        facts.postmaster_start_epoch,
    );
    let primary = facts.role == Role::Primary && facts.leads(now);
    out.number(
        "patroni_primary",
        "Value is 1 if this node is the leader, 0 otherwise.",
        flag(primary),
    );
    let (mut location, mut received, mut replayed, mut replayed_at, mut paused) = (0, 0, 0, 0.0, false);
    match &facts.position {
        Some(Position::Primary { location: at, .. }) => location = at.0,
        Some(Position::Replica {
            received: r,
            replayed: p,
            replayed_epoch,
            paused: held,
            ..
        }) => {
            (received, replayed, replayed_at, paused) = (r.0, p.0, *replayed_epoch, *held);
        }
        None => {}
    }
    out.counter(
        "patroni_xlog_location",
        "Current location of the Postgres transaction log, 0 if this node is not the leader.",
        location,
    );
    out.number(
        "patroni_standby_leader",
        "Value is 1 if this node is the standby_leader, 0 otherwise.",
        flag(facts.role == Role::StandbyLeader),
    );
    out.number(
        "patroni_replica",
        "Value is 1 if this node is a replica, 0 otherwise.",
        flag(facts.role == Role::Replica),
    );
    out.number(
        "patroni_sync_standby",
        "Value is 1 if this node is a sync standby, 0 otherwise.",
        flag(facts.sync_standby),
    );
    out.number(
        "patroni_quorum_standby",
        "Value is 1 if this node is a quorum standby, 0 otherwise.",
        flag(facts.quorum_standby),
    );
    out.counter(
        "patroni_xlog_received_location",
        "Current location of the received Postgres transaction log, 0 if this node is not a replica.",
        received,
    );
    out.counter(
        "patroni_xlog_replayed_location",
        "Current location of the replayed Postgres transaction log, 0 if this node is not a replica.",
        replayed,
    );
    out.number(
        "patroni_xlog_replayed_timestamp",
        "Current timestamp of the replayed Postgres transaction log, 0 if null.",
        replayed_at,
    );
    out.number(
        "patroni_xlog_paused",
        "Value is 1 if the replaying of Postgres transaction log is paused, 0 otherwise.",
        flag(paused),
    );
    out.number(
        "patroni_postgres_streaming",
        "Value is 1 if Postgres is streaming, 0 otherwise.",
        flag(facts.replication_state == Some("streaming")),
    );
    out.number(
        "patroni_postgres_in_archive_recovery",
        "Value is 1 if Postgres is replicating from archive, 0 otherwise.",
        flag(facts.replication_state == Some("in archive recovery")),
    );
    out.number(
        "patroni_postgres_server_version",
        "Version of Postgres (if running), 0 otherwise.",
        facts.server_version.map_or(0.0, f64::from),
    );
    out.number(
        "patroni_cluster_unlocked",
        "Value is 1 if the cluster is unlocked, 0 if locked.",
        flag(facts.cluster_unlocked),
    );
    out.number(
        "patroni_failsafe_mode_is_active",
        "Value is 1 if failsafe mode is active, 0 if inactive.",
        flag(facts.failsafe_is_active),
    );
    let timeline = facts.timeline().map_or(0.0, |timeline| f64::from(timeline.0));
    out.number(
        "patroni_postgres_timeline",
        "Postgres timeline of this node (if running), 0 otherwise.",
        timeline,
    );
    out.gauge(
        "patroni_dcs_last_seen",
        "Epoch timestamp when DCS was last contacted successfully.",
        &facts.dcs_last_seen.to_string(),
    );
    out.number(
        "patroni_pending_restart",
        "Value is 1 if the node needs a restart, 0 otherwise.",
        flag(!facts.pending_restart.is_empty()),
    );
    out.number(
        "patroni_is_paused",
        "Value is 1 if auto failover is disabled, 0 otherwise.",
        flag(facts.pause),
    );
    out.gauge(
        "patroni_postgres_state",
        "Numeric representation of Postgres state.",
        &facts.state.metric().to_string(),
    );
    out.gauge(
        "howdah_log_lines_lost",
        "Log lines dropped because the pipe was full.",
        &facts.log_lost.to_string(),
    );
    for (name, help, kind, value) in facts
        .archive
        .iter()
        .flat_map(|report| archive_metrics::of(report))
    {
        out.line(name, help, kind, &value.to_string());
    }
    out.text
}

fn labels(facts: &MemberFacts) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "{{scope=\"{}\",name=\"{}\"}}",
        escape(facts.scope.as_str()),
        escape(facts.name.as_str())
    )
}

struct Page {
    text: String,
    labels: String,
}

impl Page {
    fn number(&mut self, name: &str, help: &str, value: f64) {
        self.line(name, help, "gauge", &value.to_string());
    }

    fn gauge(&mut self, name: &str, help: &str, value: &str) {
        self.line(name, help, "gauge", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.line(name, help, "counter", &value.to_string());
    }

    fn line(&mut self, name: &str, help: &str, kind: &str, value: &str) {
        let labels = &self.labels;
        let _ = write!(
            self.text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}\n"
        );
    }
}
