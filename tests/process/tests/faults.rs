//! Every fault of the campaign once or more, on real clusters, judged by the acknowledgements of writers that ran through it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use howdah_process_tests::{is_excused, is_root, lab_in, run_fault};
use howdah_testkit::{Fault, Lab, LabOptions, World};

fn world(pods: bool, sync: bool) -> World {
    let small_disks = !pods && is_root();
    World {
        pods,
        sync,
        quorum: false,
        small_disks,
    }
}

/// The shortest lease.
const TTL: u64 = 6;

async fn strike_all(world: World, faults: &[Fault]) {
    let lab = &mut lab_in(world, 3, TTL).await.unwrap();
    for fault in faults {
        let before = lab.wait_primary(Duration::from_secs(20)).await.unwrap();
        let verdict = run_fault(lab, *fault, world.sync).await.unwrap();
        println!("{fault}: {verdict:?}");
        assert!(
            verdict.overlap.is_zero() || is_excused(*fault, world),
            "{fault}: two members acknowledged: {verdict:?}"
        );
        assert!(
            !world.sync || verdict.lost == 0,
            "{fault}: synchronous mode lost rows: {verdict:?}"
        );
        let after = lab.wait_primary(Duration::from_secs(20)).await.unwrap();
        if fault.moves_leadership(world) {
            assert_ne!(before, after, "{fault}: another member leads");
        }
        if fault.keeps_leadership() {
            assert_eq!(before, after, "{fault}: leadership stays");
        }
    }
}

#[tokio::test]
async fn no_two_members_acknowledge_whatever_dies_or_freezes() {
    let world = world(false, false);
    let mut faults: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| fault.fits(world)).collect();
    // A crowd needs the machine for itself; a lossy network takes its time. The others are struck in synchronous mode, where
    // more is asked of the same: nothing may be lost either.
    let elsewhere = [
        Fault::Crowd,
        Fault::StoreLossy,
        Fault::CheckpointerFrozen,
        Fault::GuardAndStoreFrozen,
        Fault::PowerCut,
        Fault::PowerCutHeldBack,
        Fault::StoreWiped,
    ];
    faults.retain(|fault| !elsewhere.contains(fault));
    strike_all(world, &faults).await;
}

/// A server that has run since it was bootstrapped, or copied, has started with a configuration too.
#[tokio::test]
async fn the_first_configuration_is_one_to_fall_back_on() {
    strike_all(world(false, true), &[Fault::BadParameter]).await;
}

#[tokio::test]
async fn synchronous_mode_loses_nothing() {
    let faults = [
        Fault::Node,
        Fault::BothFrozen,
        Fault::Postmaster,
        Fault::Guard,
        Fault::Switchover,
        Fault::CheckpointerFrozen,
        Fault::CheckpointerStuck,
        Fault::PowerCutHeldBack,
        Fault::GuardAndStoreFrozen,
        Fault::StoreWiped,
        Fault::PowerCut,
    ];
    strike_all(world(false, true), &faults).await;
}

/// The same members as pods of a cluster from a manifest: the lease is a record in a ConfigMap that observers time.
#[tokio::test]
async fn pods_on_kubernetes_keep_the_same_promises() {
    let faults = [
        Fault::Node,
        Fault::AgentFrozen,
        Fault::Switchover,
        Fault::Guard,
        Fault::ForeignLease,
        Fault::StoreWiped,
    ];
    strike_all(world(true, false), &faults).await;
}

#[tokio::test]
async fn a_killed_agent_is_replaced_and_postgres_goes_on() {
    let lab = Lab::running(LabOptions::howdah(2).unwrap()).await.unwrap();
    let primary = lab.wait_primary(Duration::from_secs(20)).await.unwrap();
    let member = &lab.members[primary];
    let (agent, postmaster) = (member.agent_pid().unwrap(), member.postmaster_pid().unwrap());
    let kill = std::process::Command::new("kill")
        .args(["-9", &agent.to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    howdah_testkit::until("a new agent leads", Duration::from_secs(10), async || {
        member.agent_pid().is_some_and(|pid| pid != agent) && lab.primary().await == Some(primary)
    })
    .await
    .unwrap();
    assert_eq!(
        member.postmaster_pid(),
        Some(postmaster),
        "PostgreSQL was not restarted"
    );
    assert!(
        member.log().contains("hands the leadership over"),
        "the guard kept the lease"
    );
}
