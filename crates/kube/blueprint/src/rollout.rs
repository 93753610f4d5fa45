use howdah_overview::{MemberOverview, MemberRole, MemberState};
use howdah_types::PgState;
use serde_json::Value;

/// Upstream's annotation: this pod is to be replaced.
pub const ROLL_ANNOTATION: &str = "zalando-postgres-operator-rolling-update-required";

/// A pod as it was observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its number.
    pub ordinal: u32,
    /// The revision of the template that it was made from.
    pub revision: String,
    /// Its replacement was requested.
    pub wanted: bool,
    /// It is being deleted.
    pub ending: bool,
    /// PostgreSQL's container runs.
    pub running: bool,
    /// All of its containers are ready: a Service leads to it.
    pub ready: bool,
    /// Its node takes no new pods: it is being drained, or will be.
    pub leaving: bool,
    /// Why its container cannot run, such as `ErrImagePull: …`.
    pub trouble: Option<String>,
}

/// What the operator should do next to a cluster's members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// All is as it should be.
    Nothing,
    /// Nothing now; a change of an object starts the next pass.
    Wait(String),
    /// Delete a pod; the StatefulSet recreates it.
    Replace {
        /// Which.
        pod: String,
        /// Why.
        reason: String,
    },
    /// Hand leadership over.
    Switchover {
        /// The primary.
        from: String,
        /// The next one.
        to: String,
        /// Why.
        reason: String,
    },
    /// Restart PostgreSQL for its parameters.
    Restart {
        /// Which member.
        member: String,
        /// Why.
        reason: String,
    },
}

/// More behind than this, in bytes, is no candidate for a planned switchover.
const SWITCHOVER_LAG: u64 = 16 * 1024 * 1024;

/// The next step of a rollout: replicas first, one at a time and only while all others are well; then the primary hands
/// over to the most advanced replica, and is replaced as a replica. Observed again each time, so that an operator that
/// was restarted goes on where the other one stopped. `moves`: a primary may be moved because its node is being drained.
#[must_use]
pub fn next(wanted: u32, revision: &str, pods: &[Pod], rows: &[MemberOverview], moves: bool) -> Step {
    let member = |name: &str| rows.iter().find(|row| row.name == name);
    let primary = pods
        .iter()
        .find(|pod| member(&pod.name).is_some_and(MemberOverview::leads));
    let stale =
        |pod: &&Pod| (pod.wanted || (!revision.is_empty() && pod.revision != revision)) && !pod.ending;

    // A pod that cannot run is in no client's way, and its replacement may be the cure.
    if let Some(pod) = pods.iter().filter(stale).find(|pod| !pod.running) {
        return replace(pod, "it does not run, and its template has changed");
    }
    // Nor is one whose PostgreSQL does not start: what its template says now may be the cure. One that has crashed or was
    // stopped is another matter: its agent starts it again, or it was stopped on purpose.
    let down = |pod: &&Pod| member(&pod.name).is_some_and(|row| is_down(&row.state));
    if let Some(pod) = pods.iter().filter(stale).find(down) {
        return replace(pod, "its PostgreSQL does not run, and its template has changed");
    }
    if let Some(primary) = primary
        && primary.ordinal >= wanted
        && wanted > 0
    {
        let stays: Vec<&Pod> = pods.iter().filter(|pod| pod.ordinal < wanted).collect();
        return hand_over(primary, &stays, rows, "its pod goes away with the scaling down");
    }
    // The budget refuses the eviction of a primary: a drain waits until it is one no more. Without a replica elsewhere nothing
    // can be done; replicas are evicted and come back on other nodes. One that must go for another reason is no candidate, or
    // leadership would come back here.
    if let Some(primary) = primary.filter(|pod| moves && pod.leaving && !pod.ending) {
        let stays = |pod: &&Pod| !pod.leaving && pod.ordinal < wanted && !stale(pod);
        let elsewhere: Vec<&Pod> = pods.iter().filter(stays).collect();
        let step = hand_over(primary, &elsewhere, rows, "its node is being drained");
        if matches!(step, Step::Switchover { .. }) {
            return step;
        }
    }
    if let Some(pod) = pods.iter().find(|pod| pod.ending) {
        return Step::Wait(format!("{} ends", pod.name));
    }
    let stale_pods: Vec<&Pod> = pods.iter().filter(stale).collect();
    let follows = rows.iter().any(|row| row.role == MemberRole::StandbyLeader);
    let waits_for_restart = rows.iter().any(|row| waits(row, follows));
    if stale_pods.is_empty() && !waits_for_restart {
        return complete(wanted, pods, rows, &stale);
    }
    if let Step::Wait(reason) = complete(wanted, pods, rows, &stale) {
        return Step::Wait(format!("{reason}, before the next member is touched"));
    }
    let is_primary = |pod: &Pod| primary.is_some_and(|primary| primary.name == pod.name);
    if let Some(replica) = stale_pods
        .iter()
        .filter(|pod| !is_primary(pod))
        .max_by_key(|pod| pod.ordinal)
    {
        return replace(replica, "its template has changed");
    }
    if let Some(primary) = stale_pods.first() {
        let others: Vec<&Pod> = pods.iter().filter(|pod| pod.name != primary.name).collect();
        if others.is_empty() {
            return replace(primary, "its template has changed, and it is the only member");
        }
        return hand_over(primary, &others, rows, "its template has changed");
    }
    restart(rows, follows)
}

/// A start was tried and has failed.
fn is_down(state: &MemberState) -> bool {
    matches!(
        state,
        MemberState::Server(
            PgState::StartFailed
                | PgState::RestartFailed
                | PgState::InitdbFailed
                | PgState::CustomBootstrapFailed
        )
    )
}

fn replace(pod: &Pod, reason: &str) -> Step {
    Step::Replace {
        pod: pod.name.clone(),
        reason: reason.to_owned(),
    }
}

fn hand_over(primary: &Pod, candidates: &[&Pod], rows: &[MemberOverview], reason: &str) -> Step {
    let is_sync = |member: &MemberOverview| member.role.is_synchronous();
    let has_sync = rows.iter().any(is_sync);
    let behind = |member: &MemberOverview| member.received.map_or(u64::MAX, |position| position.lag);
    let best = rows
        .iter()
        .filter(|member| {
            candidates
                .iter()
                .any(|pod| pod.name == member.name && !pod.ending)
        })
        .filter(|member| member.streams() && behind(member) <= SWITCHOVER_LAG)
        // In synchronous mode only a synchronous standby may take over.
        .filter(|member| !has_sync || is_sync(member))
        // One that would have to hand over again comes last.
        .min_by_key(|member| {
            let leaves = candidates
                .iter()
                .any(|pod| pod.name == member.name && pod.leaving);
            (leaves, behind(member))
        });
    match best {
        Some(member) => Step::Switchover {
            from: primary.name.clone(),
            to: member.name.clone(),
            reason: reason.to_owned(),
        },
        None => Step::Wait(format!(
            "no replica is near enough to take over from {}",
            primary.name
        )),
    }
}

/// Parameters that must not be smaller on a replica than on its primary: raised on replicas first, lowered on the primary
/// first (PostgreSQL's documentation, "Hot Standby").
const BOUND_TO_PRIMARY: &[&str] = &[
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
];

/// Restarts go one by one as well: replicas first, unless a parameter that replicas are bound to is lowered.
fn restart(rows: &[MemberOverview], follows: bool) -> Step {
    let waiting = |row: &&MemberOverview| waits(row, follows);
    let leads = |row: &&MemberOverview| row.role.leads();
    let primary = rows.iter().filter(waiting).find(leads);
    let lowered = primary.filter(|row| !follows && row.pending_restart.iter().flatten().any(is_lowered));
    let row = lowered
        .or_else(|| rows.iter().filter(waiting).find(|row| !leads(row)))
        .or(primary);
    match row {
        Some(row) => {
            let names: Vec<String> = row
                .pending_restart
                .iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect();
            Step::Restart {
                member: row.name.clone(),
                reason: format!("for {}", names.join(", ")),
            }
        }
        None => Step::Nothing,
    }
}

/// Whether a member waits for a restart that would change something; `follows`: its cluster follows another one. A member of a cluster that follows another one keeps what is higher there, however
/// often it is restarted.
#[must_use]
pub fn waits(row: &MemberOverview, follows: bool) -> bool {
    let mut pending = row.pending_restart.iter().flatten();
    match &row.pending_restart {
        Some(names) if names.is_empty() => true,
        _ => pending.any(|change| !(follows && is_lowered(change))),
    }
}

fn is_lowered((name, change): (&String, &Value)) -> bool {
    let number = |key: &str| change[key].as_str().and_then(|text| text.parse::<i64>().ok());
    BOUND_TO_PRIMARY.contains(&name.as_str())
        && matches!((number("old_value"), number("new_value")), (Some(old), Some(new)) if new < old)
}

/// Whether every wanted member is there: one leads, the others stream.
fn complete(wanted: u32, pods: &[Pod], rows: &[MemberOverview], stale: &dyn Fn(&&Pod) -> bool) -> Step {
    let staying = pods.iter().filter(|pod| pod.ordinal < wanted).count();
    // What is wrong with a pod of an older template may be what the newer one corrects.
    let fresh = || pods.iter().filter(|pod| !stale(pod));
    if let Some(pod) = fresh().find(|pod| pod.trouble.is_some()) {
        let trouble = pod.trouble.as_deref().unwrap_or_default();
        return Step::Wait(format!("{} cannot run: {trouble}", pod.name));
    }
    if let Some(pod) = fresh().find(|pod| pod.running && !pod.ready && !pod.ending) {
        return Step::Wait(format!("{} is not ready", pod.name));
    }
    if staying < wanted as usize || pods.len() > staying {
        return Step::Wait(format!("{} of {wanted} pods are there", pods.len()));
    }
    let members: Vec<&MemberOverview> = rows
        .iter()
        .filter(|row| pods.iter().any(|pod| pod.name == row.name))
        .collect();
    if wanted > 0 && !members.iter().any(|member| member.leads()) {
        return Step::Wait("no member takes writes yet".into());
    }
    let missing = pods.iter().find(|pod| {
        !members
            .iter()
            .any(|member| member.name == pod.name && (member.leads() || member.streams()))
    });
    match missing {
        Some(pod) => Step::Wait(format!("{} does not stream yet", pod.name)),
        None => Step::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_overview::{Replication, WalPosition};
    use howdah_types::Lsn;
    use serde_json::{Map, json};

    fn pod(ordinal: u32, revision: &str) -> Pod {
        Pod {
            name: format!("c-{ordinal}"),
            ordinal,
            revision: revision.into(),
            running: true,
            ready: true,
            ..Pod::default()
        }
    }

    const RUNNING: MemberState = MemberState::Server(PgState::Running);
    const FAILED: MemberState = MemberState::Server(PgState::StartFailed);
    const STARTING: MemberState = MemberState::Server(PgState::Starting);
    const STREAMING: MemberState = MemberState::Replicating(Replication::Streaming);
    use MemberRole::{Leader, Replica, SyncStandby};

    fn at(lag: u64) -> Option<WalPosition> {
        Some(WalPosition { lsn: Lsn(0), lag })
    }

    fn row(ordinal: u32, role: MemberRole, state: MemberState, lag: u64) -> MemberOverview {
        MemberOverview {
            name: format!("c-{ordinal}"),
            role,
            state,
            api_url: String::new(),
            host: String::new(),
            port: None,
            timeline: None,
            received: at(lag).filter(|_| !role.leads()),
            replayed: None,
            pending_restart: None,
            scheduled_restart: None,
            tags: Map::new(),
        }
    }

    /// Carries the steps out as a cluster would, and writes them down.
    fn run(wanted: u32, mut pods: Vec<Pod>, mut rows: Vec<MemberOverview>) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..20 {
            let step = next(wanted, "new", &pods, &rows, true);
            match &step {
                Step::Nothing => return told,
                Step::Wait(reason) => {
                    told.push(format!("wait: {reason}"));
                    return told;
                }
                Step::Replace { pod, .. } => {
                    told.push(format!("replace {pod}"));
                    let pod = pods.iter_mut().find(|p| p.name == *pod).unwrap();
                    pod.revision = "new".into();
                }
                Step::Switchover { from, to, .. } => {
                    told.push(format!("switch {from} to {to}"));
                    for row in &mut rows {
                        if row.name == *to {
                            (row.role, row.state, row.received) = (Leader, RUNNING, None);
                        } else if row.name == *from {
                            (row.role, row.state, row.received) = (Replica, STREAMING, at(0));
                        }
                    }
                    pods.retain(|pod| pod.ordinal < wanted);
                    rows.retain(|row| pods.iter().any(|pod| pod.name == row.name));
                }
                Step::Restart { member, .. } => {
                    told.push(format!("restart {member}"));
                    rows.iter_mut()
                        .find(|r| r.name == *member)
                        .unwrap()
                        .pending_restart = None;
                }
            }
        }
        panic!("it does not end: {told:?}");
    }

    #[test]
    fn a_drain_beside_a_roll_or_a_scaling_ends() {
        for closed in 0..8_u32 {
            for stale in 0..8_u32 {
                for wanted in 1..=3 {
                    let pods = (0..3)
                        .map(|ordinal| Pod {
                            leaving: closed & (1 << ordinal) != 0,
                            ..pod(ordinal, if stale & (1 << ordinal) == 0 { "new" } else { "old" })
                        })
                        .collect();
                    let rows = vec![
                        row(0, Leader, RUNNING, 0),
                        row(1, Replica, STREAMING, 0),
                        row(2, Replica, STREAMING, 0),
                    ];
                    let told = run(wanted, pods, rows);
                    let switchovers = told.iter().filter(|step| step.starts_with("switch")).count();
                    assert!(switchovers <= 3, "{closed:b} {stale:b} {wanted}: {told:?}");
                }
            }
        }
    }

    #[test]
    fn a_primary_leaves_a_node_that_is_drained_if_a_replica_is_elsewhere() {
        let closed = |ordinal| Pod {
            leaving: true,
            ..pod(ordinal, "new")
        };
        let rows = [
            row(0, Leader, RUNNING, 0),
            row(1, Replica, STREAMING, 0),
            row(2, Replica, STREAMING, 0),
        ];
        // The replica beside it has to go as well, and may be on its way already.
        let beside = Pod {
            ending: true,
            ..closed(1)
        };
        let step = next(3, "new", &[closed(0), beside, pod(2, "new")], &rows, true);
        let Step::Switchover { from, to, .. } = step else {
            panic!("{step:?}");
        };
        assert_eq!((from.as_str(), to.as_str()), ("c-0", "c-2"));
        // Nowhere to go, and a replica on such a node: nothing is done.
        assert_eq!(
            next(2, "new", &[closed(0), closed(1)], &rows[..2], true),
            Step::Nothing
        );
        assert_eq!(
            next(2, "new", &[pod(0, "new"), closed(1)], &rows[..2], true),
            Step::Nothing
        );
        // A replica elsewhere that does not stream cannot take over.
        let stopped = [rows[0].clone(), row(1, Replica, STARTING, 0)];
        assert!(matches!(
            next(2, "new", &[closed(0), pod(1, "new")], &stopped, true),
            Step::Wait(_) | Step::Nothing
        ));
    }

    #[test]
    fn replicas_go_first_then_the_primary_after_a_switchover() {
        let pods = vec![pod(0, "old"), pod(1, "old"), pod(2, "old")];
        let rows = vec![
            row(0, Leader, RUNNING, 0),
            row(1, Replica, STREAMING, 9),
            row(2, Replica, STREAMING, 0),
        ];
        assert_eq!(
            run(3, pods, rows),
            ["replace c-2", "replace c-1", "switch c-0 to c-2", "replace c-0"]
        );
    }

    #[test]
    fn a_correction_reaches_members_that_do_not_start() {
        let rows = vec![row(0, Leader, RUNNING, 0), row(1, Replica, FAILED, 0)];
        assert_eq!(
            run(2, vec![pod(0, "old"), pod(1, "old")], rows),
            [
                "replace c-1",
                "wait: c-1 does not stream yet, before the next member is touched"
            ]
        );
        // What has crashed is started by its agent, which is faster and loses nothing.
        for state in [PgState::Crashed, PgState::Stopped] {
            let rows = vec![
                row(0, Leader, MemberState::Server(state), 0),
                row(1, Replica, STREAMING, 0),
            ];
            assert_eq!(
                run(2, vec![pod(0, "old"), pod(1, "new")], rows),
                ["wait: no member takes writes yet, before the next member is touched"]
            );
        }
        // Also where no primary is left that the others could wait for.
        let rows = vec![row(0, Leader, FAILED, 0), row(1, Replica, FAILED, 0)];
        assert_eq!(
            run(2, vec![pod(0, "old"), pod(1, "old")], rows),
            ["replace c-0", "replace c-1", "wait: no member takes writes yet"]
        );
    }

    #[test]
    fn a_single_member_is_replaced_without_much_ado() {
        assert_eq!(
            run(1, vec![pod(0, "old")], vec![row(0, Leader, RUNNING, 0)]),
            ["replace c-0"]
        );
    }

    #[test]
    fn a_pod_that_is_not_ready_stops_the_rollout() {
        let rows = vec![row(0, Leader, RUNNING, 0), row(1, Replica, STREAMING, 0)];
        let mut replaced = pod(1, "new");
        replaced.ready = false;
        assert_eq!(
            run(2, vec![pod(0, "old"), replaced], rows),
            ["wait: c-1 is not ready, before the next member is touched"]
        );
    }

    #[test]
    fn a_correction_reaches_pods_whose_sidecars_do_not_run() {
        let rows = vec![row(0, Leader, RUNNING, 0), row(1, Replica, STREAMING, 0)];
        let mut pods = vec![pod(0, "old"), pod(1, "old")];
        for pod in &mut pods {
            (pod.ready, pod.trouble) = (false, Some("ErrImagePull: container a".into()));
        }
        let step = next(2, "new", &pods, &rows, true);
        assert!(
            matches!(&step, Step::Replace { pod, .. } if pod == "c-1"),
            "{step:?}"
        );
        pods[1] = pod(1, "new");
        let step = next(2, "new", &pods, &rows, true);
        assert!(
            matches!(&step, Step::Switchover { to, .. } if to == "c-1"),
            "{step:?}"
        );
    }

    #[test]
    fn nothing_is_touched_while_a_member_is_unwell() {
        let pods = vec![pod(0, "old"), pod(1, "new")];
        let rows = vec![row(0, Leader, RUNNING, 0), row(1, Replica, STARTING, 0)];
        assert_eq!(
            run(2, pods, rows),
            ["wait: c-1 does not stream yet, before the next member is touched"]
        );
    }

    #[test]
    fn a_primary_moves_off_a_pod_that_goes_away() {
        let pods = vec![pod(0, "new"), pod(1, "new")];
        let rows = vec![row(0, Replica, STREAMING, 0), row(1, Leader, RUNNING, 0)];
        assert_eq!(run(1, pods, rows), ["switch c-1 to c-0"]);
    }

    #[test]
    fn only_a_synchronous_standby_takes_over_in_synchronous_mode() {
        let pods = vec![pod(0, "old"), pod(1, "new"), pod(2, "new")];
        let rows = vec![
            row(0, Leader, RUNNING, 0),
            row(1, Replica, STREAMING, 0),
            row(2, SyncStandby, STREAMING, 8),
        ];
        assert_eq!(run(3, pods, rows), ["switch c-0 to c-2", "replace c-0"]);
    }

    #[test]
    fn restarts_go_one_by_one_and_replicas_first() {
        let mut rows = vec![row(0, Leader, RUNNING, 0), row(1, Replica, STREAMING, 0)];
        for row in &mut rows {
            row.pending_restart = Some(json!({"max_connections": {}}).as_object().cloned().unwrap());
        }
        assert_eq!(
            run(2, vec![pod(0, "new"), pod(1, "new")], rows),
            ["restart c-1", "restart c-0"]
        );
    }

    #[test]
    fn what_replicas_are_bound_to_is_lowered_on_the_primary_first() {
        let mut rows = vec![row(0, Leader, RUNNING, 0), row(1, Replica, STREAMING, 0)];
        for row in &mut rows {
            let change = json!({"max_connections": {"old_value": "100", "new_value": "55"}});
            row.pending_restart = change.as_object().cloned();
        }
        assert_eq!(
            run(2, vec![pod(0, "new"), pod(1, "new")], rows),
            ["restart c-0", "restart c-1"]
        );
    }

    #[test]
    fn a_standby_cluster_is_not_restarted_for_what_its_source_has_more_of() {
        let mut rows = vec![
            row(0, MemberRole::StandbyLeader, STREAMING, 0),
            row(1, Replica, STREAMING, 0),
        ];
        for row in &mut rows {
            let change = json!({"max_connections": {"old_value": "100", "new_value": "77"}});
            row.pending_restart = change.as_object().cloned();
        }
        let pods = || vec![pod(0, "new"), pod(1, "new")];
        assert_eq!(run(2, pods(), rows.clone()), Vec::<String>::new());
        for row in &mut rows {
            let change =
                json!({"max_connections": {"old_value": "100", "new_value": "77"}, "shared_buffers": {}});
            row.pending_restart = change.as_object().cloned();
        }
        assert_eq!(run(2, pods(), rows), ["restart c-1", "restart c-0"]);
    }

    #[test]
    fn a_pod_that_cannot_run_is_replaced_when_its_template_changes() {
        let mut broken = pod(0, "old");
        broken.running = false;
        broken.trouble = Some("ErrImagePull: no such image".into());
        assert_eq!(
            run(1, vec![broken], vec![]).first().map(String::as_str),
            Some("replace c-0")
        );
    }
}
