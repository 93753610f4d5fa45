//! Programs of the user's: what they hear of, what waits for them, and what they may refuse.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{path::PathBuf, process::Command, time::Duration};

use howdah_http::Method;
use howdah_testkit::{Lab, LabOptions, until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// Each member writes what it is told into `<member>.calls`; it is not promoted while `<member>.refuses` is there.
async fn lab(members: usize) -> Lab {
    let dynamic = json!({"howdah": {"ttl": 6}, "loop_wait": 2});
    let mut lab = Lab::new(LabOptions::howdah(members).unwrap().dynamic(dynamic))
        .await
        .unwrap();
    for member in &lab.members {
        let file = lab.dir().join(format!("{}.yml", member.name));
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let (calls, refuses) = (calls(&lab, &member.name), refuses(&lab, &member.name));
        let script = lab.dir().join(format!("{}.sh", member.name));
        let text = format!("echo \"$*\" >>{}\n", calls.display());
        std::fs::write(&script, text).unwrap();
        let hook = |args: &str| format!("sh {} {args}", script.display());
        let section = &mut config["postgresql"];
        for event in ["on_start", "on_stop", "on_restart", "on_reload", "on_role_change"] {
            section["callbacks"][event] = json!(hook(""));
        }
        section["before_stop"] = json!(hook("before_stop"));
        section["pre_promote"] = json!(format!(
            "{} && test ! -e {}",
            hook("pre_promote"),
            refuses.display()
        ));
        std::fs::write(&file, config.to_string()).unwrap();
    }
    lab.start_all().unwrap();
    lab.wait_healthy(SOON).await.unwrap();
    lab
}

fn calls(lab: &Lab, member: &str) -> PathBuf {
    lab.dir().join(format!("{member}.calls"))
}

fn refuses(lab: &Lab, member: &str) -> PathBuf {
    lab.dir().join(format!("{member}.refuses"))
}

/// The calls of a member since they were looked at last.
fn take(lab: &Lab, member: usize) -> Vec<String> {
    let path = calls(lab, &lab.members[member].name);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    text.lines().map(str::to_owned).collect()
}

async fn heard(lab: &Lab, member: usize, wanted: &str) {
    let name = &lab.members[member].name;
    until(&format!("{name} hears {wanted:?}"), SOON, async || {
        let text = std::fs::read_to_string(calls(lab, name)).unwrap_or_default();
        text.lines().any(|line| line == wanted)
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", take(lab, member), lab.logs()));
}

#[tokio::test]
async fn callbacks_hear_of_every_event_once() {
    let mut lab = lab(2).await;
    let primary = lab.wait_primary(SOON).await.unwrap();
    let replica = 1 - primary;
    heard(&lab, primary, "on_start primary lab").await;
    heard(&lab, replica, "on_start replica lab").await;
    for member in [primary, replica] {
        let heard = take(&lab, member);
        let started = heard.iter().filter(|line| line.starts_with("on_start")).count();
        assert_eq!(started, 1, "{heard:?}");
        assert!(
            !heard.iter().any(|line| line.starts_with("on_role_change")),
            "{heard:?}"
        );
    }

    let restarted = lab.members[replica]
        .call(Method::POST, "/restart", Some(&json!({})))
        .await;
    assert_eq!(restarted.unwrap().status, 200);
    heard(&lab, replica, "on_restart replica lab").await;
    let told = take(&lab, replica);
    assert!(
        !told
            .iter()
            .any(|line| line.starts_with("on_stop") || line.starts_with("on_start")),
        "a restart is one event: {told:?}"
    );
    assert!(told.contains(&"before_stop".to_owned()), "{told:?}");

    let change = json!({"postgresql": {"parameters": {"work_mem": "5MB"}}});
    let changed = lab.members[primary]
        .call(Method::PATCH, "/config", Some(&change))
        .await;
    assert_eq!(changed.unwrap().status, 200);
    heard(&lab, primary, "on_reload primary lab").await;
    heard(&lab, replica, "on_reload replica lab").await;

    take(&lab, primary);
    take(&lab, replica);
    let body = json!({"leader": lab.members[primary].name, "candidate": lab.members[replica].name});
    let moved = lab.members[primary]
        .call(Method::POST, "/switchover", Some(&body))
        .await;
    assert_eq!(moved.unwrap().status, 200);
    lab.wait_healthy(SOON).await.unwrap();
    heard(&lab, primary, "on_role_change replica lab").await;
    heard(&lab, replica, "on_role_change primary lab").await;
    let old = take(&lab, primary);
    assert_eq!(old.first().map(String::as_str), Some("before_stop"), "{old:?}");
    let new = take(&lab, replica);
    let at = |wanted: &str| new.iter().position(|line| line == wanted);
    assert!(at("pre_promote") < at("on_role_change primary lab"), "{new:?}");

    // A crash is no stop.
    let postmaster = lab.members[primary].postmaster_pid().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-9", &postmaster])
            .status()
            .unwrap()
            .success()
    );
    heard(&lab, primary, "on_start replica lab").await;
    let crashed = take(&lab, primary);
    assert!(
        !crashed.iter().any(|line| line.starts_with("on_stop")),
        "{crashed:?}"
    );

    let guard = lab.members[primary].guard_pid().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &guard])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(lab.members[primary].wait_exit(SOON).await.unwrap(), Some(0));
    assert_eq!(take(&lab, primary), ["before_stop", "on_stop replica lab"]);
}

#[tokio::test]
async fn a_member_whose_pre_promote_refuses_gives_way() {
    let mut lab = lab(3).await;
    let primary = lab.wait_primary(SOON).await.unwrap();
    let others: Vec<usize> = (0..3).filter(|member| *member != primary).collect();
    let [refusing, willing] = others[..] else {
        panic!("three members")
    };
    std::fs::write(refuses(&lab, &lab.members[refusing].name), "").unwrap();
    std::fs::write(refuses(&lab, &lab.members[willing].name), "").unwrap();
    lab.members[primary].kill_node();
    let asked = |member: usize| {
        let text = std::fs::read_to_string(calls(&lab, &lab.members[member].name)).unwrap_or_default();
        text.lines().any(|line| line == "pre_promote")
    };
    until("one of them was asked", SOON, async || {
        asked(refusing) || asked(willing)
    })
    .await
    .unwrap();
    assert_eq!(lab.primary().await, None, "both refuse");
    std::fs::remove_file(refuses(&lab, &lab.members[willing].name)).unwrap();
    until("who does not refuse leads", SOON, async || {
        lab.primary().await == Some(willing)
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.logs()));
}
