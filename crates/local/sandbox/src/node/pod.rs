use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use howdah_clock::now;
use howdah_http::sleep_until;
use howdah_types::BootTime;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    sync::watch,
};

use super::{
    Node, current, log_file,
    probe::{self, Probe},
    processes, projected,
    status::{Container, Ended},
};
use crate::{controllers::record, meta, store::Write};

/// After a run of this length a container starts over with short pauses between its restarts.
const SETTLED: Duration = Duration::from_secs(600);
/// The longest pause between restarts.
const LONGEST: Duration = Duration::from_secs(300);

/// What ended a wait.
enum Wake {
    Ended(Ended),
    Delete,
    Stop,
    Liveness,
    Readiness(bool),
}

/// The running program of a pod.
enum Running {
    Child(Child),
    /// Left behind by a sandbox that was killed.
    Found {
        pid: i32,
        started: u64,
    },
}

impl Running {
    fn pid(&self) -> Option<i32> {
        match self {
            Running::Child(child) => child.id().and_then(|pid| i32::try_from(pid).ok()),
            Running::Found { pid, .. } => Some(*pid),
        }
    }

    async fn wait(&mut self) -> Ended {
        let (code, signal) = match self {
            Running::Child(child) => match child.wait().await {
                Ok(status) => (
                    status
                        .code()
                        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
                    status.signal(),
                ),
                Err(_) => (255, None),
            },
            Running::Found { pid, started } => {
                processes::gone(*pid, *started).await;
                // Only a parent learns how it ended.
                (255, None)
            }
        };
        Ended {
            code: i64::from(code),
            signal: signal.map(i64::from),
            at: meta::timestamp(),
        }
    }
}

/// Runs one pod from its beginning to its end, through all restarts of its container.
pub(super) async fn run(node: &Node, pod: &Value, stop: watch::Receiver<bool>) {
    let mut life = Life {
        node,
        address: String::new(),
        pod: pod.clone(),
        restarts: 0,
        pause: Duration::ZERO,
        last: None,
        last_words: None,
        stop,
    };
    let found = life.find();
    if found.is_none() {
        // Whatever an earlier life of the sandbox has left of this pod must not run beside the next.
        life.kill_rest().await;
    }
    life.live(found).await;
    node.addresses.release(&life.address);
}

/// As much of the end of a log is looked through for the reason of a failure.
const WORDS: u64 = 16 * 1024;
/// A reason is cut here.
const LONGEST_WORDS: usize = 400;

/// The last line of a log that tells of an error, or the last line.
async fn last_words(log: PathBuf) -> Option<String> {
    let read = move || {
        let mut file = fs::File::open(log).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(WORDS))).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        reason_in(&String::from_utf8_lossy(&bytes))
    };
    tokio::task::spawn_blocking(read).await.ok()?
}

fn reason_in(log: &str) -> Option<String> {
    const WORDS: [&str; 5] = ["FATAL", "PANIC", "ERROR", "Error:", "CRITICAL"];
    let lines = || log.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let line = lines()
        .find(|line| WORDS.iter().any(|word| line.contains(word)))
        .or_else(|| lines().next())?;
    // The time and the program of a line are known here.
    let from = WORDS.iter().filter_map(|word| line.find(word)).min().unwrap_or(0);
    let words: String = line[from..].chars().take(LONGEST_WORDS).collect();
    Some(words.trim_end_matches(['.', ' ']).to_owned())
}

/// A container's own arguments, or its image's.
fn arguments(container: &Value, of_image: &[String]) -> Vec<String> {
    match container["args"].as_array().filter(|args| !args.is_empty()) {
        Some(args) => args
            .iter()
            .filter_map(|arg| arg.as_str().map(str::to_owned))
            .collect(),
        None => of_image.to_vec(),
    }
}

struct Life<'a> {
    node: &'a Node,
    pod: Value,
    address: String,
    restarts: u64,
    pause: Duration,
    last: Option<Ended>,
    /// What the container said last before it failed.
    last_words: Option<String>,
    stop: watch::Receiver<bool>,
}

impl Life<'_> {
    async fn live(&mut self, mut found: Option<Running>) {
        loop {
            let mut running = match found.take() {
                Some(running) => running,
                None => match self.start().await {
                    Some(running) => running,
                    None => return,
                },
            };
            let began = now();
            let wake = self.watch_over(&mut running).await;
            match wake {
                Wake::Ended(ended) => {
                    self.after_end(&ended, began).await;
                    self.last = Some(ended);
                }
                Wake::Liveness => {
                    record(
                        &self.node.store,
                        &self.pod,
                        "Warning",
                        "Unhealthy",
                        "the liveness probe failed; the container is restarted",
                    );
                    let ended = self.end(&mut running).await;
                    self.after_end(&ended, began).await;
                    self.last = Some(ended);
                }
                Wake::Delete => {
                    self.end(&mut running).await;
                    return self.forget();
                }
                Wake::Stop | Wake::Readiness(_) => {
                    self.end(&mut running).await;
                    self.say(&Container::Waiting {
                        reason: "SandboxStopped",
                        message: "the sandbox was stopped; 'howdah up' starts it again".into(),
                    });
                    return;
                }
            }
            if !self.rest().await {
                return;
            }
        }
    }

    fn home(&self) -> PathBuf {
        self.node.dir.pods().join(meta::uid(&self.pod))
    }

    fn container(&self) -> &Value {
        &self.pod["spec"]["containers"][0]
    }

    fn say(&self, state: &Container) {
        self.node
            .report(&self.pod, &self.address, state, self.restarts, self.last.as_ref());
    }

    /// The program that an earlier life of the sandbox has started.
    fn find(&mut self) -> Option<Running> {
        let text = fs::read_to_string(self.home().join("process.json")).ok()?;
        let known: Value = serde_json::from_str(&text).ok()?;
        let pid = known["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())?;
        let started = known["started"].as_u64()?;
        self.restarts = self.pod["status"]["containerStatuses"][0]["restartCount"]
            .as_u64()
            .unwrap_or(0);
        if !processes::is_alive(pid, started) {
            return None;
        }
        self.address = self.pod["status"]["podIP"].as_str()?.to_owned();
        tracing::info!(pod = meta::name(&self.pod), pid, "Found a running pod.");
        Some(Running::Found { pid, started })
    }

    /// Starts the program; says why when it cannot, and tries again when something changes. `None`: the pod is over.
    async fn start(&mut self) -> Option<Running> {
        loop {
            let mut changed = self.node.store.subscribe();
            changed.mark_unchanged();
            let pod = current(&self.node.store, &self.pod)?;
            if meta::is_ending(&pod) {
                self.pod = (*pod).clone();
                self.forget();
                return None;
            }
            self.pod = (*pod).clone();
            match self.try_start() {
                Ok(child) => return Some(Running::Child(child)),
                Err((reason, message)) => {
                    let told = Container::Waiting {
                        reason,
                        message: message.clone(),
                    };
                    let before = &self.pod["status"]["containerStatuses"][0]["state"]["waiting"];
                    if before["message"] != message.as_str() {
                        record(&self.node.store, &self.pod, "Warning", "Failed", &message);
                        self.say(&told);
                    }
                }
            }
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return None,
                _ = changed.changed() => {}
            }
        }
    }

    fn try_start(&mut self) -> Result<Child, (&'static str, String)> {
        let node = self.node;
        let image = self.container()["image"].as_str().unwrap_or_default();
        let program = node
            .images
            .program(image)
            .map_err(|message| ("ErrImagePull", message))?
            .clone();
        let config = |message: String| ("CreateContainerConfigError", message);
        if self.address.is_empty() {
            let known = self.pod["status"]["podIP"].as_str().filter(|ip| !ip.is_empty());
            self.address = match known {
                Some(known) => known.to_owned(),
                None => node.addresses.pod().map_err(config)?,
            };
        }
        meta::set(&mut self.pod, &["status", "podIP"], json!(self.address));
        let container = self.container().clone();
        let root = node.root(&self.pod, &container).map_err(config)?;
        let surroundings = node.surroundings(&self.pod, &container, &root).map_err(config)?;
        node.tools(&self.pod, &program).map_err(config)?;
        let name = container["name"].as_str().unwrap_or_default();
        let log = log_file(&node.dir.pods(), meta::uid(&self.pod), name, false);
        let _ = fs::rename(&log, log_file(&node.dir.pods(), meta::uid(&self.pod), name, true));
        let failed = |error: std::io::Error| ("RunContainerError", format!("{}: {error}", log.display()));
        let file = fs::File::create(&log).map_err(failed)?;
        let errors = file.try_clone().map_err(failed)?;
        let mut command = surroundings.command(&program.path);
        command
            .args(arguments(&container, &program.args))
            .stdin(Stdio::null())
            .stdout(Stdio::from(file))
            .stderr(Stdio::from(errors))
            // A Ctrl-C in the sandbox's terminal is not for the pods: the sandbox ends them in order.
            .process_group(0);
        let child = Command::from(command).spawn().map_err(|error| {
            (
                "RunContainerError",
                format!("{}: {error}", program.path.display()),
            )
        })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let started = howdah_proc::started(pid);
        let name = format!("{}/{}", meta::namespace(&self.pod), meta::name(&self.pod));
        let known = json!({"pod": name, "pid": pid, "started": started});
        if let Err(error) = crate::state::write_private(&self.home().join("process.json"), known.to_string())
        {
            tracing::warn!(%error, "A later sandbox will not find this pod's process.");
        }
        Ok(child)
    }

    /// Waits for something to happen to the running program.
    async fn watch_over(&mut self, running: &mut Running) -> Wake {
        let since = meta::timestamp();
        let readiness = Probe::of(&self.container()["readinessProbe"], &self.address);
        let liveness = Probe::of(&self.container()["livenessProbe"], &self.address);
        let mut ready = readiness.is_none();
        self.say(&Container::Running {
            since: since.clone(),
            ready,
        });
        record(
            &self.node.store,
            &self.pod,
            "Normal",
            "Started",
            "Started container",
        );
        self.tell_left_out();
        let mut changed = self.node.store.subscribe();
        let mut begin = true;
        let mut projected = projected::versions(&self.node.store, &self.pod);
        loop {
            if current(&self.node.store, &self.pod).is_none_or(|pod| meta::is_ending(&pod)) {
                return Wake::Delete;
            }
            let mut stop = self.stop.clone();
            let wake = tokio::select! {
                biased;
                ended = running.wait() => Wake::Ended(ended),
                _ = stop.wait_for(|stop| *stop) => Wake::Stop,
                () = self.deleted(&mut changed, &mut projected) => Wake::Delete,
                () = probe::change(liveness.as_ref(), true, true) => Wake::Liveness,
                () = probe::change(readiness.as_ref(), ready, begin) => Wake::Readiness(!ready),
            };
            match wake {
                Wake::Readiness(now_ready) => {
                    (ready, begin) = (now_ready, false);
                    self.say(&Container::Running {
                        since: since.clone(),
                        ready,
                    });
                }
                other => return other,
            }
        }
    }

    /// Containers beside the first are no programs that the sandbox has.
    fn tell_left_out(&self) {
        let spec = &self.pod["spec"];
        let names = |list: &str, from: usize| {
            let all = spec[list].as_array().into_iter().flatten().skip(from);
            all.filter_map(|container| container["name"].as_str())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut left_out = names("initContainers", 0);
        left_out.extend(names("containers", 1));
        if !left_out.is_empty() {
            let told = format!(
                "the sandbox runs no containers: left out are {}",
                left_out.join(", ")
            );
            record(&self.node.store, &self.pod, "Warning", "LeftOut", &told);
        }
    }

    /// Waits for the pod's deletion; meanwhile its volumes follow the Secrets and ConfigMaps that they are made of.
    async fn deleted(&self, changed: &mut watch::Receiver<u64>, projected: &mut Vec<Option<String>>) {
        loop {
            if changed.changed().await.is_err() {
                return;
            }
            if !projected.is_empty() {
                let versions = projected::versions(&self.node.store, &self.pod);
                if versions != *projected {
                    *projected = versions;
                    self.node.project_again(&self.pod);
                }
            }
            if current(&self.node.store, &self.pod).is_none_or(|pod| meta::is_ending(&pod)) {
                return;
            }
        }
    }

    /// Ends the program: politely, and after the pod's grace with everything it has started.
    async fn end(&mut self, running: &mut Running) -> Ended {
        let began = now();
        let mut changed = self.node.store.subscribe();
        let mut polite = false;
        let ended = loop {
            let grace = self.grace();
            if let Some(pid) = running.pid() {
                if grace == 0 || now() >= began + Duration::from_secs(grace) {
                    processes::signal(pid, Signal::KILL);
                    self.kill_rest().await;
                    break running.wait().await;
                }
                if !polite {
                    polite = true;
                    processes::signal(pid, Signal::TERM);
                }
            }
            // A second deletion may shorten the grace.
            tokio::select! {
                ended = running.wait() => break ended,
                () = sleep_until(began + Duration::from_secs(grace)) => {}
                _ = changed.changed() => {}
            }
        };
        self.kill_rest().await;
        ended
    }

    /// How long the pod may take to end, in seconds.
    fn grace(&self) -> u64 {
        let pod = current(&self.node.store, &self.pod);
        let pod = pod.as_deref().unwrap_or(&self.pod);
        pod["metadata"]["deletionGracePeriodSeconds"]
            .as_u64()
            .or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_u64())
            .unwrap_or(30)
    }

    async fn kill_rest(&self) {
        let mut directories = vec![self.home()];
        for volume in self.pod["spec"]["volumes"].as_array().into_iter().flatten() {
            let claim = volume["persistentVolumeClaim"]["claimName"]
                .as_str()
                .unwrap_or_default();
            if let Some(claim) =
                self.node
                    .store
                    .get("/persistentvolumeclaims", meta::namespace(&self.pod), claim)
                && let Some(name) = claim["spec"]["volumeName"].as_str()
            {
                directories.push(self.node.dir.volumes().join(name));
            }
        }
        processes::end_all_in(&directories).await;
    }

    async fn after_end(&mut self, ended: &Ended, began: BootTime) {
        self.kill_rest().await;
        let told = match ended.signal {
            Some(signal) => format!("the container was ended by signal {signal}"),
            None => format!("the container ended with exit code {}", ended.code),
        };
        let log = log_file(
            &self.node.dir.pods(),
            meta::uid(&self.pod),
            self.container()["name"].as_str().unwrap_or_default(),
            false,
        );
        self.last_words = if ended.signal.is_none() && ended.code != 0 {
            last_words(log).await
        } else {
            None
        };
        let told = match &self.last_words {
            Some(words) => format!("{told}: {words}"),
            None => told,
        };
        record(&self.node.store, &self.pod, "Warning", "BackOff", &told);
        if now().since(began) >= SETTLED {
            self.pause = Duration::ZERO;
        }
        self.restarts += 1;
    }

    /// The pause before a restart: none after the first end, then doubling. `false`: the pod is over.
    async fn rest(&mut self) -> bool {
        let until = now() + self.pause;
        if !self.pause.is_zero() {
            let seconds = self.pause.as_secs();
            self.say(&Container::Waiting {
                reason: "CrashLoopBackOff",
                message: match &self.last_words {
                    Some(words) => format!("back-off {seconds}s restarting failed container: {words}"),
                    None => format!("back-off {seconds}s restarting failed container"),
                },
            });
        }
        self.pause = (self.pause * 2).clamp(Duration::from_secs(10), LONGEST);
        let mut changed = self.node.store.subscribe();
        let mut stop = self.stop.clone();
        if current(&self.node.store, &self.pod).is_none_or(|pod| meta::is_ending(&pod)) {
            self.forget();
            return false;
        }
        let mut projected = Vec::new();
        tokio::select! {
            () = sleep_until(until) => true,
            _ = stop.wait_for(|stop| *stop) => false,
            () = self.deleted(&mut changed, &mut projected) => {
                self.forget();
                false
            }
        }
    }

    /// Removes the pod's object and its directories.
    fn forget(&self) {
        let uid = meta::uid(&self.pod).to_owned();
        self.node.remove_pod(&uid);
        let gone = self.node.store.write(
            "/pods",
            meta::namespace(&self.pod),
            meta::name(&self.pod),
            |before| {
                Ok(match before {
                    Some(before) if meta::uid(before) == uid => Write::Delete,
                    _ => Write::Nothing,
                })
            },
        );
        if let Err(error) = gone {
            tracing::debug!(%error, "a pod was not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::reason_in;

    #[test]
    fn the_reason_is_the_last_error_of_a_log() {
        let log = "2026-11-26 10:00:00,1 INFO: a\n2026-11-26 10:00:01,1 ERROR: no room\nbye\n\n";
        assert_eq!(reason_in(log).unwrap(), "ERROR: no room");
        assert_eq!(reason_in("one\ntwo\n").unwrap(), "two");
        assert_eq!(reason_in("\n"), None);
    }
}
