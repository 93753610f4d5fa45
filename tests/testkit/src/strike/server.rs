use std::{fs, io::Write, net::TcpListener, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_http::Method;
use rustix::process::Signal;
use serde_json::json;

use super::{Scene, of, pass};
use crate::{disk::Filler, processes::send};

pub(super) async fn cannot_start(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let lost = scene.member().data_dir().join("pg_multixact/offsets/0000");
    let aside = lost.with_extension("aside");
    fs::rename(&lost, &aside)?;
    super::processes::postmaster_killed(scene)?;
    scene.another_leads().await?;
    if aside.exists() {
        fs::rename(aside, lost)?;
    }
    Ok(())
}

pub(super) async fn port_taken(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut taken = None;
    // The agent starts PostgreSQL again at once: another process that wants the port must be quick.
    for _ in 0..20 {
        let member = scene.member();
        let address = (member.host, member.port);
        send(of(member.postmaster_pid(), "postmaster")?, Signal::KILL);
        let limit = now() + Duration::from_secs(1);
        while taken.is_none() && now() < limit {
            taken = TcpListener::bind(address).ok();
        }
        if taken.is_some() {
            break;
        }
        pass(Duration::from_secs(1)).await;
    }
    let taken = taken.context("PostgreSQL had its port back each time")?;
    scene.another_leads().await?;
    drop(taken);
    Ok(())
}

pub(super) async fn disk_full(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let data = scene.member().data_dir();
    let filler = Filler::fill(&data)?;
    super::processes::postmaster_killed(scene)?;
    scene.another_leads().await?;
    drop(filler);
    Ok(())
}

pub(super) async fn postgres_frozen(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for process in scene.member().postgres_pids() {
        send(process, Signal::STOP);
    }
    scene.another_leads().await
}

pub(super) async fn postmaster_frozen(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    send(of(scene.member().postmaster_pid(), "postmaster")?, Signal::STOP);
    scene.another_leads().await
}

#[allow(clippy::disallowed_methods, reason = "a test waits")]
pub(super) async fn data_removed(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let data = scene.member().data_dir();
    // PostgreSQL writes new files meanwhile; what is left then is no data directory either.
    let removed = fs::remove_dir_all(&data);
    anyhow::ensure!(
        !data.join("PG_VERSION").exists(),
        "{}: {removed:?}",
        data.display()
    );
    scene.another_leads().await
}

pub(super) async fn control_damaged(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let control = scene.member().data_dir().join("global/pg_control");
    fs::OpenOptions::new()
        .write(true)
        .open(control)?
        .write_all(&[0; 8192])?;
    super::processes::postmaster_killed(scene)?;
    scene.another_leads().await?;
    let member = &scene.lab.members[scene.primary];
    crate::until("the member is copied", scene.patience, async || {
        let answer = member.call(Method::POST, "/reinitialize", Some(&json!({}))).await;
        answer.is_ok_and(|answer| answer.status == 200)
    })
    .await
    .with_context(|| scene.lab.logs())
}
