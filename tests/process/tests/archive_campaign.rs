//! A cluster that archives while everything around it fails, and restores to moments in between: each has exactly the rows that
//! were committed by then. `HOWDAH_ARCHIVE_CAMPAIGN` says for how many seconds (40).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits"
)]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use howdah_testkit::{Address, Container, Lab, LabOptions, Plain, connect, until};
use rustix::process::{Pid, Signal, kill_process};

/// How many kinds of faults there are.
const FAULTS: usize = 7;

const PATIENCE: Duration = Duration::from_secs(120);

/// A file system of its own for the archive, where this may be mounted.
struct Disk {
    path: PathBuf,
    is_mounted: bool,
}

impl Disk {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6g", "howdah-archive"])
            .arg(&path)
            .stderr(Stdio::null())
            .status();
        Disk {
            path,
            is_mounted: mounted.is_ok_and(|status| status.success()),
        }
    }

    /// Nothing can be written until the file is gone.
    fn fill(&self) -> PathBuf {
        let filler = self.path.join("filler");
        let file = fs::File::create(&filler).unwrap();
        let mut length = 0;
        // Others write meanwhile.
        for _ in 0..100 {
            let disk = rustix::fs::statvfs(&self.path).unwrap();
            let free = disk.f_bavail * disk.f_frsize;
            let more = if free > 64 << 20 { free - (16 << 20) } else { free };
            let none = rustix::fs::FallocateFlags::empty();
            if more > 0 && rustix::fs::fallocate(&file, none, length, more).is_ok() {
                length += more;
            }
        }
        filler
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
        }
    }
}

/// Processes whose command line has all of these words.
fn processes(words: &[&str]) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let id: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            words
                .iter()
                .all(|word| line.contains(word))
                .then(|| Pid::from_raw(id))?
        })
        .collect()
}

/// All processes of a member: the server's change their command lines.
fn inside(root: &Path) -> Vec<Pid> {
    let root = root.display().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let id: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environ = fs::read(entry.path().join("environ")).ok()?;
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let is_inside = String::from_utf8_lossy(&environ).contains(&*root)
                || String::from_utf8_lossy(&line).contains(&*root)
                || fs::read_link(entry.path().join("cwd")).is_ok_and(|at| at.starts_with(&*root));
            is_inside.then(|| Pid::from_raw(id))?
        })
        .collect()
}

fn signal_all(pids: &[Pid], signal: Signal) {
    for pid in pids {
        let _ = kill_process(*pid, signal);
    }
}

/// Writes rows one after the other, each with something that does not compress, and notes what was acknowledged.
async fn write(addresses: Vec<Address>, is_over: Arc<AtomicBool>) -> BTreeSet<i64> {
    let mut acknowledged = BTreeSet::new();
    let mut next: i64 = 0;
    while !is_over.load(Ordering::SeqCst) {
        for address in &addresses {
            let Ok((client, _notices)) = connect(address).await else {
                continue;
            };
            while !is_over.load(Ordering::SeqCst) {
                // One number is tried once: whether a try whose answer was lost has succeeded is not known.
                next += 1;
                let row = format!(
                    "INSERT INTO truth SELECT {next}, string_agg(md5(random()::text), '') FROM generate_series(1, 400)"
                );
                match tokio::time::timeout(Duration::from_secs(5), client.batch_execute(&row)).await {
                    Ok(Ok(())) => {
                        acknowledged.insert(next);
                    }
                    Ok(Err(_)) | Err(_) => break,
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    acknowledged
}

struct Cluster {
    lab: Lab,
    members: Vec<Container>,
    disk: Disk,
    archive: PathBuf,
}

impl Cluster {
    async fn start() -> Self {
        let mut lab = Lab::new(LabOptions::howdah(1).unwrap()).await.unwrap();
        lab.members.clear();
        let disk = Disk::new(lab.dir().join("disk"));
        let archive = disk.path.join("archive");
        fs::create_dir(&archive).unwrap();
        let own = r#"{"bootstrap": {"dcs": {"synchronous_mode": true, "ttl": 8, "loop_wait": 2, "retry_timeout": 3,
            "postgresql": {"parameters": {"track_commit_timestamp": "on"}}}},
            "postgresql": {"parameters": {"archive_timeout": "5s"}}}"#;
        let variables = [
            ("WALG_FILE_PREFIX", "/archive"),
            ("BACKUP_SCHEDULE", "*/2 * * * *"),
            ("SPILO_CONFIGURATION", own),
            ("HOWDAH_ARCHIVE_TIMEOUT", "5"),
        ];
        let members: Vec<Container> = (0..2)
            .map(|ordinal| {
                let member = Container::start(&lab, "acid-campaign", ordinal, &variables).unwrap();
                let owner = fs::metadata(&member.root).unwrap();
                chown(&archive, Some(owner.uid()), Some(owner.gid())).unwrap();
                symlink(&archive, member.path("/archive")).unwrap();
                member
            })
            .collect();
        let cluster = Cluster {
            lab,
            members,
            disk,
            archive,
        };
        let made = until("the cluster is made", PATIENCE, async || cluster.is_whole().await).await;
        assert!(made.is_ok(), "{}", cluster.members[0].log());
        cluster
    }

    /// One leads, and the other one streams and is synchronous.
    async fn is_whole(&self) -> bool {
        for member in &self.members {
            if let Some(row) = one(
                &member.address(),
                "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'",
            )
            .await
                && row == "1"
            {
                return true;
            }
        }
        false
    }

    async fn leader(&self) -> Option<usize> {
        for (number, member) in self.members.iter().enumerate() {
            if one(&member.address(), "SELECT pg_is_in_recovery()")
                .await
                .as_deref()
                == Some("f")
            {
                return Some(number);
            }
        }
        None
    }

    fn howdah(&self, args: &[&str]) -> (bool, String) {
        let plain = Plain::at(self.archive.parent().unwrap(), "none").unwrap();
        let mut command = plain.command(self.lab.dir().join("howdah"));
        let output = command
            .args(args)
            .current_dir("/")
            .env("WALG_FILE_PREFIX", &self.archive)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// Something fails, and is mended.
    async fn strike(&self, fault: usize) {
        let Some(leader) = self.leader().await else { return };
        let member = &self.members[leader];
        let root = member.root.display().to_string();
        let data = format!("--pgdata\0{root}");
        match fault {
            0 => {
                let pid = fs::read_to_string(member.path("/home/postgres/pgdata/pgroot/data/postmaster.pid"));
                let pid = pid
                    .ok()
                    .and_then(|text| Pid::from_raw(text.lines().next()?.parse().ok()?));
                signal_all(&pid.into_iter().collect::<Vec<_>>(), Signal::KILL);
            }
            1 => signal_all(&processes(&["agent-worker", &root]), Signal::KILL),
            2 => signal_all(&processes(&["archiver", &data]), Signal::KILL),
            3 => {
                let stopped = processes(&["archiver", &data]);
                signal_all(&stopped, Signal::STOP);
                tokio::time::sleep(Duration::from_secs(8)).await;
                signal_all(&stopped, Signal::CONT);
            }
            4 => {
                let away = self.disk.path.join("away");
                fs::rename(&self.archive, &away).unwrap();
                tokio::time::sleep(Duration::from_secs(10)).await;
                fs::rename(&away, &self.archive).unwrap();
            }
            5 => {
                // The whole member stands still: another one leads by the time it goes on.
                let inside = inside(&member.root);
                signal_all(&inside, Signal::STOP);
                tokio::time::sleep(Duration::from_secs(20)).await;
                signal_all(&inside, Signal::CONT);
            }
            _ => {
                if self.disk.is_mounted {
                    let filler = self.disk.fill();
                    tokio::time::sleep(Duration::from_secs(8)).await;
                    fs::remove_file(filler).unwrap();
                }
            }
        }
    }
}

/// What a query says in its only column.
async fn one(address: &Address, query: &str) -> Option<String> {
    let (client, _notices) = tokio::time::timeout(Duration::from_secs(3), connect(address))
        .await
        .ok()?
        .ok()?;
    let rows = tokio::time::timeout(Duration::from_secs(20), client.simple_query(query))
        .await
        .ok()?
        .ok()?;
    rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

#[tokio::test]
async fn every_moment_between_faults_is_restored_exactly() {
    let seconds = std::env::var("HOWDAH_ARCHIVE_CAMPAIGN").map_or(40, |text| text.parse().unwrap());
    let restores: usize = if seconds >= 300 { 20 } else { 3 };
    let cluster = Cluster::start().await;
    let leader = cluster.members[cluster.leader().await.unwrap()].address();
    let (client, _notices) = connect(&leader).await.unwrap();
    client
        .batch_execute("CREATE TABLE truth (id bigint PRIMARY KEY, filler text)")
        .await
        .unwrap();
    let backed_up = until("there is a backup", PATIENCE, async || {
        cluster.howdah(&["backup", "list"]).1.contains("complete")
    });
    assert!(
        backed_up.await.is_ok(),
        "{:?}",
        cluster.howdah(&["backup", "list"])
    );
    let is_over = Arc::new(AtomicBool::new(false));
    let addresses = cluster.members.iter().map(Container::address).collect();
    let writer = tokio::spawn(write(addresses, Arc::clone(&is_over)));
    let begin: i64 = one(
        &leader,
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    )
    .await
    .unwrap()
    .parse()
    .unwrap();

    let end = howdah_clock::now() + Duration::from_secs(seconds);
    let mut fault = 0;
    while howdah_clock::now() < end {
        tokio::time::sleep(Duration::from_secs(4)).await;
        cluster.strike((fault + 5) % FAULTS).await;
        fault += 1;
        let whole = until("the cluster is whole again", PATIENCE, async || {
            cluster.is_whole().await
        })
        .await;
        assert!(
            whole.is_ok(),
            "after fault {}: {}\n{}",
            (fault + 4) % FAULTS,
            cluster.members[0].log(),
            cluster.members[1].log()
        );
    }
    is_over.store(true, Ordering::SeqCst);
    let acknowledged = writer.await.unwrap();

    // What was committed, and when: by the servers' own record.
    let address = cluster.members[cluster.leader().await.unwrap()].address();
    let (client, _notices) = connect(&address).await.unwrap();
    let committed: Vec<(i64, i64)> = client
        .query(
            "SELECT id, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint FROM truth ORDER BY 2, 1",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let there: BTreeSet<i64> = committed.iter().map(|(id, _)| *id).collect();
    let lost: Vec<&i64> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    assert!(there.len() > 50, "only {} rows were written", there.len());
    client
        .batch_execute("CHECKPOINT; SELECT pg_switch_wal()")
        .await
        .unwrap();
    let archived = until("everything is archived", PATIENCE, async || {
        let late = "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 16777216) FROM pg_stat_archiver";
        one(&address, late).await.as_deref() == Some("t")
    });
    assert!(archived.await.is_ok(), "{}", cluster.members[0].log());
    let (is_whole, gaps) = cluster.howdah(&["backup", "gaps"]);
    assert!(is_whole, "{gaps}");
    println!(
        "{} rows, {} acknowledged, {fault} faults, {}",
        there.len(),
        acknowledged.len(),
        cluster.howdah(&["backup", "list"]).1
    );

    // Moments all over the time, each between two commits.
    let later: Vec<&(i64, i64)> = committed.iter().filter(|(_, at)| *at > begin).collect();
    for number in 0..restores {
        let at = later[(number * 7919 + 13) % later.len()].1;
        let wanted: Vec<i64> = committed
            .iter()
            .filter(|(_, other)| *other <= at)
            .map(|(id, _)| *id)
            .collect();
        restore(&cluster, number, at, &wanted);
    }
}

/// Restores to a moment and compares what is there.
fn restore(cluster: &Cluster, number: usize, at: i64, wanted: &[i64]) {
    let name = format!("restored-{number}");
    let dir = cluster.lab.dir().join("restores");
    fs::create_dir_all(&dir).unwrap();
    let plain = Plain::at(&dir, &name).unwrap();
    let moment = jiff::Timestamp::from_microsecond(at).unwrap().to_string();
    let env = dir.join("env");
    fs::create_dir_all(&env).unwrap();
    fs::write(
        env.join("WALG_FILE_PREFIX"),
        cluster.archive.display().to_string(),
    )
    .unwrap();
    let restored = cluster.howdah(&[
        "backup",
        "restore",
        plain.data.to_str().unwrap(),
        "--to",
        &moment,
        "--env-dir",
        env.to_str().unwrap(),
    ]);
    assert!(restored.0, "{moment}: {}", restored.1);
    independent(&plain.data);
    plain.start().unwrap();
    let deadline = howdah_clock::now() + PATIENCE;
    while !plain.sql("SELECT pg_is_in_recovery()").is_ok_and(|is| is == "f") {
        assert!(howdah_clock::now() < deadline, "{moment} is not reached");
        std::thread::sleep(Duration::from_millis(100));
    }
    let sum: i64 = wanted.iter().sum();
    let has = plain
        .sql("SELECT count(*), coalesce(sum(id), 0) FROM truth")
        .unwrap();
    assert_eq!(has, format!("{}|{sum}", wanted.len()), "at {moment}");
    plain.stop("immediate").unwrap();
    fs::remove_dir_all(&plain.data).unwrap();
}

/// The member's settings name files of its container.
fn independent(data: &Path) {
    let conf = "max_connections = 200\nmax_worker_processes = 32\nmax_wal_senders = 32\nmax_prepared_transactions = 100\n\
        max_locks_per_transaction = 256\ntrack_commit_timestamp = on\nhot_standby = on\n";
    fs::write(data.join("postgresql.conf"), conf).unwrap();
    fs::write(data.join("pg_hba.conf"), "local all all trust\n").unwrap();
    fs::write(data.join("pg_ident.conf"), "").unwrap();
}
