use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, ensure};

use crate::lab::{free_port, unprivileged};

/// A PostgreSQL without an agent, on a socket in its directory's parent.
pub struct Plain {
    /// Its data directory.
    pub data: PathBuf,
    port: u16,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
}

/// The directory of programs of the newest PostgreSQL here, or the one that `HOWDAH_PG_BIN` names.
fn programs() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("HOWDAH_PG_BIN") {
        return Ok(PathBuf::from(dir));
    }
    let mut majors: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")?
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|path| path.join("initdb").exists())
        .collect();
    majors.sort();
    majors.pop().context("PostgreSQL is not installed")
}

impl Plain {
    /// Makes one below `dir`, with checksums and further arguments for initdb.
    ///
    /// # Errors
    /// initdb fails.
    pub fn init(dir: &Path, name: &str, more: &[&str]) -> anyhow::Result<Self> {
        let server = Plain::at(dir, name)?;
        let mut args = vec![
            "--pgdata",
            name,
            "-k",
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
        ];
        args.extend(more);
        server.run("initdb", &args)?;
        Ok(server)
    }

    /// One whose data directory somebody else makes.
    ///
    /// # Errors
    /// PostgreSQL is not installed.
    pub fn at(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let owner = unprivileged()?;
        if let Some((uid, gid)) = owner {
            chown(dir, Some(uid), Some(gid))?;
        }
        Ok(Plain {
            data: dir.join(name),
            port: free_port()?,
            programs: programs()?,
            owner,
        })
    }

    /// The directory that it lies in.
    fn dir(&self) -> &Path {
        self.data.parent().unwrap_or(Path::new("/"))
    }

    /// A command as the owner of the data.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir());
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<Output> {
        let output = self.command(self.programs.join(program)).args(args).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "{program} {args:?}: {said}{}",
            self.log()
        );
        Ok(output)
    }

    /// Adds lines to postgresql.auto.conf, which is read last.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, lines: &str) -> anyhow::Result<()> {
        let path = self.data.join("postgresql.auto.conf");
        let before = fs::read_to_string(&path).unwrap_or_default();
        Ok(fs::write(path, format!("{before}\n{lines}\n"))?)
    }

    /// Starts it and waits until it takes connections.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self) -> anyhow::Result<()> {
        let options = format!(
            "-c port={} -c unix_socket_directories='{}' -c listen_addresses= -c fsync=off",
            self.port,
            self.dir().display()
        );
        let log = self.data.with_extension("log");
        let (data, log) = (self.data.display().to_string(), log.display().to_string());
        let output = self
            .command(self.programs.join("pg_ctl"))
            .args(["-D", &data, "-l", &log, "-t", "60", "-w", "-o", &options, "start"])
            .stdout(std::process::Stdio::null())
            .status()?;
        ensure!(output.success(), "pg_ctl start: {}", self.log());
        Ok(())
    }

    /// Stops it.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(&self, mode: &str) -> anyhow::Result<()> {
        let data = self.data.display().to_string();
        self.run("pg_ctl", &["-D", &data, "-m", mode, "-w", "stop"])
            .map(drop)
    }

    /// Promotes a replica and waits.
    ///
    /// # Errors
    /// It does not promote.
    pub fn promote(&self) -> anyhow::Result<()> {
        let data = self.data.display().to_string();
        self.run("pg_ctl", &["-D", &data, "-w", "promote"]).map(drop)
    }

    /// What a query says, without headers.
    ///
    /// # Errors
    /// It fails.
    pub fn sql(&self, query: &str) -> anyhow::Result<String> {
        let (host, port) = (self.dir().display().to_string(), self.port.to_string());
        let args = [
            "-h",
            &host,
            "-p",
            &port,
            "-U",
            "postgres",
            "-X",
            "-qAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            query,
        ];
        let output = self.run("psql", &args)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A program of PostgreSQL that looks at the data directory.
    ///
    /// # Errors
    /// It fails.
    pub fn check(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let output = self.run(program, args)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if self.data.join("postmaster.pid").exists() {
            let _ = self.stop("immediate");
        }
    }
}
