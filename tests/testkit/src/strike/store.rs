use std::time::Duration;

use anyhow::Context;
use howdah_http::Method;
use rustix::process::Signal;

use super::{Scene, pass};
use crate::{Etcd, config::KEYS, pods::CLUSTER, processes::send};

/// For how long the network to the store is bad.
const BAD: Duration = Duration::from_secs(30);

fn etcd<'a>(scene: &'a Scene<'_>) -> anyhow::Result<&'a Etcd> {
    scene.lab.etcd.as_ref().context("there is no etcd")
}

pub(super) async fn frozen(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let store = etcd(scene)?.pid();
    send(store, Signal::STOP);
    scene.outlast_the_lease().await;
    send(store, Signal::CONT);
    Ok(())
}

/// Deletes what the store knows of the cluster: etcd's keys, or the objects that Kubernetes has of it.
pub(super) async fn wiped(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    if let Some(store) = &scene.lab.etcd {
        return store.delete(KEYS, true).await;
    }
    let objects = ["config", "failover", "leader", "sync"].map(|what| format!("configmap/{CLUSTER}-{what}"));
    let mut args = vec!["delete", "--ignore-not-found"];
    args.extend(objects.iter().map(String::as_str));
    kubectl(scene, &args)
}

pub(super) async fn lost(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let dir = scene.lab.dir().to_owned();
    scene.lab.etcd.as_mut().context("there is no etcd")?.stop();
    scene.outlast_the_lease().await;
    let store = scene.lab.etcd.as_mut().context("there is no etcd")?;
    store.start_empty(&dir).await
}

pub(super) async fn leader_key_deleted(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    etcd(scene)?.delete(&format!("{KEYS}leader"), false).await
}

/// A lease of eleven days in the leader's record, as anybody may write who can write there.
pub(super) async fn foreign_lease(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let object = format!("configmap/{CLUSTER}-leader");
    kubectl(scene, &["annotate", "--overwrite", &object, "ttl=1000000"])?;
    super::processes::node_killed(scene).await
}

pub(super) async fn bad_link(
    scene: &mut Scene<'_>,
    delay: Duration,
    loss_percent: u32,
) -> anyhow::Result<()> {
    for link in &scene.lab.links {
        link.set(delay, loss_percent);
    }
    pass(BAD).await;
    for link in &scene.lab.links {
        link.set(Duration::ZERO, 0);
    }
    Ok(())
}

/// The store is out of the primary's reach, and of no other's, until another member leads.
pub(super) async fn leader_cut(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let i = scene.primary;
    let link = |scene: &Scene<'_>, cut| -> anyhow::Result<()> {
        let link = scene
            .lab
            .links
            .get(i)
            .context("members reach the store directly")?;
        link.cut(cut);
        Ok(())
    };
    link(scene, true)?;
    scene.another_leads().await?;
    // What it wanted to write arrives late.
    link(scene, false)
}

/// `/sync` is left alone: who may take over in synchronous mode stands there and nowhere else. So is the leader key, which
/// is another fault.
pub(super) async fn garbled(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let garbage = [
        ("config", "{\"ttl\": "),
        ("status", "[1, 2"),
        ("history", "what?"),
        ("failover", "{]"),
        ("members/stranger", "not json"),
        ("members/", "{}"),
        ("initialize", "4711"),
        ("nothing-of-ours", "\u{0}\u{1}"),
    ];
    for (key, value) in garbage {
        etcd(scene)?.put(&format!("{KEYS}{key}"), value).await?;
    }
    let member = &scene.lab.members[scene.primary];
    crate::until("the configuration is back", scene.patience, async || {
        let answer = member.call(Method::GET, "/config", None).await;
        answer.is_ok_and(|answer| answer.status == 200)
    })
    .await
    .with_context(|| scene.lab.logs())?;
    super::processes::node_killed(scene).await?;
    for key in ["members/stranger", "members/", "nothing-of-ours"] {
        etcd(scene)?.delete(&format!("{KEYS}{key}"), false).await?;
    }
    Ok(())
}

fn kubectl(scene: &Scene<'_>, args: &[&str]) -> anyhow::Result<()> {
    let sandbox = scene.lab.sandbox().context("there is no sandbox")?;
    sandbox.kubectl(args).map(drop)
}
