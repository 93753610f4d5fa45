//! Side by side with Patroni 4.1 (PyPI): its patronictl drives our members, and its agents share a cluster with ours.
//!
//! `script/test` installs it and names its directory in `HOWDAH_PATRONI`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use howdah_http::Method;
use howdah_testkit::{Flavour, Lab, LabOptions, patroni, until};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

fn patronictl(lab: &Lab, args: &[&str]) -> String {
    let output = Command::new(patroni("patronictl"))
        .arg("-c")
        .arg(lab.dir().join("m0.yml"))
        .args(args)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn our_ctl(lab: &Lab, args: &[&str]) -> String {
    let output = Command::new(lab.dir().join("howdah"))
        .args(["ctl", "-c"])
        .arg(lab.dir().join("m0.yml"))
        .args(args)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn its_patronictl_drives_our_members_and_prints_what_ours_prints() {
    let lab = Lab::running(LabOptions::howdah(2).unwrap()).await.unwrap();
    for format in ["pretty", "tsv", "json", "yaml"] {
        until("both print the same list", SOON, async || {
            patronictl(&lab, &["list", "-f", format]) == our_ctl(&lab, &["list", "-f", format])
        })
        .await
        .unwrap();
    }
    assert_eq!(
        patronictl(&lab, &["show-config"]),
        our_ctl(&lab, &["show-config"])
    );
    let old = lab.wait_primary(SOON).await.unwrap();
    let candidate = lab.members[1 - old].name.clone();
    let said = patronictl(&lab, &["switchover", "--candidate", &candidate, "--force"]);
    assert!(
        said.contains(&format!("Successfully switched over to \"{candidate}\"")),
        "{said}"
    );
    lab.wait_healthy(SOON).await.unwrap();
    for format in ["pretty", "tsv", "json", "yaml"] {
        assert_eq!(
            patronictl(&lab, &["history", "-f", format]),
            our_ctl(&lab, &["history", "-f", format])
        );
    }
    for (args, wanted) in [
        (vec!["pause", "--wait"], "Success: cluster management is paused"),
        (vec!["resume", "--wait"], "Success: cluster management is resumed"),
        (
            vec!["reload", "lab", "--force"],
            "Reload request received for member",
        ),
        (
            vec!["restart", "lab", candidate.as_str(), "--force"],
            "Success: restart on member",
        ),
        (
            vec!["edit-config", "-s", "maximum_lag_on_failover=2097152", "--force"],
            "Configuration changed",
        ),
    ] {
        let said = patronictl(&lab, &args);
        assert!(said.contains(wanted), "patronictl {args:?}: {said}");
    }
    lab.wait_healthy(SOON).await.unwrap();
    let replica = lab.a_replica().await.unwrap();
    let name = lab.members[replica].name.clone();
    let said = patronictl(&lab, &["reinit", "lab", &name, "--force", "--wait"]);
    assert!(said.contains("Reinitialize is completed on"), "{said}");
    lab.wait_healthy(SOON).await.unwrap();
}

/// With what psql would find in its environment.
fn query(program: &Path, first: &[&str], lab: &Lab, format: &str) -> String {
    let output = Command::new(program)
        .args(first)
        .arg("-c")
        .arg(lab.dir().join("m0.yml"))
        .args(["query", "-U", "postgres", "-d", "postgres", "--format", format])
        .args([
            "-c",
            "SELECT 'a' AS x, NULL::text AS y UNION ALL SELECT 'b', 'z' ORDER BY 1",
        ])
        .env("PGPASSWORD", lab.members[0].address().password)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_commands_that_only_look_print_the_same() {
    let mut lab = Lab::running(LabOptions::howdah(2).unwrap()).await.unwrap();
    let leader = lab.wait_primary(SOON).await.unwrap();
    until("both print the same tree", SOON, async || {
        let ours = our_ctl(&lab, &["topology"]);
        patronictl(&lab, &["topology"]) == ours
            && ours.contains(&format!("| + {}", lab.members[1 - leader].name))
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", our_ctl(&lab, &["topology"])));
    let replica = lab.members[1 - leader].name.clone();
    for args in [
        vec!["dsn"],
        vec!["dsn", "-r", "replica"],
        vec!["dsn", "-r", "primary"],
        vec!["dsn", "-m", &replica],
    ] {
        let ours = our_ctl(&lab, &args);
        assert!(ours.starts_with("host=127.0.0.1 port="), "{args:?}: {ours}");
        assert_eq!(ours, patronictl(&lab, &args), "{args:?}");
    }
    assert_eq!(our_ctl(&lab, &["dsn", "-r", "standby-leader"]), "");
    let binary = lab.dir().join("howdah");
    for format in ["tsv", "json", "yaml"] {
        let ours = query(&binary, &["ctl"], &lab, format);
        assert!(ours.contains('z'), "{ours}");
        assert_eq!(ours, query(&patroni("patronictl"), &[], &lab, format), "{format}");
    }
    let version = our_ctl(&lab, &["version", "lab", &replica]);
    assert!(version.contains(&format!("\n{replica}: Patroni 4.")), "{version}");
    assert!(
        version.contains(" PostgreSQL ") && version.contains(" (Howdah "),
        "{version}"
    );

    for member in &mut lab.members {
        member.kill_node();
    }
    let remove = |answers: &str| {
        let mut child = Command::new(&binary)
            .args(["ctl", "-c"])
            .arg(lab.dir().join("m0.yml"))
            .args(["remove", "lab"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
        child.wait_with_output().unwrap().status.code()
    };
    let leader = lab.members[leader].name.clone();
    assert_eq!(remove("lab\nyes\n"), Some(1), "the sentence was not typed");
    assert!(!our_ctl(&lab, &["list"]).contains("uninitialized"));
    assert_eq!(remove(&format!("lab\nYes I am aware\n{leader}\n")), Some(0));
    assert!(our_ctl(&lab, &["list"]).contains("Cluster: lab (uninitialized)"));
    assert_eq!(
        our_ctl(&lab, &["show-config"]).trim(),
        patronictl(&lab, &["show-config"]).trim()
    );
}

/// patronictl prints a refusal and exits with 0. Scripts that call ours by that name get what they always got.
#[tokio::test]
async fn a_refusal_is_an_exit_code_unless_called_as_patronictl() {
    let lab = Lab::running(LabOptions::howdah(2).unwrap()).await.unwrap();
    let leader = lab.wait_primary(SOON).await.unwrap();
    let member = &lab.members[1 - leader];
    let candidate = member.name.clone();
    let ours = lab.dir().join("howdah");
    let called_as = lab.dir().join("patronictl");
    std::os::unix::fs::symlink(&ours, &called_as).unwrap();
    for (program, args, code) in [
        (patroni("patronictl"), vec![], 0),
        (called_as, vec![], 0),
        (ours, vec!["ctl"], 1),
    ] {
        // The store still lists the candidate, but its agent does not answer; nor does its guard, which would replace it.
        until("it has an agent", SOON, async || member.agent_pid().is_some())
            .await
            .unwrap();
        let signal = |signal: &str| {
            for pid in [member.guard_pid(), member.agent_pid()].into_iter().flatten() {
                let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
                assert!(sent.unwrap().success());
            }
        };
        signal("-STOP");
        let output = Command::new(&program)
            .args(args)
            .arg("-c")
            .arg(lab.dir().join("m0.yml"))
            .args(["switchover", "--candidate", &candidate, "--force"])
            .output()
            .unwrap();
        signal("-CONT");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.contains("Switchover failed, details: 412"),
            "{program:?}: {said}"
        );
        assert_eq!(output.status.code(), Some(code), "{program:?}: {said}");
    }
    assert_eq!(lab.primary().await, Some(leader));
}

#[tokio::test]
async fn its_agents_and_ours_are_one_cluster() {
    let mut options = LabOptions::howdah(1)
        .unwrap()
        .dynamic(json!({"ttl": 20, "loop_wait": 2, "retry_timeout": 3}));
    options.members.push(Flavour::Patroni(patroni("patroni")));
    let mut lab = Lab::running(options).await.unwrap();
    // Leadership goes there and back, each time requested of the leader.
    for _ in 0..2 {
        let old = lab.wait_primary(SOON).await.unwrap();
        let (from, to) = (lab.members[old].name.clone(), lab.members[1 - old].name.clone());
        let body = json!({"leader": from, "candidate": to});
        let answer = lab.members[old]
            .call(Method::POST, "/switchover", Some(&body))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), lab.logs());
        lab.wait_healthy(SOON).await.unwrap();
        assert_eq!(lab.primary().await, Some(1 - old));
    }
    // Its node dies: ours takes over.
    if lab.wait_primary(SOON).await.unwrap() == 0 {
        let body = json!({"leader": "m0", "candidate": "m1"});
        assert_eq!(
            lab.members[0]
                .call(Method::POST, "/switchover", Some(&body))
                .await
                .unwrap()
                .status,
            200
        );
        lab.wait_healthy(SOON).await.unwrap();
    }
    lab.members[1].kill_node();
    until("our member leads", SOON, async || lab.primary().await == Some(0))
        .await
        .unwrap();
}

/// check_patroni (PyPI) finds what it looks for, and warns about what it should.
#[tokio::test]
async fn check_patroni_understands_our_members() {
    let lab = Lab::running(LabOptions::howdah(2).unwrap()).await.unwrap();
    let leader = lab.wait_primary(SOON).await.unwrap();
    let check = |members: &[usize], args: &[&str]| {
        let mut command = Command::new(patroni("check_patroni"));
        for member in members {
            command.args(["-e", &format!("http://127.0.0.1:{}", lab.members[*member].api)]);
        }
        let output = command.args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    };
    let both = [leader, 1 - leader];
    let timeline = lab.members[leader].status().await["timeline"].to_string();
    for (members, args, code) in [
        (&both[..], &["cluster_has_leader"][..], 0),
        (&both, &["cluster_has_replica", "-w", "1:", "-c", "1:"], 0),
        (&both, &["cluster_has_replica", "-w", "2:", "-c", "1:"], 1),
        (
            &both,
            &["cluster_node_count", "-c", "2:", "--healthy-critical", "2:"],
            0,
        ),
        (&both, &["cluster_is_in_maintenance"], 0),
        (&both, &["cluster_has_scheduled_action"], 0),
        (&both[..1], &["node_is_alive"], 0),
        (&both[..1], &["node_is_leader"], 0),
        (&both[..1], &["node_is_primary"], 0),
        (&both[..1], &["node_is_replica"], 2),
        (&both[1..], &["node_is_replica", "--max-lag", "1MB"], 0),
        (&both[1..], &["node_is_primary"], 2),
        (&both[1..], &["node_is_pending_restart"], 0),
        (&both[1..], &["node_tl_has_changed", "--timeline", &timeline], 0),
        (&both[1..], &["node_tl_has_changed", "--timeline", "77"], 2),
    ] {
        let (got, said) = check(members, args);
        assert_eq!(got, Some(code), "check_patroni {args:?}: {said}");
    }
    let body = json!({"pause": true});
    let answer = lab.members[leader]
        .call(Method::PATCH, "/config", Some(&body))
        .await;
    assert_eq!(answer.unwrap().status, 200);
    until("check_patroni sees the maintenance mode", SOON, async || {
        check(&both, &["cluster_is_in_maintenance"]).0 == Some(2)
    })
    .await
    .unwrap();
}
