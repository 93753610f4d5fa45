//! A former primary whose WAL has left the cluster's history comes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs::Permissions,
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::Duration,
};

use howdah_testkit::{Lab, LabOptions};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

async fn two_members(postgresql: Value) -> Lab {
    let dynamic = json!({"howdah": {"ttl": 5}, "loop_wait": 2, "postgresql": postgresql});
    Lab::new(LabOptions::howdah(2).unwrap().dynamic(dynamic))
        .await
        .unwrap()
}

/// Makes WAL on the primary that its replica never gets, kills the node, and lets it come back.
async fn diverge(mut lab: Lab) -> Lab {
    lab.start_all().unwrap();
    lab.wait_healthy(PATIENCE).await.unwrap();
    let primary = lab.wait_primary(PATIENCE).await.unwrap();
    let replica = 1 - primary;
    // The replica's node is down, so what follows exists on the primary alone.
    lab.members[replica].kill_node();
    let (client, _) = howdah_testkit::connect(&lab.members[primary].address())
        .await
        .unwrap();
    client
        .batch_execute("CREATE TABLE lost (n int); INSERT INTO lost VALUES (1)")
        .await
        .unwrap();
    lab.members[primary].kill_node();
    lab.members[replica].start().unwrap();
    howdah_testkit::until("the replica has taken over", PATIENCE, async || {
        lab.primary().await == Some(replica)
    })
    .await
    .unwrap();
    let (client, _) = howdah_testkit::connect(&lab.members[replica].address())
        .await
        .unwrap();
    client
        .batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (2)")
        .await
        .unwrap();
    lab.members[primary].start().unwrap();
    lab.wait_healthy(PATIENCE).await.unwrap();
    let (client, _) = howdah_testkit::connect(&lab.members[primary].address())
        .await
        .unwrap();
    let tables = client
        .query(
            "SELECT relname::text FROM pg_class WHERE relname IN ('lost', 'kept')",
            &[],
        )
        .await
        .unwrap();
    let names: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["kept"], "it has the cluster's history and not its own");
    lab
}

fn base() -> Value {
    json!({
        "parameters": {"fsync": "off", "shared_buffers": "16MB"},
        "pg_hba": ["host replication replicator 127.0.0.1/32 md5", "host all all 127.0.0.1/32 md5"],
    })
}

#[tokio::test]
async fn by_pg_rewind() {
    let mut postgresql = base();
    postgresql["use_pg_rewind"] = true.into();
    let lab = diverge(two_members(postgresql).await).await;
    assert!(
        lab.members.iter().any(|member| member.log().contains("Rewound.")),
        "{}",
        lab.logs()
    );
}

#[tokio::test]
async fn by_a_new_copy_that_keeps_the_diverged_data() {
    let lab = diverge(two_members(base()).await).await;
    let kept = lab
        .members
        .iter()
        .flat_map(|member| std::fs::read_dir(lab.dir().join(&member.name)).unwrap())
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(".diverged-"))
        .count();
    assert_eq!(
        kept,
        1,
        "what only the old primary had is beside the new copy\n{}",
        lab.logs()
    );
}

/// pg_rewind overwrites the WAL that it would need to run once more: the data is copied.
#[tokio::test]
async fn by_a_new_copy_after_a_rewind_that_was_interrupted() {
    let mut postgresql = base();
    postgresql["use_pg_rewind"] = true.into();
    let lab = two_members(postgresql).await;
    // It dies with its agent when it begins to write.
    let script = lab.dir().join("rewind");
    let text =
        "#!/bin/sh\necho run >> \"$0.runs\"\necho 'pg_rewind: need to copy 30 MB' >&2\nkill -9 $PPID\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let runs = lab.dir().join("rewind.runs");
    std::fs::write(&runs, "").unwrap();
    std::fs::set_permissions(&runs, Permissions::from_mode(0o666)).unwrap();
    for member in &lab.members {
        let file = lab.dir().join(format!("{}.yml", member.name));
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        config["postgresql"]["bin_name"] = json!({ "pg_rewind": script });
        std::fs::write(&file, config.to_string()).unwrap();
    }
    let lab = diverge(lab).await;
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "run\n", "{}", lab.logs());
}

/// Two members on one machine would share a tablespace. The copy is refused, again and again, and the primary keeps its files.
#[tokio::test]
async fn a_copy_never_empties_a_tablespace_that_another_server_uses() {
    let mut lab = Lab::new(LabOptions::howdah(2).unwrap()).await.unwrap();
    lab.members[0].start().unwrap();
    howdah_testkit::until("the first member leads", PATIENCE, async || {
        lab.primary().await == Some(0)
    })
    .await
    .unwrap();
    let primary = howdah_testkit::connect(&lab.members[0].address())
        .await
        .unwrap()
        .0;
    let data = lab.members[0].data_dir();
    let owner = std::fs::metadata(&data).unwrap();
    let location = lab.dir().join("tablespace");
    std::fs::create_dir(&location).unwrap();
    let (uid, gid) = (owner.uid(), owner.gid());
    std::os::unix::fs::chown(&location, Some(uid), Some(gid)).unwrap();
    for sql in [
        format!("CREATE TABLESPACE outside LOCATION '{}'", location.display()),
        "CREATE TABLE far (id int) TABLESPACE outside".to_owned(),
        "INSERT INTO far SELECT generate_series(1, 1000)".to_owned(),
        "CHECKPOINT".to_owned(),
    ] {
        primary.batch_execute(&sql).await.unwrap();
    }
    let row = primary
        .query_one("SELECT pg_relation_filepath('far')", &[])
        .await
        .unwrap();
    let file = data.join(row.get::<_, String>(0));
    lab.members[1].start().unwrap();
    howdah_testkit::until("the copy is refused twice", PATIENCE, async || {
        lab.members[1]
            .log()
            .matches("holds files that this member has not made")
            .count()
            >= 2
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.logs()));
    assert!(file.exists(), "{} is gone", file.display());
}

#[tokio::test]
async fn a_copy_never_empties_a_wal_directory_that_was_full_before() {
    let mut lab = Lab::new(LabOptions::howdah(2).unwrap()).await.unwrap();
    let waldir = lab.dir().join("wal");
    std::fs::create_dir(&waldir).unwrap();
    std::fs::set_permissions(&waldir, Permissions::from_mode(0o777)).unwrap();
    std::fs::write(waldir.join("kept"), "").unwrap();
    let file = lab.dir().join("m1.yml");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    config["postgresql"]["basebackup"] = json!([{"waldir": waldir}]);
    std::fs::write(&file, config.to_string()).unwrap();
    lab.members[0].start().unwrap();
    howdah_testkit::until("the first member leads", PATIENCE, async || {
        lab.primary().await == Some(0)
    })
    .await
    .unwrap();
    lab.members[1].start().unwrap();
    howdah_testkit::until("the copy is refused twice", PATIENCE, async || {
        let refused = "holds files that this member has not made";
        lab.members[1].log().matches(refused).count() >= 2
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.logs()));
    assert!(waldir.join("kept").exists());
}

/// The replica that is ahead may not lead; its receiver gets the end of the old timeline from the new leader again and
/// again, and both ends see it streaming at times.
#[tokio::test]
async fn a_replica_that_is_ahead_of_the_new_leader_is_rewound() {
    let dynamic = json!({"howdah": {"ttl": 5}, "loop_wait": 2});
    let mut lab = Lab::new(LabOptions::howdah(3).unwrap().dynamic(dynamic))
        .await
        .unwrap();
    let file = lab.dir().join("m2.yml");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    config["tags"] = json!({"nofailover": true});
    std::fs::write(&file, config.to_string()).unwrap();
    lab.start_all().unwrap();
    lab.wait_healthy(PATIENCE).await.unwrap();
    let primary = lab.wait_primary(PATIENCE).await.unwrap();
    let next = 1 - primary;
    let connect = async |member: usize| {
        let address = lab.members[member].address();
        howdah_testkit::connect(&address).await.unwrap().0
    };
    // What follows reaches m2, and not the member that will lead; its agent would mend that, and so it is stopped.
    let agent = lab.members[next].agent_pid().unwrap();
    signal("-STOP", agent);
    let client = connect(next).await;
    client
        .batch_execute("ALTER SYSTEM SET primary_conninfo = ''")
        .await
        .unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    howdah_testkit::until("it receives nothing", PATIENCE, async || {
        lab.members[next].wal_receiver().is_none()
    })
    .await
    .unwrap();
    connect(primary)
        .await
        .batch_execute("CREATE TABLE lost AS SELECT generate_series(1, 1000) AS n")
        .await
        .unwrap();
    let ahead = connect(2).await;
    howdah_testkit::until("m2 has it", PATIENCE, async || {
        ahead.batch_execute("SELECT FROM lost").await.is_ok()
    })
    .await
    .unwrap();
    lab.members[primary].kill_node();
    signal("-CONT", agent);
    howdah_testkit::until("the other one leads", PATIENCE, async || {
        lab.primary().await == Some(next)
    })
    .await
    .unwrap();
    lab.wait_healthy(PATIENCE).await.unwrap();
    assert!(lab.members[2].log().contains("Rewound."), "{}", lab.logs());
}

fn signal(name: &str, pid: u32) {
    let done = std::process::Command::new("kill")
        .args([name, &pid.to_string()])
        .status();
    assert!(done.unwrap().success());
}

/// Runs SQL on one member.
async fn run(lab: &Lab, member: usize, sql: &str) {
    let address = lab.members[member].address();
    let (client, _) = howdah_testkit::connect(&address).await.unwrap();
    let done = client.batch_execute(sql).await;
    assert!(done.is_ok(), "{sql}: {done:?}\n{}", lab.logs());
}

/// Waits until this member leads.
async fn leads(lab: &Lab, member: usize) {
    let led = howdah_testkit::until("it leads", PATIENCE, async || lab.primary().await == Some(member));
    assert!(led.await.is_ok(), "{}", lab.logs());
}

/// Waits until so many replicas have replayed everything.
async fn all_are_level(lab: &Lab, primary: usize, replicas: i64) {
    run(lab, primary, "CHECKPOINT").await;
    let (client, _) = howdah_testkit::connect(&lab.members[primary].address())
        .await
        .unwrap();
    howdah_testkit::until("all are level", PATIENCE, async || {
        let level = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()";
        client
            .query_one(level, &[])
            .await
            .is_ok_and(|row| row.get::<_, i64>(0) == replicas)
    })
    .await
    .unwrap();
}

/// Two members are promoted, each while the other is down: both call their timeline 2.
#[tokio::test]
async fn a_timeline_of_the_same_number_is_not_the_same() {
    let dynamic = json!({"howdah": {"ttl": 5}, "loop_wait": 2, "postgresql": base()});
    let mut lab = Lab::running(LabOptions::howdah(2).unwrap().dynamic(dynamic))
        .await
        .unwrap();
    let first = lab.wait_primary(PATIENCE).await.unwrap();
    let second = 1 - first;
    // The second one forks before this, the first one after it.
    lab.members[second].kill_node();
    run(&lab, first, "CREATE TABLE kept AS SELECT 1 AS n").await;
    lab.members[first].kill_node();
    lab.members[second].start().unwrap();
    leads(&lab, second).await;
    run(&lab, second, "CREATE TABLE other AS SELECT 2 AS n").await;
    lab.members[second].kill_node();
    lab.members[first].start().unwrap();
    leads(&lab, first).await;
    run(&lab, first, "INSERT INTO kept SELECT generate_series(1, 5000)").await;
    lab.members[second].start().unwrap();
    lab.wait_healthy(PATIENCE).await.unwrap();
    run(&lab, second, "SELECT FROM kept").await;
    let log = lab.members[second].log();
    assert!(log.contains("Our WAL has left the leader's history"), "{log}");
}

#[tokio::test]
async fn a_member_that_is_ahead_on_the_same_timeline_is_copied() {
    let dynamic = json!({"howdah": {"ttl": 5}, "loop_wait": 2, "postgresql": base()});
    let mut lab = Lab::running(LabOptions::howdah(2).unwrap().dynamic(dynamic))
        .await
        .unwrap();
    let first = lab.wait_primary(PATIENCE).await.unwrap();
    let second = 1 - first;
    // Both have the same WAL, and each is promoted without having seen the other one.
    all_are_level(&lab, first, 1).await;
    lab.members[first].kill_node();
    lab.members[second].kill_node();
    lab.members[second].start().unwrap();
    leads(&lab, second).await;
    run(
        &lab,
        second,
        "CREATE TABLE other AS SELECT generate_series(1, 5000) AS n",
    )
    .await;
    lab.members[second].kill_node();
    lab.members[first].start().unwrap();
    leads(&lab, first).await;
    run(&lab, first, "CREATE TABLE kept AS SELECT 1 AS n").await;
    lab.members[second].start().unwrap();
    lab.wait_healthy(PATIENCE).await.unwrap();
    run(&lab, second, "SELECT FROM kept").await;
    let log = lab.members[second].log();
    assert!(log.contains("Our WAL has left the leader's history"), "{log}");
}

/// The leader's timeline is a later one, so its number tells nothing; an earlier one of the same number is another promotion's. The
/// replica was never a primary, and is behind.
#[tokio::test]
async fn a_replica_of_another_promotion_does_not_stream_from_a_later_timeline() {
    let dynamic = json!({"howdah": {"ttl": 5}, "loop_wait": 2, "postgresql": base()});
    let mut lab = Lab::running(LabOptions::howdah(3).unwrap().dynamic(dynamic))
        .await
        .unwrap();
    let first = lab.wait_primary(PATIENCE).await.unwrap();
    let (second, third) = ((first + 1) % 3, (first + 2) % 3);
    all_are_level(&lab, first, 2).await;
    for member in [first, second, third] {
        lab.members[member].kill_node();
    }
    // The second one is promoted, and the third one follows it.
    lab.members[second].start().unwrap();
    leads(&lab, second).await;
    lab.members[third].start().unwrap();
    run(
        &lab,
        second,
        "CREATE TABLE other AS SELECT generate_series(1, 500) AS n",
    )
    .await;
    let follower = lab.members[third].address();
    howdah_testkit::until(
        "the third one has it",
        PATIENCE,
        async || match howdah_testkit::connect(&follower).await {
            Ok((client, _)) => client.batch_execute("SELECT FROM other").await.is_ok(),
            Err(_) => false,
        },
    )
    .await
    .unwrap();
    lab.members[second].kill_node();
    lab.members[third].kill_node();
    // The first one is promoted twice, and has more than both.
    lab.members[first].start().unwrap();
    leads(&lab, first).await;
    run(
        &lab,
        first,
        "CREATE TABLE kept AS SELECT generate_series(1, 5000) AS n",
    )
    .await;
    lab.members[first].kill_node();
    // As where the crash comes before anyone has looked at the timeline: its beginning is still in the WAL.
    for member in [first, second, third] {
        let kept = lab.members[member].data_dir().join("howdah.timelines.json");
        if kept.exists() {
            std::fs::remove_file(kept).unwrap();
        }
    }
    lab.members[first].start().unwrap();
    leads(&lab, first).await;
    lab.members[third].start().unwrap();
    lab.members[second].start().unwrap();
    let healthy = lab.wait_healthy(PATIENCE).await;
    assert!(healthy.is_ok(), "{healthy:?}\n{}", lab.logs());
    for member in [second, third] {
        run(&lab, member, "SELECT FROM kept").await;
        let (client, _) = howdah_testkit::connect(&lab.members[member].address())
            .await
            .unwrap();
        let other = client.batch_execute("SELECT FROM other").await;
        assert!(other.is_err(), "m{member} has rows of another history");
        let log = lab.members[member].log();
        assert!(
            log.contains("Our WAL has left the leader's history"),
            "m{member}: {log}"
        );
    }
}
