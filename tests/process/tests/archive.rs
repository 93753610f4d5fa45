//! Archives of backups and WAL, with real servers: PostgreSQL's, and SeaweedFS for S3 where `HOWDAH_WEED` names it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits"
)]

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use archives::{Archive, said, segments, wait};
use howdah_testkit::{Plain, S3, S3_KEYS, free_port, until};
use rustix::process::{Pid, Signal, kill_process};

mod archives;

#[test]
fn what_is_archived_is_never_overwritten() {
    let archive = Archive::new(&[]);
    let segment = segments(&archive.server.data).remove(0);
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let push = |path: &Path| archive.howdah(&["wal", "push", path.to_str().unwrap()]);
    assert_eq!(push(&segment).code, 0);
    assert_eq!(push(&segment).code, 0, "again");
    let get = |name: &str| archive.howdah(&["wal", "get", name, "fetched"]);
    assert_eq!(get(&name).code, 0);
    assert_eq!(
        fs::read(archive.path("fetched")).unwrap(),
        fs::read(&segment).unwrap()
    );

    // Other content stays out, also under another codec.
    let other = archive.path("other").join(&name);
    fs::create_dir(archive.path("other")).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[9_000_000] ^= 1;
    fs::write(&other, &bytes).unwrap();
    assert_eq!(push(&other).code, 45);
    let lz4 = |path: &Path| {
        let mut command = archive.server.command(archive.path("howdah"));
        command
            .env("WALG_COMPRESSION_METHOD", "lz4")
            .envs(&archive.variables);
        said(command.args(["wal", "push"]).arg(path))
    };
    assert_eq!(lz4(&other).code, 45);
    assert_eq!(lz4(&segment).code, 0);
    assert_eq!(
        archive.objects().len(),
        2,
        "the segment, and whose archive it is: {:?}",
        archive.objects()
    );

    // Another name, half a file, another cluster, no name of WAL.
    let renamed = archive.path("other").join("0000000100000000000000FF");
    fs::write(&renamed, fs::read(&segment).unwrap()).unwrap();
    assert!(
        push(&renamed).err.contains("its content begins at"),
        "{:?}",
        push(&renamed)
    );
    fs::write(&renamed, &bytes[..1_000_000]).unwrap();
    assert_ne!(push(&renamed).code, 0);
    let foreign = Plain::init(archive.dir.path(), "foreign", &[]).unwrap();
    let theirs = segments(&foreign.data).remove(0);
    let said = push(&theirs);
    assert_eq!(said.code, 44, "{said:?}");
    assert!(said.err.contains("another cluster's archive"), "{said:?}");
    assert_eq!(push(&archive.path("howdah")).code, 64);
    assert_eq!(archive.objects().len(), 2);
}

#[test]
fn restore_command_says_missing_only_when_it_is() {
    let archive = Archive::new(&[]);
    let get = |name: &str| archive.howdah(&["wal", "get", name, "fetched"]).code;
    let missing = "0000000100000000000000AA";
    // There is nothing in the directory, then no directory: a disk may be missing.
    assert_eq!(get(missing), 255);
    fs::remove_dir(archive.path("bucket")).unwrap();
    assert_eq!(get(missing), 255);
    let segment = segments(&archive.server.data).remove(0);
    assert_eq!(
        archive.howdah(&["wal", "push", segment.to_str().unwrap()]).code,
        77
    );
    archive.good(&["backup", "check", "--init"]);
    archive.good(&["wal", "push", segment.to_str().unwrap()]);
    assert_eq!(get(missing), 74);
    assert_eq!(get("00000002.history"), 74);
    assert_eq!(get("rubbish"), 255);
    assert_eq!(archive.howdah(&["wal", "get", "--unknown", "a", "b"]).code, 255);
    assert_eq!(
        archive.run("wal-g", &["wal-fetch", missing]).code,
        255,
        "an argument is missing"
    );
    assert_eq!(archive.run("wal-g", &["wal-fetch", missing, "fetched"]).code, 74);
    // A damaged object is no missing one, and leaves nothing behind.
    let object = archive
        .objects()
        .into_iter()
        .find(|path| path.extension().is_some_and(|is| is == "zst"))
        .unwrap();
    let bytes = fs::read(&object).unwrap();
    fs::write(&object, &bytes[..bytes.len() / 2]).unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(get(&name), 255);
    let left: Vec<_> = fs::read_dir(archive.dir.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().starts_with("fetched")),
        "{left:?}"
    );
}

#[test]
fn a_backup_is_restored_with_tablespaces_to_any_moment() {
    let archive = Archive::new(&[]);
    archive.start();
    let sql = |query: &str| archive.server.sql(query).unwrap();
    let space = archive.path("space");
    said(archive.server.command("mkdir").arg(&space));
    sql(&format!(
        "CREATE TABLESPACE elsewhere LOCATION '{}'",
        space.display()
    ));
    sql("CREATE TABLE a AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 50000) g");
    sql("CREATE TABLE b (id int) TABLESPACE elsewhere");
    sql("INSERT INTO b SELECT generate_series(1, 1000)");
    sql("CREATE UNLOGGED TABLE u (id int); ");
    let name = archive.create();
    sql("INSERT INTO a VALUES (50001, 'after the backup')");
    sql("SELECT pg_create_restore_point('here')");
    sql("SELECT pg_sleep(0.01)");
    let moment = sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    sql("SELECT pg_sleep(0.01)");
    sql("DROP TABLE b");
    let lsn = sql("SELECT pg_current_wal_lsn()");
    archive.switch();

    let list = archive.good(&["backup", "list"]);
    assert!(list.contains(&name) && list.contains("complete"), "{list}");
    let moved = format!("{}={}", space.display(), archive.path("space2").display());
    let restore = |into: &str, more: &[&str]| {
        let _ = fs::remove_dir_all(archive.path("space2"));
        let mut args = vec![
            "backup",
            "restore",
            into,
            "--env-dir",
            "env",
            "--tablespace",
            &moved,
        ];
        args.extend(more);
        archive.good(&args)
    };
    let plan = restore("by-time", &["--to", &moment]);
    assert!(
        plan.contains(&name) && plan.contains("archive_mode is off"),
        "{plan}"
    );
    let restored = archive.recovered("by-time");
    assert_eq!(
        restored
            .sql("SELECT count(*), max(text) FILTER (WHERE id > 50000) FROM a")
            .unwrap(),
        "50001|after the backup"
    );
    assert_eq!(restored.sql("SELECT count(*) FROM b").unwrap(), "1000");
    assert_eq!(restored.sql("SELECT count(*) FROM u").unwrap(), "0");
    assert_eq!(restored.sql("SHOW archive_mode").unwrap(), "off");
    restored.stop("fast").unwrap();
    assert!(
        restored
            .check("pg_checksums", &["--check", "-D", "by-time"])
            .unwrap()
            .contains("Bad checksums:  0")
    );

    restore("by-name", &["--to-name", "here"]);
    assert_eq!(
        archive
            .recovered("by-name")
            .sql("SELECT count(*) FROM b")
            .unwrap(),
        "1000"
    );
    restore("by-lsn", &["--to-lsn", &lsn]);
    let dropped = archive.recovered("by-lsn");
    assert_eq!(dropped.sql("SELECT to_regclass('b') IS NULL").unwrap(), "t");
    restore("immediate", &["--immediate"]);
    assert_eq!(
        archive
            .recovered("immediate")
            .sql("SELECT count(*) FROM a")
            .unwrap(),
        "50000"
    );
    restore("to-the-end", &[]);
    let end = archive.recovered("to-the-end");
    assert_eq!(end.sql("SELECT to_regclass('b') IS NULL").unwrap(), "t");

    // A directory with something in it stays as it is, and impossible targets are refused before anything is made.
    let refused = archive.howdah(&["backup", "restore", "by-time"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("is not empty"), "{refused:?}");
    for (target, reason) in [
        (
            ["--to", "2020-01-01T00:00:00Z"],
            "before the end of the first backup",
        ),
        (["--to", "2100-01-01T00:00:00Z"], "choose an earlier moment"),
        (["--to-lsn", "F/0"], "choose an earlier moment"),
        (["--timeline", "7"], "its history file is not in the archive"),
        (["--major", "14"], "cannot run its files"),
    ] {
        let refused = archive.howdah(&["backup", "restore", "never", target[0], target[1]]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.err.contains(reason), "{refused:?}");
    }
    assert!(!archive.path("never").exists());
}

#[test]
fn every_codec_with_and_without_a_key() {
    let mut archive = Archive::new(&[]);
    archive.start();
    archive
        .server
        .sql("CREATE TABLE a AS SELECT generate_series(1, 10000) AS id")
        .unwrap();
    let bucket = archive.path("bucket");
    let codecs = ["lz4", "zstd", "lzma", "brotli", "none"];
    for (number, codec) in codecs.into_iter().enumerate() {
        // The key is beside the codec: two of them show that.
        let keys: &[bool] = if number < 2 { &[false, true] } else { &[false] };
        for key in keys.iter().copied() {
            let place = bucket.join(format!("{codec}-{key}"));
            archive.set("WALG_FILE_PREFIX", place.to_str().unwrap());
            archive.set("WALG_COMPRESSION_METHOD", codec);
            archive.good(&["backup", "check", "--init"]);
            if key {
                archive.set("WALG_LIBSODIUM_KEY", "a key of the test, long enough for it");
            }
            archive.create();
            let into = format!("restored-{number}-{key}");
            archive.good(&["backup", "restore", &into, "--env-dir", "env", "--immediate"]);
            let restored = archive.recovered(&into);
            assert_eq!(
                restored.sql("SELECT count(*) FROM a").unwrap(),
                "10000",
                "{codec} {key}"
            );
            if key {
                archive.set("WALG_LIBSODIUM_KEY", "another key of the test, as long as it");
                let refused = archive.howdah(&["backup", "restore", "never"]);
                assert_ne!(refused.code, 0);
                assert!(refused.err.contains("is encrypted with key"), "{refused:?}");
                archive.unset("WALG_LIBSODIUM_KEY");
                let refused = archive.howdah(&["backup", "restore", "never"]);
                assert!(refused.err.contains("set WALG_LIBSODIUM_KEY"), "{refused:?}");
                assert!(!archive.path("never").exists());
            }
        }
    }
}

#[test]
fn a_missing_segment_stops_a_recovery_and_its_plan() {
    let archive = Archive::new(&[]);
    archive.start();
    archive.create();
    archive.server.sql("CREATE TABLE a AS SELECT 1 AS id").unwrap();
    archive.switch();
    archive.server.sql("CREATE TABLE b AS SELECT 1 AS id").unwrap();
    archive.switch();
    archive.server.sql("CREATE TABLE c AS SELECT 1 AS id").unwrap();
    archive.switch();
    assert_eq!(archive.howdah(&["backup", "gaps"]).code, 0);
    archive.good(&["backup", "restore", "restored", "--env-dir", "env"]);
    let mut wal: Vec<PathBuf> = archive.objects();
    wal.retain(|path| path.parent().unwrap().ends_with("wal_005") && path.file_name().unwrap().len() == 28);
    wal.sort();
    fs::remove_file(&wal[wal.len() - 2]).unwrap();
    assert_eq!(archive.howdah(&["backup", "gaps"]).code, 3);
    let refused = archive.howdah(&["backup", "restore", "never", "--env-dir", "env"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("is missing from the archive"), "{refused:?}");
    // The one that was restored before does not promote with what it has.
    let restored = Plain::at(archive.dir.path(), "restored").unwrap();
    let _ = restored.start();
    wait("it stops", || {
        restored.log().contains("is missing from the archive")
    });
    wait("it is down", || !archive.path("restored/postmaster.pid").exists());
    assert!(
        !restored.log().contains("archive recovery complete"),
        "{}",
        restored.log()
    );
}

#[test]
fn damage_is_found_and_never_restored() {
    let archive = Archive::new(&[]);
    archive.start();
    let name = archive.create();
    let verified = archive.good(&["backup", "verify"]);
    assert!(
        verified.contains("sound") && verified.contains("equal to the receipt"),
        "{verified}"
    );
    assert!(archive.good(&["backup", "list"]).contains("verified"));
    let part = archive
        .path("bucket/basebackups_005")
        .join(&name)
        .join("tar_partitions/part_001.tar.zst");
    let mut bytes = fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&part, &bytes).unwrap();
    let damaged = archive.howdah(&["backup", "verify"]);
    assert_eq!(damaged.code, 3, "{damaged:?}");
    assert!(damaged.out.contains("part_001.tar.zst is damaged"), "{damaged:?}");
    let refused = archive.howdah(&["backup", "restore", "restored", "--env-dir", "env"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("part_001.tar.zst is damaged"), "{refused:?}");
    assert!(
        !archive.path("restored").exists(),
        "what was restored so far is gone"
    );
    fs::remove_file(&part).unwrap();
    let refused = archive.howdah(&["backup", "restore", "restored", "--env-dir", "env"]);
    assert!(
        refused.err.contains("the backup's receipt names it"),
        "{refused:?}"
    );

    // A page whose checksum does not fit is named.
    archive
        .server
        .sql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS id; CHECKPOINT")
        .unwrap();
    let file = archive.server.sql("SELECT pg_relation_filepath('t')").unwrap();
    archive.server.stop("fast").unwrap();
    let path = archive.server.data.join(&file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8192 + 4000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    archive.server.start().unwrap();
    let said = archive.howdah(&["backup", "create", "-D", "data", "--wait-wal", "60s"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains(&format!("{file} page 1")), "{said:?}");
    assert!(archive.good(&["backup", "list"]).contains("damaged pages"));
}

#[test]
fn an_interrupted_backup_leaves_nothing() {
    let mut archive = Archive::new(&[]);
    archive.start();
    archive
        .server
        .sql("CREATE TABLE a AS SELECT g, random()::text FROM generate_series(1, 100000) g")
        .unwrap();
    archive.set("WALG_NETWORK_RATE_LIMIT", "1000000");
    let mut command = archive.server.command(archive.path("howdah"));
    let mut child = command
        .args(["backup", "create", "-D", "data"])
        .envs(&archive.variables)
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let parts = || {
        let objects = archive.objects();
        objects
            .into_iter()
            .filter(|path| path.to_string_lossy().contains("basebackups"))
            .count()
    };
    wait("it has begun", || parts() > 0);
    // No second one writes the same objects.
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(parts(), 0, "{:?}", archive.objects());
    let running = archive
        .server
        .sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'howdah backup'");
    assert_eq!(running.unwrap(), "0");
    archive.unset("WALG_NETWORK_RATE_LIMIT");
    archive.create();
}

#[test]
fn retention_keeps_what_is_needed() {
    let archive = Archive::new(&[]);
    archive.start();
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(archive.create());
        archive.switch();
    }
    let dry = archive.good(&["backup", "apply-retention", "--keep", "2", "--dry-run"]);
    assert!(
        dry.contains("would go") && archive.good(&["backup", "list"]).contains(&names[0]),
        "{dry}"
    );
    let refused = archive.howdah(&[
        "backup",
        "apply-retention",
        "--keep",
        "2",
        "--at-least-verified",
        "1",
    ]);
    assert_eq!(refused.code, 2, "{refused:?}");
    archive.good(&["backup", "apply-retention", "--keep", "2"]);
    let list = archive.good(&["backup", "list"]);
    assert!(
        !list.contains(&names[1]) && list.contains(&names[2]) && list.contains(&names[3]),
        "{list}"
    );
    archive.good(&[
        "backup",
        "restore",
        "restored",
        "--env-dir",
        "env",
        "--backup",
        &names[2],
    ]);
    archive.recovered("restored");
    // By WAL-G's command line, as Spilo's script calls it.
    let said = archive.run(
        "envdir",
        &[
            "env",
            "./wal-g",
            "delete",
            "before",
            "FIND_FULL",
            &names[3],
            "--confirm",
        ],
    );
    assert_eq!(said.code, 0, "{said:?}");
    let said = archive.run("wal-g", &["backup-list"]);
    assert!(said.out.starts_with("backup_name"), "{said:?}");
    assert_eq!(said.out.lines().count(), 2, "{said:?}");
    let only = archive.howdah(&["backup", "delete", &names[3]]);
    assert!(only.err.contains("the only complete backup"), "{only:?}");
    let fetched = archive.run("wal-g", &["backup-fetch", "fetched", "LATEST"]);
    assert_eq!(fetched.code, 0, "{fetched:?}");
    assert!(
        archive.path("fetched/global/pg_control").exists()
            && !archive.path("fetched/recovery.signal").exists()
    );
}

/// What stands between a client and a store.
#[derive(Clone, Copy, Debug)]
enum Between {
    /// Nothing.
    Open,
    /// Connections are closed as soon as they are there.
    Closed,
    /// 503 for every request.
    Busy,
    /// No answer.
    Silent,
    /// Answers end after so many bytes.
    Torn(usize),
}

/// A port before another one, on a thread of its own.
fn between(target: u16) -> (u16, tokio::sync::watch::Sender<Between>) {
    let port = free_port().unwrap();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (set, mode) = tokio::sync::watch::channel(Between::Open);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, mode.clone()));
            }
        });
    });
    (port, set)
}

async fn carry(
    mut client: tokio::net::TcpStream,
    target: u16,
    mut mode: tokio::sync::watch::Receiver<Between>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let now = *mode.borrow_and_update();
    let mut buffer = vec![0; 65_536];
    match now {
        Between::Closed => {}
        Between::Silent => {
            let _ = mode.changed().await;
        }
        Between::Busy => {
            let _ = client.read(&mut buffer).await;
            let answer = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = client.write_all(answer.as_bytes()).await;
        }
        Between::Open | Between::Torn(_) => {
            let Ok(mut server) = tokio::net::TcpStream::connect(("127.0.0.1", target)).await else {
                return;
            };
            let mut left = if let Between::Torn(bytes) = now {
                bytes
            } else {
                usize::MAX
            };
            let mut back = vec![0; 65_536];
            loop {
                tokio::select! {
                    // A change ends what is open: a store that fails does not spare connections.
                    _ = mode.changed() => return,
                    sent = client.read(&mut buffer) => match sent {
                        Ok(count @ 1..) => if server.write_all(&buffer[..count]).await.is_err() { return },
                        _ => return,
                    },
                    got = server.read(&mut back) => match got {
                        Ok(count @ 1..) => {
                            let count = count.min(left);
                            left -= count;
                            if client.write_all(&back[..count]).await.is_err() || left == 0 { return }
                        }
                        _ => return,
                    },
                }
            }
        }
    }
}

#[tokio::test]
async fn a_bucket_that_fails_in_every_way() {
    let dir = tempfile::tempdir().unwrap();
    let Some(s3) = S3::start(dir.path()).await.unwrap() else {
        println!("skipped: HOWDAH_WEED names no SeaweedFS");
        return;
    };
    let (port, mode) = between(s3.port);
    let mut archive = Archive::in_bucket(port, "s3://archive/spilo/acid-a/uid/wal/15");
    let segment = segments(&archive.server.data).remove(0);
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let missing = "0000000100000000000000AA";
    let code = |archive: &Archive, args: &[&str]| archive.howdah(args).code;
    let push = ["wal", "push", segment.to_str().unwrap()];

    // No bucket.
    assert_eq!(code(&archive, &push), 77);
    assert_eq!(code(&archive, &["wal", "get", missing, "x"]), 255);
    let said = archive.howdah(&["backup", "list"]);
    assert!(said.err.contains("does not exist: check the name"), "{said:?}");
    s3.bucket("archive").await.unwrap();
    // Nothing in it.
    assert_eq!(code(&archive, &["wal", "get", missing, "x"]), 255);
    assert_eq!(code(&archive, &push), 0);
    assert_eq!(code(&archive, &push), 0);
    assert_eq!(code(&archive, &["wal", "get", missing, "x"]), 74);
    assert_eq!(code(&archive, &["wal", "get", &name, "x"]), 0);
    assert_eq!(fs::read(archive.path("x")).unwrap(), fs::read(&segment).unwrap());
    fs::remove_file(archive.path("x")).unwrap();

    // Another secret.
    archive.set("AWS_SECRET_ACCESS_KEY", "wrong");
    assert_eq!(code(&archive, &push), 77);
    let said = archive.howdah(&["wal", "get", missing, "x"]);
    assert_eq!(said.code, 255);
    assert!(
        said.err.contains("refuses the credentials") && !said.err.contains("wrong\""),
        "{said:?}"
    );
    archive.set("AWS_SECRET_ACCESS_KEY", S3_KEYS.1);

    for fault in [
        Between::Closed,
        Between::Busy,
        Between::Silent,
        Between::Torn(120),
        Between::Torn(700),
    ] {
        mode.send(fault).unwrap();
        let began = howdah_clock::now();
        assert_eq!(code(&archive, &["wal", "get", &name, "x"]), 255, "{fault:?}");
        // The answer that it is missing is shorter than the longer one of these.
        if !matches!(fault, Between::Torn(700)) {
            assert_eq!(code(&archive, &["wal", "get", missing, "x"]), 255, "{fault:?}");
            assert_eq!(code(&archive, &push), 75, "{fault:?}");
        }
        let taken = howdah_clock::now().since(began);
        assert!(taken < Duration::from_secs(25), "{fault:?}: {taken:?}");
        assert!(!archive.path("x").exists());
    }
    mode.send(Between::Open).unwrap();
    assert_eq!(code(&archive, &["wal", "get", &name, "x"]), 0);
}

#[tokio::test]
async fn a_backup_in_a_bucket_and_an_outage_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let Some(s3) = S3::start(dir.path()).await.unwrap() else {
        println!("skipped: HOWDAH_WEED names no SeaweedFS");
        return;
    };
    s3.bucket("archive").await.unwrap();
    let (port, mode) = between(s3.port);
    let archive = Archive::in_bucket(port, "s3://archive/a/wal/15");
    archive.start();
    let sql = |query: &str| archive.server.sql(query).unwrap();
    // Large enough for several archives of several pieces.
    sql(
        "CREATE TABLE a AS SELECT g AS id, md5(g::text) || md5((-g)::text) AS text FROM generate_series(1, 1500000) g",
    );
    let name = archive.create();
    mode.send(Between::Busy).unwrap();
    sql("CREATE TABLE later AS SELECT generate_series(1, 200000) AS id");
    sql("SELECT pg_switch_wal()");
    until("archiving fails", Duration::from_secs(60), async || {
        sql("SELECT failed_count > 0 FROM pg_stat_archiver") == "t"
    })
    .await
    .unwrap();
    mode.send(Between::Open).unwrap();
    archive.switch();
    assert_eq!(archive.howdah(&["backup", "gaps"]).code, 0);
    archive.good(&["backup", "verify", "--wal"]);
    archive.good(&["backup", "restore", "restored", "--env-dir", "env"]);
    let restored = archive.recovered("restored");
    assert_eq!(
        restored
            .sql("SELECT count(*), count(DISTINCT text) FROM a")
            .unwrap(),
        "1500000|1500000"
    );
    assert_eq!(restored.sql("SELECT count(*) FROM later").unwrap(), "200000");
    let shown: serde_json::Value =
        serde_json::from_str(&archive.good(&["backup", "show", &name, "-o", "json"])).unwrap();
    assert_eq!(shown["state"], "verified", "{shown}");
}
