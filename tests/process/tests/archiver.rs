//! The resident archiver beside a real server: what it does, and what is done without it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    path::Path,
    process::{Child, ChildStdin, Stdio},
};

use archives::{Archive, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

mod archives;

/// An archiver, as an agent runs it.
struct Resident {
    child: Child,
    input: Option<ChildStdin>,
}

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Resident {
    fn start(archive: &Archive, data: &Path) -> Self {
        let mut child = archive
            .server
            .command(archive.path("howdah"))
            .args(["archiver", "--env-dir"])
            .arg(archive.env())
            .arg("--pgdata")
            .arg(data)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut resident = Resident { child, input };
        wait("the archiver listens", || report(data).is_some());
        resident.tell(&json!({"until": null, "term": null}));
        resident
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// As an agent says up to when its member leads.
    fn tell(&mut self, fence: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{fence}").unwrap();
    }
}

/// What the archiver of a data directory says of itself.
fn report(data: &Path) -> Option<Value> {
    let name = data.file_name()?.to_str()?;
    let mut socket = UnixStream::connect(data.with_file_name(format!(".{name}.archiver"))).ok()?;
    let request = json!({"data": data, "variables": {}, "work": "report"});
    writeln!(socket, "{request}").ok()?;
    let mut lines = BufReader::new(socket).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| !line.trim().is_empty()))?;
    let answer: Value = serde_json::from_str(&line).ok()?;
    serde_json::from_str(answer["text"].as_str()?).ok()
}

fn archived(data: &Path) -> u64 {
    report(data)
        .and_then(|report| report["archived"].as_u64())
        .unwrap_or(0)
}

/// Ends so many segments.
fn write(archive: &Archive, segments: usize) {
    for _ in 0..segments {
        archive
            .server
            .sql("INSERT INTO t SELECT generate_series(1, 1000); SELECT pg_switch_wal()")
            .unwrap();
    }
}

#[test]
fn what_an_archiver_does_goes_on_without_it() {
    let archive = Archive::new(&[]);
    let data = archive.server.data.clone();
    let mut resident = Resident::start(&archive, &data);
    archive.start();
    archive.server.sql("CREATE TABLE t (id int)").unwrap();
    write(&archive, 12);
    archive.switch();
    let by_it = archived(&data);
    assert!(by_it >= 12, "{by_it}");

    // It hangs: the commands wait for a sign of life, and then do it themselves.
    resident.signal(Signal::STOP);
    write(&archive, 2);
    archive.switch();
    resident.signal(Signal::CONT);
    wait("it answers", || report(&data).is_some());
    assert_eq!(archived(&data), by_it);

    // The right to lead has run out.
    resident.tell(&json!({"until": 1, "term": 7}));
    wait("the fence is up", || {
        archive.server.sql("SELECT pg_switch_wal()").unwrap();
        archive.server.sql("INSERT INTO t VALUES (1)").unwrap();
        archive
            .server
            .sql("SELECT failed_count > 0 FROM pg_stat_archiver")
            .unwrap()
            == "t"
    });
    resident.tell(&json!({"until": null, "term": null}));
    archive.switch();

    // It is gone, with its socket left behind; then its successor takes the socket.
    resident.signal(Signal::KILL);
    write(&archive, 2);
    archive.switch();
    drop(resident);
    let again = Resident::start(&archive, &data);
    write(&archive, 3);
    archive.switch();
    assert!(archived(&data) >= 3);
    assert_eq!(archive.good(&["backup", "gaps"]), "No segment is missing.\n");
    drop(again);
    archive.server.stop("fast").unwrap();
}

#[test]
fn segments_are_fetched_before_their_turn() {
    let archive = Archive::new(&[]);
    archive.start();
    archive.server.sql("CREATE TABLE t (id int)").unwrap();
    archive.create();
    write(&archive, 25);
    archive.switch();
    archive.server.stop("fast").unwrap();
    archive.good(&[
        "backup",
        "restore",
        "restored",
        "--env-dir",
        archive.env().to_str().unwrap(),
    ]);
    let data = archive.path("restored");
    let resident = Resident::start(&archive, &data);
    // An archiver of another directory is not asked.
    assert_eq!(
        archive
            .howdah(&["wal", "get", "000000010000000000000003", "fetched"])
            .code,
        0
    );
    let restored = archive.recovered("restored");
    assert_eq!(restored.sql("SELECT count(*) FROM t").unwrap(), "25000");
    let spool = data.join("pg_wal/howdah_prefetch");
    assert!(spool.is_dir(), "the archiver was not asked");
    restored.stop("fast").unwrap();
    drop(resident);
    // What a life has left goes with the next one.
    let next = Resident::start(&archive, &data);
    wait("the spool is cleared", || !spool.exists());
    drop(next);
}

#[test]
fn a_backlog_beyond_its_limit_is_given_up_and_said() {
    let mut archive = Archive::new(&[]);
    archive.set("HOWDAH_WAL_BACKLOG_LIMIT", "40MB");
    archive.set("HOWDAH_ARCHIVE_TIMEOUT", "2");
    let data = archive.server.data.clone();
    let resident = Resident::start(&archive, &data);
    archive.start();
    archive.server.sql("CREATE TABLE t (id int)").unwrap();
    archive.create();
    let bucket = archive.path("bucket");
    let away = archive.path("away");
    fs::rename(&bucket, &away).unwrap();
    write(&archive, 4);
    wait("WAL is given up", || {
        report(&data).is_some_and(|report| report["dropped"].as_u64() > Some(0))
    });
    let said = report(&data).unwrap();
    assert!(said["failing_since"].is_string(), "{said}");
    fs::rename(&away, &bucket).unwrap();
    write(&archive, 1);
    wait("the archive is told", || {
        fs::read_dir(bucket.join("howdah_given_up")).is_ok_and(|mut entries| entries.next().is_some())
    });
    archive.switch();
    assert_eq!(archive.howdah(&["backup", "gaps"]).code, 3);
    // Moments of today cannot be restored until there is another backup.
    assert!(report(&data).unwrap()["dropped"].as_u64() > Some(0));
    drop(resident);
    archive.server.stop("fast").unwrap();
}
