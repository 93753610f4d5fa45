use std::{fmt, time::Duration};

use anyhow::Context;
use howdah_clock::now;
use howdah_http::{Method, sleep_until};
use rustix::process::Signal;
use serde_json::json;

use crate::{Lab, processes::send};

/// What happens to the primary's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the postmaster.
    Postmaster,
    /// `kill -9` of one backend.
    Backend,
    /// `kill -9` of the agent.
    Agent,
    /// SIGSTOP of the agent.
    AgentFrozen,
    /// `kill -9` of the guard; somebody starts the member again.
    Guard,
    /// SIGSTOP of agent and guard; thawed when another member leads.
    BothFrozen,
    /// Everything of the node is killed at once; started again when another member leads.
    Node,
    /// A planned switchover.
    Switchover,
    /// SIGTERM; started again when another member leads.
    Terminate,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 9] = [
        Fault::Postmaster,
        Fault::Backend,
        Fault::Agent,
        Fault::AgentFrozen,
        Fault::Guard,
        Fault::BothFrozen,
        Fault::Node,
        Fault::Switchover,
        Fault::Terminate,
    ];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::Postmaster => "postmaster-killed",
            Fault::Backend => "backend-killed",
            Fault::Agent => "agent-killed",
            Fault::AgentFrozen => "agent-frozen",
            Fault::Guard => "guard-killed",
            Fault::BothFrozen => "agent-and-guard-frozen",
            Fault::Node => "node-killed",
            Fault::Switchover => "switchover",
            Fault::Terminate => "terminated",
        }
    }

    /// Whether another member leads afterwards.
    #[must_use]
    pub fn moves_leadership(self) -> bool {
        matches!(
            self,
            Fault::Guard | Fault::BothFrozen | Fault::Node | Fault::Switchover | Fault::Terminate
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Strikes the primary, waits until the cluster has dealt with it, and sets right what only the test has broken.
///
/// # Errors
/// The cluster does not recover in time.
pub async fn strike(lab: &mut Lab, fault: Fault, patience: Duration) -> anyhow::Result<()> {
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
    }
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
