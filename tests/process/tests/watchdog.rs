//! The machine's watchdog device, with Patroni's testing driver: a named pipe in its place, and here what reads it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use howdah_clock::now;
use howdah_http::Method;
use howdah_testkit::{Lab, LabOptions, until};
use howdah_types::BootTime;
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};
use tokio::sync::watch;

const SOON: Duration = Duration::from_secs(40);

/// What the device was told.
#[derive(Debug, Default)]
struct State {
    timeout: Duration,
    /// When it was fed last, while it is open.
    fed: Option<BootTime>,
    opened: u32,
    closed: u32,
}

impl State {
    fn bites(&self) -> bool {
        self.fed.is_some_and(|fed| now().since(fed) >= self.timeout)
    }
}

/// The device of one machine.
#[derive(Clone)]
struct Device(Arc<watch::Sender<State>>);

impl Device {
    fn new(path: &Path) -> Self {
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        chmod_all(path);
        // Held for writing too: a pipe that its last writer closes would end.
        let mut pipe = File::options().read(true).write(true).open(path).unwrap();
        let device = Device(Arc::new(watch::Sender::new(State::default())));
        let state = Arc::clone(&device.0);
        std::thread::spawn(move || {
            let mut bytes = [0u8; 256];
            while let Ok(length) = pipe.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                state.send_modify(|state| {
                    for piece in text.split_inclusive(['\n', '1', 'V']) {
                        take(state, piece);
                    }
                });
            }
        });
        device
    }

    fn look<T>(&self, at: impl Fn(&State) -> T) -> T {
        at(&self.0.borrow())
    }
}

/// The agents of a test that root runs have another owner.
fn chmod_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
}

/// `Ctimeout=7` may come in two pieces where its digits contain a one: the timeouts of these tests do not.
fn take(state: &mut State, piece: &str) {
    if let Some(timeout) = piece.trim_end().strip_prefix("Ctimeout=") {
        state.timeout = Duration::from_secs(timeout.parse().unwrap());
        state.opened += u32::from(state.fed.is_none());
        state.fed = Some(now());
    } else if piece.ends_with('V') {
        state.fed = None;
        state.closed += 1;
    } else {
        state.fed = Some(now());
    }
}

fn path(lab: &Lab, member: usize) -> PathBuf {
    lab.dir().join(format!("watchdog{member}"))
}

/// Two members with devices whose pipes may not be there yet. The lease of 8 s gives them 7 s.
async fn lab(mode: &str) -> Lab {
    let dynamic = json!({"howdah": {"ttl": 8}, "loop_wait": 2});
    let lab = Lab::new(LabOptions::howdah(2).unwrap().dynamic(dynamic))
        .await
        .unwrap();
    for (i, member) in lab.members.iter().enumerate() {
        let file = lab.dir().join(format!("{}.yml", member.name));
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        config["watchdog"] = json!({"mode": mode, "driver": "testing", "device": path(&lab, i)});
        std::fs::write(&file, config.to_string()).unwrap();
    }
    lab
}

fn stop(pid: Option<u32>) {
    let pid = Pid::from_raw(i32::try_from(pid.unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
}

/// What no process can prevent: agent and guard are frozen, and PostgreSQL goes on. The device resets the machine before
/// the lease is over.
#[tokio::test]
async fn a_machine_whose_agent_and_guard_are_frozen_is_reset_before_another_leads() {
    let mut lab = lab("automatic").await;
    let devices = [0, 1].map(|i| Device::new(&path(&lab, i)));
    lab.start_all().unwrap();
    lab.wait_healthy(SOON).await.unwrap();
    let old = lab.wait_primary(SOON).await.unwrap();
    until("the device is fed", SOON, async || {
        devices[old].look(|state| state.fed.is_some() && state.timeout == Duration::from_secs(7))
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.logs()));
    assert_eq!(
        devices[1 - old].look(|state| state.opened),
        0,
        "a replica needs none"
    );
    stop(lab.members[old].agent_pid());
    stop(lab.members[old].guard_pid());
    let leads = async |lab: &Lab| {
        let answer = lab.members[1 - old].call(Method::GET, "/primary", None).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    let frozen = now();
    while !devices[old].look(State::bites) {
        assert!(!leads(&lab).await, "it leads while the machine still runs");
        assert!(
            now().since(frozen) < Duration::from_secs(8),
            "it was fed by nothing"
        );
    }
    lab.members[old].kill_node();
    until("the other member leads", SOON, async || leads(&lab).await)
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.logs()));
}

/// A member that needs a device and has none says so and does not lead; with it, it leads. Pause closes the device.
#[tokio::test]
async fn a_member_without_the_device_that_is_required_does_not_lead() {
    let mut lab = lab("required").await;
    let device = Device::new(&path(&lab, 1));
    lab.start_all().unwrap();
    lab.wait_healthy(SOON).await.unwrap();
    assert_eq!(lab.primary().await, Some(1), "{}", lab.logs());
    assert_eq!(lab.members[0].status().await["watchdog_failed"], true);
    assert_eq!(lab.members[1].status().await["watchdog_failed"], Value::Null);
    let body = json!({"leader": "m1", "candidate": "m0"});
    let answer = lab.members[1]
        .call(Method::POST, "/switchover", Some(&body))
        .await
        .unwrap();
    assert_eq!(answer.status, 412, "{}", answer.text());
    assert!(
        answer.text().contains("m0 must not be promoted"),
        "{}",
        answer.text()
    );
    for (pause, closed) in [(true, 1), (false, 1)] {
        let answer = lab.members[1]
            .call(Method::PATCH, "/config", Some(&json!({"pause": pause})))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        until(
            "pause closes the device, and its end opens it",
            SOON,
            async || device.look(|state| state.fed.is_some() != pause && state.closed == closed),
        )
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.logs()));
    }
    let other = Device::new(&path(&lab, 0));
    until("it can be used", SOON, async || {
        lab.members[0].status().await["watchdog_failed"].is_null()
    })
    .await
    .unwrap();
    let answer = lab.members[1]
        .call(Method::POST, "/switchover", Some(&body))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), lab.logs());
    lab.wait_healthy(SOON).await.unwrap();
    assert_eq!(lab.primary().await, Some(0));
    assert!(device.look(|state| state.fed.is_none() && state.closed == 2));
    assert!(other.look(|state| state.fed.is_some()));
    assert!(!device.look(State::bites) && !other.look(State::bites));
}
