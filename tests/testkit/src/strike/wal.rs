use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;

use super::{Scene, of, pass};
use crate::{connect, processes::send};

/// Enough for some thousand rows.
const A_WHILE: Duration = Duration::from_secs(2);

pub(super) async fn checkpointer_frozen(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let checkpointer = scene.member().process("checkpointer");
    send(of(checkpointer, "checkpointer")?, Signal::STOP);
    pass(A_WHILE).await;
    super::processes::node_killed(scene).await
}

/// Whether commits wait is known to a new primary's backends only after its checkpointer has read the settings.
pub(super) async fn checkpointer_stuck(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let old = scene.primary;
    for i in scene.replicas() {
        let checkpointer = scene.lab.members[i].process("checkpointer");
        send(of(checkpointer, "checkpointer")?, Signal::STOP);
    }
    scene.member().kill_node();
    let new = scene.other_than(&[old]).await?;
    let cut: Vec<usize> = scene.replicas().into_iter().filter(|i| *i != new).collect();
    for i in &cut {
        let member = &scene.lab.members[*i];
        for receiver in member.processes("walreceiver") {
            send(receiver, Signal::STOP);
        }
    }
    pass(A_WHILE).await;
    scene.lab.members[new].kill_node();
    for i in cut {
        for process in scene.lab.members[i].postgres_pids() {
            send(process, Signal::CONT);
        }
    }
    pass(A_WHILE).await;
    scene.lab.members[old].start()?;
    scene.lab.members[new].start()
}

pub(super) fn senders_killed(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for process in scene.member().processes("walsender") {
        send(process, Signal::KILL);
    }
    Ok(())
}

pub(super) fn power_cut(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for member in &mut scene.lab.members {
        member.kill_node();
    }
    scene.lab.members.iter_mut().try_for_each(crate::Member::start)
}

pub(super) async fn power_cut_held_back(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for i in scene.replicas() {
        let receiver = scene.lab.members[i].wal_receiver();
        send(of(receiver, "WAL receiver")?, Signal::STOP);
    }
    pass(A_WHILE).await;
    power_cut(scene)
}

/// A replica that no commit waits for: a synchronous standby whose receiver stands still is the only one that may lead, and
/// cannot be promoted.
async fn not_synchronous(scene: &Scene<'_>) -> anyhow::Result<usize> {
    let (client, _notices) = connect(&scene.lab.members[scene.primary].address()).await?;
    let query = "SELECT application_name FROM pg_stat_replication WHERE sync_state IN ('async', 'potential')";
    let mut found = None;
    crate::until(
        "a replica that is not synchronous streams",
        scene.patience,
        async || {
            let rows = client.query(query, &[]).await.unwrap_or_default();
            let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            found = scene
                .replicas()
                .into_iter()
                .find(|i| names.contains(&scene.lab.members[*i].name));
            found.is_some()
        },
    )
    .await?;
    found.context("there is no replica")
}

/// The control file of one replica knows the new timeline, that of the other does not; and only the other one has the rows.
pub(super) async fn restartpoint_on_one(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    super::users::switchover(scene).await?;
    scene.lab.wait_healthy(scene.patience).await?;
    scene.primary = scene.lab.wait_primary(scene.patience).await?;
    let one = not_synchronous(scene).await?;
    for member in [scene.primary, one] {
        let (client, _notices) = connect(&scene.lab.members[member].address()).await?;
        client.batch_execute("CHECKPOINT").await?;
    }
    let receiver = of(scene.lab.members[one].wal_receiver(), "WAL receiver")?;
    send(receiver, Signal::STOP);
    pass(A_WHILE).await;
    scene.member().kill_node();
    scene.is_replaced().await?;
    send(receiver, Signal::CONT);
    Ok(())
}
