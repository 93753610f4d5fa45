use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::lab::{free_port, until};

/// A real S3 server (SeaweedFS) on this machine; `HOWDAH_WEED` names its program.
pub struct S3 {
    child: Child,
    master: u16,
    program: PathBuf,
    /// Where it answers.
    pub port: u16,
}

/// The access key and its secret.
pub const S3_KEYS: (&str, &str) = ("key", "secret-of-the-test");

impl S3 {
    /// Starts one with its data below `dir` and waits until it answers; `None` where there is none.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(dir: &Path) -> anyhow::Result<Option<Self>> {
        let Some(program) = std::env::var_os("HOWDAH_WEED").map(PathBuf::from) else {
            return Ok(None);
        };
        let dir = dir.join("s3");
        fs::create_dir_all(&dir)?;
        let config = dir.join("s3.json");
        let (key, secret) = S3_KEYS;
        fs::write(
            &config,
            format!(
                r#"{{"identities":[{{"name":"a","credentials":[{{"accessKey":"{key}","secretKey":"{secret}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
            ),
        )?;
        // Their gRPC ports are 10 000 above.
        let mut ports = Vec::new();
        while ports.len() < 4 {
            let port = free_port()?;
            if port < 50_000 && std::net::TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
                ports.push(port);
            }
        }
        let [master, volume, filer, port] = ports[..] else {
            anyhow::bail!("no ports");
        };
        let log = fs::File::create(dir.join("log"))?;
        let child = Command::new(&program)
            .args([
                "-logtostderr=true",
                "server",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
            ])
            .arg(format!("-dir={}", dir.display()))
            .args([
                "-master.telemetry=false",
                "-volume.max=50",
                "-volume.preStopSeconds=1",
            ])
            .args([
                "-master.volumeSizeLimitMB=128",
                "-filer",
                "-s3",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
            ])
            .arg(format!("-master.port={master}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-s3.port={port}"))
            .arg(format!("-s3.config={}", config.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting SeaweedFS")?;
        let s3 = S3 {
            child,
            master,
            program,
            port,
        };
        until("the S3 server answers", Duration::from_secs(60), async || {
            let url = format!("http://127.0.0.1:{port}/");
            let answered = Command::new("curl")
                .args(["-s", "-o", "/dev/null", &url])
                .status();
            answered.is_ok_and(|status| status.success())
        })
        .await?;
        Ok(Some(s3))
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// It is refused.
    pub async fn bucket(&self, name: &str) -> anyhow::Result<()> {
        let made = until("a bucket is made", Duration::from_secs(30), async || {
            self.shell(&format!("s3.bucket.create -name {name}")).is_ok()
        });
        made.await
    }

    fn shell(&self, line: &str) -> anyhow::Result<()> {
        let mut shell = Command::new(&self.program)
            .args(["shell", "-master", &format!("127.0.0.1:{}", self.master)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = shell.stdin.take().context("no input")?;
        input.write_all(format!("{line}\nexit\n").as_bytes())?;
        drop(input);
        let output = shell.wait_with_output()?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(said.contains("create bucket"), "{said}");
        Ok(())
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
