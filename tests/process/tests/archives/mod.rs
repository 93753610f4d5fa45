//! A server and an archive for it, for tests.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use howdah_testkit::{Plain, S3_KEYS, howdah_binary};

/// A directory with a binary, a server and the variables of an archive.
pub struct Archive {
    pub dir: tempfile::TempDir,
    pub server: Plain,
    pub variables: BTreeMap<String, String>,
}

/// What a command has said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Archive {
    /// An archive in a directory.
    pub fn new(more: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("howdah-archive")
            .tempdir_in("/tmp")
            .unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let binary = dir.path().join("howdah");
        fs::copy(howdah_binary().unwrap(), &binary).unwrap();
        for name in ["wal-g", "envdir"] {
            symlink(&binary, dir.path().join(name)).unwrap();
        }
        let server = Plain::init(dir.path(), "data", more).unwrap();
        let bucket = dir.path().join("bucket");
        said(server.command("mkdir").arg(&bucket));
        let mut archive = Archive {
            dir,
            server,
            variables: BTreeMap::new(),
        };
        archive.set("WALG_FILE_PREFIX", bucket.to_str().unwrap());
        archive
    }

    /// An archive in a bucket, at this port; `None` where there is no S3 server.
    pub fn in_bucket(port: u16, prefix: &str) -> Self {
        let mut archive = Archive::new(&[]);
        archive.unset("WALG_FILE_PREFIX");
        archive.set("WALG_S3_PREFIX", prefix);
        archive.set("AWS_ENDPOINT", &format!("http://127.0.0.1:{port}"));
        archive.set("AWS_REGION", "us-east-1");
        archive.set("AWS_ACCESS_KEY_ID", S3_KEYS.0);
        archive.set("AWS_SECRET_ACCESS_KEY", S3_KEYS.1);
        archive.set("HOWDAH_ARCHIVE_TIMEOUT", "4");
        archive.set("HOWDAH_RESTORE_TIMEOUT", "3");
        archive
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn env(&self) -> PathBuf {
        self.path("env")
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
        fs::create_dir_all(self.env()).unwrap();
        fs::write(self.env().join(name), format!("{value}\n")).unwrap();
    }

    pub fn unset(&mut self, name: &str) {
        self.variables.remove(name);
        fs::remove_file(self.env().join(name)).unwrap();
    }

    /// Runs a command with the variables, as the owner of the data.
    pub fn run(&self, program: &str, args: &[&str]) -> Said {
        let mut command = self.server.command(self.path(program));
        said(
            command
                .args(args)
                .env_clear()
                .env("PATH", path())
                .envs(&self.variables),
        )
    }

    pub fn howdah(&self, args: &[&str]) -> Said {
        self.run("howdah", args)
    }

    pub fn good(&self, args: &[&str]) -> String {
        let said = self.howdah(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.out
    }

    /// Starts the server, which archives.
    pub fn start(&self) {
        let command = format!(
            "archive_mode = on\narchive_command = '{} wal push --env-dir {} %p'\nwal_level = replica",
            self.path("howdah").display(),
            self.env().display()
        );
        self.server.set(&command).unwrap();
        self.server.start().unwrap();
    }

    pub fn create(&self) -> String {
        let out = self.good(&[
            "backup",
            "create",
            "-D",
            "data",
            "-o",
            "json",
            "--wait-wal",
            "60s",
        ]);
        let made: serde_json::Value = serde_json::from_str(&out).unwrap();
        made["backup_name"].as_str().unwrap().to_owned()
    }

    /// Ends the current segment and waits until it is archived.
    pub fn switch(&self) {
        // Without WAL there is nothing to switch, and the name would be that of a segment to come.
        self.server
            .sql("SELECT pg_create_restore_point('switch')")
            .unwrap();
        let name = self
            .server
            .sql("SELECT pg_walfile_name(pg_switch_wal())")
            .unwrap();
        let archived = || {
            self.server
                .sql("SELECT last_archived_wal FROM pg_stat_archiver")
                .unwrap()
                >= name
        };
        wait("the segment is archived", archived);
    }

    /// Starts what was restored and waits until it has recovered.
    pub fn recovered(&self, name: &str) -> Plain {
        let restored = Plain::at(self.dir.path(), name).unwrap();
        restored.start().unwrap();
        wait("it has recovered", || {
            restored
                .sql("SELECT pg_is_in_recovery()")
                .is_ok_and(|is| is == "f")
        });
        restored
    }

    pub fn objects(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path("bucket")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    found.push(entry.path());
                }
            }
        }
        found
    }
}

/// Where programs are; PostgreSQL's too, where another one than the machine's is tested.
fn path() -> String {
    let own = std::env::var("HOWDAH_PG_BIN").unwrap_or_default();
    format!("/usr/bin:/bin:{own}")
}

pub fn said(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = howdah_clock::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(howdah_clock::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Some segments of WAL, the oldest first.
pub fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("pg_wal")).unwrap().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().unwrap().len() == 24)
        .collect();
    found.sort();
    found
}
