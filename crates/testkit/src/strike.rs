use std::{fs, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_http::{Method, sleep_until};
use rustix::process::Signal;
use serde_json::json;

use crate::{Fault, Lab, config::KEYS, connect, pods::CLUSTER, processes::send};

/// Processes below one backend.
const CROWD: usize = 20_000;

/// Beyond the lease, for what must have ended with it.
const SLACK: Duration = Duration::from_secs(2);

/// Strikes the primary, waits until the cluster has dealt with it, and sets right what only the test has broken.
///
/// # Errors
/// The cluster does not recover in time.
pub async fn strike(lab: &mut Lab, fault: Fault, patience: Duration) -> anyhow::Result<()> {
    let lease = lab.lease().await?;
    let primary = lab
        .primary()
        .await
        .context("nobody is primary before the fault")?;
    let member = &mut lab.members[primary];
    let pid = |pid: Option<u32>, what: &str| pid.with_context(|| format!("there is no {what}"));
    match fault {
        Fault::Postmaster => send(pid(member.postmaster_pid(), "postmaster")?, Signal::KILL),
        Fault::Backend => send(pid(member.a_backend(), "backend")?, Signal::KILL),
        Fault::Agent => send(pid(member.agent_pid(), "agent")?, Signal::KILL),
        Fault::AgentFrozen => send(pid(member.agent_pid(), "agent")?, Signal::STOP),
        Fault::Guard => {
            send(pid(member.guard_pid(), "guard")?, Signal::KILL);
            member.reap();
            wait_for_other(lab, primary, patience).await?;
            lab.members[primary].start()?;
        }
        Fault::BothFrozen => {
            let (guard, agent) = (
                pid(member.guard_pid(), "guard")?,
                pid(member.agent_pid(), "agent")?,
            );
            send(guard, Signal::STOP);
            send(agent, Signal::STOP);
            wait_for_other(lab, primary, patience).await?;
            // The frozen primary still has its sessions for a moment: that is what this fault is about.
            sleep_until(now() + Duration::from_millis(500)).await;
            send(guard, Signal::CONT);
            send(agent, Signal::CONT);
        }
        Fault::Node => {
            member.kill_node();
            wait_for_other(lab, primary, patience).await?;
            lab.members[primary].start()?;
        }
        Fault::Switchover => {
            let body = json!({ "leader": member.name });
            let answer = member.call(Method::POST, "/switchover", Some(&body)).await?;
            anyhow::ensure!(
                answer.status == 200,
                "switchover: {} {}",
                answer.status,
                answer.text()
            );
        }
        Fault::Terminate => {
            send(pid(member.guard_pid(), "guard")?, Signal::TERM);
            member.wait_exit(patience).await?;
            wait_for_other(lab, primary, patience).await?;
            lab.members[primary].start()?;
        }
        Fault::GuardFrozen => {
            let guard = pid(member.guard_pid(), "guard")?;
            send(guard, Signal::STOP);
            sleep_until(now() + lease + SLACK).await;
            send(guard, Signal::CONT);
        }
        Fault::GuardAndStoreFrozen => {
            let guard = pid(member.guard_pid(), "guard")?;
            let store = lab.etcd.as_ref().context("there is no etcd")?.pid();
            send(guard, Signal::STOP);
            send(store, Signal::STOP);
            sleep_until(now() + lease + SLACK).await;
            send(store, Signal::CONT);
            // Somebody leads again, while the guard is still frozen.
            lab.wait_primary(patience).await?;
            send(guard, Signal::CONT);
        }
        Fault::StoreFrozen => {
            let store = lab.etcd.as_ref().context("there is no etcd")?.pid();
            send(store, Signal::STOP);
            sleep_until(now() + lease + SLACK).await;
            send(store, Signal::CONT);
        }
        Fault::Crowd => {
            let (client, _notices) = connect(&member.address()).await?;
            let program = format!(
                "CREATE TEMP TABLE crowd (t text); \
                 COPY crowd FROM PROGRAM 'i=0; while [ $i -lt {CROWD} ]; do sleep 600 & i=$((i+1)); done; wait'"
            );
            let crowd = tokio::spawn(async move { client.batch_execute(&program).await });
            let member = &lab.members[primary];
            crate::until("a crowd is there", Duration::from_secs(120), async || {
                member.postgres_pids().len() > CROWD
            })
            .await?;
            let store = lab.etcd.as_ref().context("there is no etcd")?.pid();
            send(store, Signal::STOP);
            sleep_until(now() + lease + SLACK).await;
            send(store, Signal::CONT);
            // Its session has ended with the server.
            let _ = crowd.await?;
        }
        Fault::StoreWiped => wipe(lab).await?,
        Fault::StoreLost => {
            let dir = lab.dir().to_owned();
            let store = lab.etcd.as_mut().context("there is no etcd")?;
            store.stop();
            sleep_until(now() + lease + SLACK).await;
            store.start_empty(&dir).await?;
        }
        Fault::LeaderKeyDeleted => {
            let store = lab.etcd.as_ref().context("there is no etcd")?;
            store.delete(&format!("{KEYS}leader"), false).await?;
        }
        Fault::ForeignLease => {
            foreign_lease(lab)?;
            lab.members[primary].kill_node();
            wait_for_other(lab, primary, patience).await?;
            lab.members[primary].start()?;
        }
        Fault::CannotStart => {
            let lost = member.data_dir().join("pg_multixact/offsets/0000");
            let aside = lost.with_extension("aside");
            fs::rename(&lost, &aside)?;
            send(pid(member.postmaster_pid(), "postmaster")?, Signal::KILL);
            wait_for_other(lab, primary, patience).await?;
            if aside.exists() {
                fs::rename(aside, lost)?;
            }
        }
        Fault::PostgresFrozen => {
            for process in member.postgres_pids() {
                send(process, Signal::STOP);
            }
            wait_for_other(lab, primary, patience).await?;
        }
        Fault::DataRemoved => {
            fs::remove_dir_all(member.data_dir())?;
            wait_for_other(lab, primary, patience).await?;
        }
        Fault::CheckpointerFrozen => {
            send(pid(member.process("checkpointer"), "checkpointer")?, Signal::STOP);
            sleep_until(now() + Duration::from_secs(2)).await;
            member.kill_node();
            wait_for_other(lab, primary, patience).await?;
            lab.members[primary].start()?;
        }
        Fault::WalSenders => {
            for process in member.processes("walsender") {
                send(process, Signal::KILL);
            }
        }
        Fault::PowerCut => {
            for member in &mut lab.members {
                member.kill_node();
            }
            lab.start_all()?;
        }
    }
    Ok(())
}

/// Deletes what the store knows of the cluster: etcd's keys, or the objects that Kubernetes has of it.
async fn wipe(lab: &Lab) -> anyhow::Result<()> {
    if let Some(store) = &lab.etcd {
        return store.delete(KEYS, true).await;
    }
    let objects = ["config", "failover", "leader", "sync"].map(|what| format!("configmap/{CLUSTER}-{what}"));
    let mut args = vec!["delete", "--ignore-not-found"];
    args.extend(objects.iter().map(String::as_str));
    lab.sandbox().context("there is no sandbox")?.kubectl(&args)?;
    Ok(())
}

/// Writes a lease of eleven days into the leader's record, as anybody may who can write there.
fn foreign_lease(lab: &Lab) -> anyhow::Result<()> {
    let object = format!("configmap/{CLUSTER}-leader");
    let args = ["annotate", "--overwrite", &object, "ttl=1000000"];
    lab.sandbox().context("there is no sandbox")?.kubectl(&args)?;
    Ok(())
}

async fn wait_for_other(lab: &Lab, old: usize, patience: Duration) -> anyhow::Result<()> {
    let others = async || {
        let others = lab.members.iter().enumerate().filter(|(i, _)| *i != old);
        for (_, member) in others {
            if member
                .call(Method::GET, "/primary", None)
                .await
                .is_ok_and(|answer| answer.status == 200)
            {
                return true;
            }
        }
        false
    };
    crate::until("another member leads", patience, async || others().await)
        .await
        .with_context(|| lab.logs())
}
