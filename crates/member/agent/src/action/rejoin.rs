//! Bringing a member back whose WAL may not belong to the leader's history.

use std::time::Duration;

use anyhow::Context;
use howdah_backup::{SegmentSize, WalName};
use howdah_clock::now;
use howdah_dcs::Member;
use howdah_guard::StopMode;
use howdah_ha::{LeaderWal, OwnEnd, OwnWal, Relation, Upstream, relate};
use howdah_pgconf::{HistoryLine, newest_at, parse_history};
use howdah_postgres::{RewindFailed, Sample, Session, archive_ready, rewind};
use howdah_types::{Lsn, Origins, Timeline};

use super::{Outcome, Ways, copy, start};
use crate::{
    blocking::blocking,
    note::Note,
    outside::{Outside, source},
};

/// No other member archives what this one had no time to archive as a primary, and a rewind or copy removes it. Only WAL that
/// is the leader's too: what is behind the branch was lost, and whoever found it in the archive would replay it.
async fn archive_what_waits(outside: &Outside, timeline: Timeline, history: &[HistoryLine]) {
    let is_leaders = |name: &str, length: u64| match name.parse() {
        Ok(WalName::Segment(segment) | WalName::Label(segment, _)) => {
            let ends = history.iter().find(|line| line.timeline == segment.timeline);
            let size = SegmentSize::try_from(length).unwrap_or_default();
            match (ends, segment.number(size)) {
                (Some(line), Some(number)) => number < size.number_at(line.switch),
                _ => false,
            }
        }
        Ok(WalName::History(of)) => of == timeline || history.iter().any(|line| line.timeline == of),
        Ok(WalName::Partial(_)) | Err(_) => false,
    };
    let (local, dynamic) = (&outside.server.local, &outside.dynamic);
    match archive_ready(local, dynamic, is_leaders, now() + ARCHIVING).await {
        Ok(0) => {}
        Ok(count) => tracing::info!("Archived {count} files that were waiting."),
        Err(why) => {
            tracing::warn!("Not all WAL that was waiting could be archived: {why}.");
        }
    }
}

/// How long a rewind waits for WAL to be archived. An archive that does not answer must not keep a replica away.
const ARCHIVING: Duration = Duration::from_secs(60);

/// Compares with the leader, rewinds or copies where it must, and follows. `copy`: whatever the comparison says, since
/// rewinds have not helped.
pub(crate) async fn rejoin(outside: &Outside, leader: &Upstream, copy: bool) -> Outcome {
    let running = outside.server.dir.postmaster().is_some();
    // The leader is asked after ours: what it has written meanwhile cannot make us look ahead.
    let own = own_wal(outside, running).await;
    let (timeline, history, flushed) = leader_history(outside, leader).await?;
    if copy {
        tracing::warn!(leader = %leader.name, "Rewinding did not help.");
        return copy_again(outside, leader).await;
    }
    if Note::half_rewind(&outside.server).is_marked() {
        tracing::warn!(leader = %leader.name, "A rewind was not finished.");
        return copy_again(outside, leader).await;
    }
    let (own_timeline, own_history, end) = own?;
    // The last look has kept what the WAL tells.
    let own_origins = outside.server.origins();
    let own = OwnWal {
        timeline: own_timeline,
        history: &own_history,
        end,
        origins: &own_origins,
    };
    let leaders = LeaderWal {
        timeline,
        history: &history,
        origins: &leaders_origins(outside, leader),
        flushed,
    };
    let relation = relate(&own, &leaders);
    if relation == Relation::Contained {
        if !running {
            return start::replica(outside, Some(leader)).await;
        }
        if wal_is_gone(outside, leader).await? {
            tracing::warn!(leader = %leader.name, "The leader no longer has the WAL that this replica needs.");
            // All that is here is the leader's too: nothing is kept.
            return copy::copy(outside, leader, leader, Ways::Configured).await;
        }
        return Ok(());
    }
    tracing::warn!(leader = %leader.name, %timeline, "Our WAL has left the leader's history.");
    if running {
        outside
            .stop(StopMode::Fast, outside.dynamic.pg_ctl_timeout)
            .await?;
    }
    archive_what_waits(outside, timeline, &history).await;
    if outside.dynamic.use_pg_rewind && relation == Relation::Left {
        // pg_rewind starts the server for a moment where that has crashed.
        let server = outside.server.clone();
        blocking("preparing the rewind", move || {
            // A volume that was mounted again with fsGroup has rights with which that server does not start.
            server.dir.create()?;
            server.dir.remove_stale_pid_file()?;
            // A pod that was made again has none yet.
            server.write_pgpass()
        })
        .await??;
        // While this stands, the data is neither of the old history nor of the new one.
        let marker = Note::half_rewind(&outside.server);
        marker.mark(&[])?;
        match rewind(&outside.server.local, &outside.server.programs, &source(leader)).await {
            // PostgreSQL follows the newest history that it finds. One that is not the leader's was made here, by a
            // promotion that the control file has not learnt of: pg_rewind has found nothing to do.
            Ok(())
                if outside
                    .server
                    .dir
                    .newest_history()
                    .is_some_and(|newest| newest > timeline) =>
            {
                tracing::warn!("pg_rewind has left a timeline that the leader does not have.");
            }
            Ok(()) => {
                tracing::info!("Rewound.");
                outside.server.set_standby(true)?;
                marker.clear()?;
                return start::replica(outside, Some(leader)).await;
            }
            Err(RewindFailed { error, has_written }) => {
                tracing::warn!("Rewinding failed: {error}.");
                if !has_written {
                    marker.clear()?;
                }
            }
        }
        // If the leader is gone, that was the reason, and a copy has no source.
        leader_history(outside, leader)
            .await
            .context("after a failed rewind")?;
    }
    copy_again(outside, leader).await
}

/// A copy takes the place of the data. What was there is removed only where the user has allowed it, else kept beside.
async fn copy_again(outside: &Outside, leader: &Upstream) -> Outcome {
    let dynamic = &outside.dynamic;
    let may_remove = if dynamic.use_pg_rewind {
        dynamic.remove_data_directory_on_rewind_failure
    } else {
        dynamic.remove_data_directory_on_diverged_timelines
    };
    if !may_remove {
        outside
            .stop(StopMode::Fast, outside.dynamic.pg_ctl_timeout)
            .await?;
        let suffix = format!("diverged-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S"));
        let dir = outside.server.dir.clone();
        let kept = blocking("keeping the diverged data", move || dir.set_aside(&suffix))
            .await?
            .context("keeping the diverged data beside the new copy")?;
        tracing::warn!(
            "The diverged data is kept as {}; remove it when it is not needed.",
            kept.display()
        );
    }
    copy::copy(outside, leader, leader, Ways::Configured).await
}

/// The leader's timeline, its history file, and how much WAL it has flushed. Also sees to it that the leader's control file knows the timeline:
/// pg_rewind reads it there.
async fn leader_history(
    outside: &Outside,
    leader: &Upstream,
) -> anyhow::Result<(Timeline, Vec<HistoryLine>, Lsn)> {
    let deadline = now() + Duration::from_secs(5);
    let session = outside
        .server
        .connect_to(&source(leader), deadline)
        .await
        .context("connecting to the leader")?;
    let sql = "SELECT pg_is_in_recovery(), timeline_id, \
        CASE WHEN pg_is_in_recovery() THEN lpad(to_hex(timeline_id), 8, '0') \
             ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, \
        CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
             ELSE pg_current_wal_flush_lsn() END \
        FROM pg_control_checkpoint()";
    let row = session.row(sql, deadline).await?;
    // The leader of a cluster that follows another one stays in recovery.
    let follows = outside.dynamic.standby.is_some() && !leader.remote;
    anyhow::ensure!(
        row.get(0) == Some("f") || follows,
        "{} is still in recovery",
        leader.name
    );
    let known = Timeline(row.get(1).unwrap_or_default().parse()?);
    let mut timeline = Timeline(u32::from_str_radix(row.get(2).unwrap_or_default(), 16)?);
    if follows {
        // What it has received is not for everybody to see; its agent says it.
        let record = outside.view.members.get(&leader.name);
        timeline = timeline.max(record.and_then(|record| record.timeline).unwrap_or_default());
    }
    let flushed: Lsn = row
        .get(3)
        .unwrap_or_default()
        .parse()
        .map_err(anyhow::Error::msg)?;
    anyhow::ensure!(
        known == timeline,
        "{} has no checkpoint on timeline {timeline} yet",
        leader.name
    );
    if timeline <= Timeline(1) {
        return Ok((timeline, Vec::new(), flushed));
    }
    let file = format!("pg_wal/{:08X}.history", timeline.0);
    let sql = format!("SELECT convert_from(pg_read_binary_file('{file}'), 'UTF8')");
    let text = session
        .row(&sql, deadline)
        .await
        .context("reading the leader's history")?;
    Ok((timeline, parse_history(text.get(0).unwrap_or_default()), flushed))
}

/// What is known of our own WAL: its timeline, that timeline's history, and its end.
async fn own_wal(outside: &Outside, running: bool) -> anyhow::Result<(Timeline, Vec<HistoryLine>, OwnEnd)> {
    let (timeline, end) = if running {
        let session: Session = outside.connect().await?;
        let sample = Sample::take(&session, &outside.server.dir, now() + Duration::from_secs(3)).await?;
        let end = OwnEnd::Running {
            position: sample.replayed,
            in_recovery: sample.in_recovery,
        };
        (sample.timeline, end)
    } else {
        let control = outside.server.dir.control()?;
        let end = OwnEnd::Stopped {
            state: control.state,
            checkpoint: control.checkpoint,
            has_backup_label: outside.server.dir.has_backup_label(),
        };
        (control.timeline, end)
    };
    let (history, _) = outside.server.history(timeline);
    Ok((timeline, history, end))
}

/// Which promotions began the leader's timelines, as its record says.
fn leaders_origins(outside: &Outside, leader: &Upstream) -> Origins {
    let member = outside.view.members.get(&leader.name);
    member.and_then(Member::origins).cloned().unwrap_or_default()
}

/// Whether the leader has removed the WAL that this running replica waits for, and no archive can have it.
async fn wal_is_gone(outside: &Outside, leader: &Upstream) -> anyhow::Result<bool> {
    let deadline = now() + Duration::from_secs(5);
    let local = outside.connect().await?;
    let sql = "SELECT pg_last_wal_replay_lsn(), current_setting('restore_command'), \
        (SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'), \
        (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size')";
    let row = local.row(sql, deadline).await?;
    let streams = row.get(2) != Some("0");
    if streams || row.get(1).is_some_and(|command| !command.is_empty()) {
        return Ok(false);
    }
    let (Some(Ok(position)), Some(Ok(size))) = (
        row.get(0).map(str::parse::<Lsn>),
        row.get(3).map(str::parse::<u64>),
    ) else {
        return Ok(false);
    };
    let session = outside.server.connect_to(&source(leader), deadline).await?;
    let rows = session
        .rows("SELECT pg_ls_dir('pg_wal', true, false)", deadline)
        .await?;
    let names: Vec<&str> = rows.iter().filter_map(|row| row.get(0)).collect();
    // The segment in which the next record begins.
    Ok(newest_at(names, Lsn(position.0 + 1), size).is_none())
}
