use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;

use super::{Scene, of, pass};
use crate::{connect, processes::send};

/// Processes below one backend.
const CROWD: usize = 20_000;

pub(super) fn postmaster_killed(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    send(of(scene.member().postmaster_pid(), "postmaster")?, Signal::KILL);
    Ok(())
}

pub(super) fn backend_killed(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    send(of(scene.member().a_backend(), "backend")?, Signal::KILL);
    Ok(())
}

pub(super) fn agent_killed(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    send(of(scene.member().agent_pid(), "agent")?, Signal::KILL);
    Ok(())
}

pub(super) fn agent_frozen(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    send(of(scene.member().agent_pid(), "agent")?, Signal::STOP);
    Ok(())
}

pub(super) async fn guard_killed(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let member = scene.member();
    send(of(member.guard_pid(), "guard")?, Signal::KILL);
    member.reap();
    scene.is_replaced().await
}

pub(super) async fn both_frozen(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let member = scene.member();
    let guard = of(member.guard_pid(), "guard")?;
    let agent = of(member.agent_pid(), "agent")?;
    send(guard, Signal::STOP);
    send(agent, Signal::STOP);
    scene.another_leads().await?;
    // The frozen primary still has its sessions for a moment: that is what this fault is about.
    pass(Duration::from_millis(500)).await;
    send(guard, Signal::CONT);
    send(agent, Signal::CONT);
    Ok(())
}

pub(super) async fn node_killed(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.member().kill_node();
    scene.is_replaced().await
}

pub(super) async fn terminated(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let patience = scene.patience;
    let member = scene.member();
    send(of(member.guard_pid(), "guard")?, Signal::TERM);
    member.wait_exit(patience).await?;
    scene.another_leads().await?;
    scene.member().start()
}

pub(super) async fn guard_frozen(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let guard = of(scene.member().guard_pid(), "guard")?;
    send(guard, Signal::STOP);
    scene.outlast_the_lease().await;
    send(guard, Signal::CONT);
    Ok(())
}

pub(super) async fn guard_and_store_frozen(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let guard = of(scene.member().guard_pid(), "guard")?;
    let store = scene.lab.etcd.as_ref().context("there is no etcd")?.pid();
    send(guard, Signal::STOP);
    send(store, Signal::STOP);
    scene.outlast_the_lease().await;
    send(store, Signal::CONT);
    // There is a leader again, while the guard is still frozen.
    scene.lab.wait_primary(scene.patience).await?;
    send(guard, Signal::CONT);
    Ok(())
}

pub(super) async fn crowd(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (client, _notices) = connect(&scene.member().address()).await?;
    let program = format!(
        "CREATE TEMP TABLE crowd (t text); \
         COPY crowd FROM PROGRAM 'i=0; while [ $i -lt {CROWD} ]; do sleep 600 & i=$((i+1)); done; wait'"
    );
    let crowd = tokio::spawn(async move { client.batch_execute(&program).await });
    let member = &scene.lab.members[scene.primary];
    crate::until("a crowd is there", Duration::from_secs(120), async || {
        member.postgres_pids().len() > CROWD
    })
    .await?;
    super::store::frozen(scene).await?;
    // Its session has ended with the server.
    let _ = crowd.await?;
    Ok(())
}
