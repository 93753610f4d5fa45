//! Programs that are run in a pod: `kubectl exec`.

use std::{
    collections::BTreeMap,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use howdah_clock::now;
use howdah_http::timeout_at;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Child,
    sync::mpsc,
};

use super::{
    chunks::PIECE,
    stream::{Outgoing, Stream},
    terminal::{Terminal, open_terminal},
};
use crate::node::Surroundings;

/// A client opens all its streams in this time.
const OPEN: Duration = Duration::from_secs(10);
/// After the end of a program its children may hold its output open; it is read for this long.
const DRAIN: Duration = Duration::from_secs(1);

/// Gives a program a terminal of its own. It comes with Debian's essential package util-linux.
const SETSID: &str = "/usr/bin/setsid";

/// A program, and which of its streams the client wants.
pub(crate) struct Exec {
    /// The command line.
    pub(crate) line: Vec<String>,
    pub(crate) surroundings: Surroundings,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// The streams of a running program.
struct Streams {
    status: Outgoing,
    stdin: Option<mpsc::Receiver<Bytes>>,
    stdout: Option<Outgoing>,
    stderr: Option<Outgoing>,
    sizes: Option<mpsc::Receiver<Bytes>>,
}

/// Kills what was started if the client leaves before its end.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may just have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Exec {
    /// Channel numbers as Kubernetes gives them.
    pub(super) fn channels(&self) -> Vec<(u8, String)> {
        let all = ["stdin", "stdout", "stderr", "error", "resize"];
        (0..).zip(all.map(str::to_owned)).collect()
    }

    /// The kinds of streams that must be there before the program starts.
    fn wanted(&self) -> Vec<&'static str> {
        [
            ("error", true),
            ("stdin", self.stdin),
            ("stdout", self.stdout),
            ("stderr", self.stderr && !self.tty),
            ("resize", self.tty),
        ]
        .into_iter()
        .filter_map(|(kind, is_wanted)| is_wanted.then_some(kind))
        .collect()
    }

    pub(super) async fn run(self, streams: mpsc::Receiver<Stream>) {
        let Some(streams) = self.collect(streams).await else {
            tracing::debug!("a client that asked for a program did not open its streams");
            return;
        };
        let (status, stdout, stderr) = (
            streams.status.clone(),
            streams.stdout.clone(),
            streams.stderr.clone(),
        );
        let told = match self.execute(streams).await {
            Ok(ended) => status_of(ended),
            Err(message) => failure("InternalError", &message, &[]),
        };
        for outgoing in [stdout, stderr].into_iter().flatten() {
            outgoing.end().await;
        }
        status.send(Bytes::from(told.to_string())).await;
        status.end().await;
    }

    async fn collect(&self, mut opened: mpsc::Receiver<Stream>) -> Option<Streams> {
        let wanted = self.wanted();
        let mut all: BTreeMap<String, Stream> = BTreeMap::new();
        let complete = async {
            while !wanted.iter().all(|kind| all.contains_key(*kind)) {
                let stream = opened.recv().await?;
                // A WebSocket client knows by a first message, even an empty one, that the session has begun.
                if stream.kind == "stdout" && !stream.outgoing.send(Bytes::new()).await {
                    return None;
                }
                all.insert(stream.kind.clone(), stream);
            }
            Some(())
        };
        timeout_at(now() + OPEN, complete).await.ok()??;
        let mut take = |kind: &str| wanted.contains(&kind).then(|| all.remove(kind)).flatten();
        Some(Streams {
            status: take("error")?.outgoing,
            stdin: take("stdin").map(|stream| stream.incoming),
            stdout: take("stdout").map(|stream| stream.outgoing),
            stderr: take("stderr").map(|stream| stream.outgoing),
            sizes: take("resize").map(|stream| stream.incoming),
        })
    }

    async fn execute(self, streams: Streams) -> Result<ExitStatus, String> {
        if self.tty {
            self.in_terminal(streams).await
        } else {
            self.with_pipes(streams).await
        }
    }

    async fn with_pipes(self, streams: Streams) -> Result<ExitStatus, String> {
        let Some((program, args)) = self.line.split_first() else {
            return Err("no command".into());
        };
        let pipe = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        let mut command = self.surroundings.command(program);
        command
            .args(args)
            .stdin(pipe(streams.stdin.is_some()))
            .stdout(pipe(streams.stdout.is_some()))
            .stderr(pipe(streams.stderr.is_some()))
            .process_group(0);
        let mut child = start(command).map_err(|error| format!("{program}: {error}"))?;
        let mut group = Group(pid(&child));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let outputs = async {
            tokio::join!(pump(stdout, streams.stdout), pump(stderr, streams.stderr));
        };
        let stdin = child.stdin.take();
        let input = async {
            if let (Some(mut stdin), Some(mut typed)) = (stdin, streams.stdin) {
                while let Some(bytes) = typed.recv().await {
                    if stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err() {
                        // The program reads no further; the rest is taken and dropped.
                        break;
                    }
                }
                drop(stdin);
                while typed.recv().await.is_some() {}
            }
        };
        let ended = wait(&mut child, input, outputs).await;
        group.0 = None;
        ended.map_err(|error| format!("{program}: {error}"))
    }

    async fn in_terminal(self, streams: Streams) -> Result<ExitStatus, String> {
        let shown = |error: io::Error| format!("no terminal: {error}");
        let (terminal, theirs) = open_terminal(self.surroundings.owner).map_err(shown)?;
        let mut command = self.surroundings.command(SETSID);
        if !self.surroundings.env.iter().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm");
        }
        command
            .args(["--ctty", "--"])
            .args(&self.line)
            .stdin(Stdio::from(theirs.try_clone().map_err(shown)?))
            .stdout(Stdio::from(theirs.try_clone().map_err(shown)?))
            .stderr(Stdio::from(theirs));
        // The first size comes before the program asks for it, if the client sends one.
        let mut sizes = streams.sizes;
        if let Some(sizes) = &mut sizes
            && let Ok(Some(size)) = timeout_at(now() + Duration::from_millis(100), sizes.recv()).await
        {
            resize(&terminal, &size);
        }
        let mut child = start(command).map_err(|error| format!("{SETSID}: {error}"))?;
        // setsid makes the program the leader of a group with its own number.
        let mut group = Group(pid(&child));
        let output = async {
            let Some(outgoing) = streams.stdout else {
                return;
            };
            loop {
                let mut piece = BytesMut::zeroed(PIECE);
                let length = terminal.read(&mut piece).await;
                piece.truncate(length);
                if length == 0 || !outgoing.send(piece.freeze()).await {
                    return;
                }
            }
        };
        let input = async {
            let typed = async {
                if let Some(mut typed) = streams.stdin {
                    while let Some(bytes) = typed.recv().await {
                        if !terminal.write(&bytes).await {
                            return;
                        }
                    }
                }
            };
            let resized = async {
                if let Some(mut sizes) = sizes {
                    while let Some(size) = sizes.recv().await {
                        resize(&terminal, &size);
                    }
                }
            };
            tokio::join!(typed, resized);
        };
        let ended = wait(&mut child, input, output).await;
        group.0 = None;
        ended.map_err(|error| format!("{SETSID}: {error}"))
    }
}

fn start(command: Command) -> io::Result<Child> {
    tokio::process::Command::from(command).kill_on_drop(true).spawn()
}

fn pid(child: &Child) -> Option<Pid> {
    child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw)
}

/// Waits for the end of the program, then a moment for the rest of its output.
async fn wait(
    child: &mut Child,
    input: impl Future<Output = ()>,
    outputs: impl Future<Output = ()>,
) -> io::Result<ExitStatus> {
    let (mut input, mut outputs) = (std::pin::pin!(input), std::pin::pin!(outputs));
    let (mut has_input, mut has_output) = (true, true);
    let ended = loop {
        tokio::select! {
            biased;
            ended = child.wait() => break ended,
            () = &mut outputs, if has_output => has_output = false,
            () = &mut input, if has_input => has_input = false,
        }
    };
    if has_output {
        // A child in the background may keep it open; it goes on without a reader.
        let _ = timeout_at(now() + DRAIN, outputs).await;
    }
    ended
}

async fn pump(from: Option<impl AsyncRead + Unpin>, to: Option<Outgoing>) {
    let (Some(mut from), Some(to)) = (from, to) else {
        return;
    };
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        match from.read_buf(&mut piece).await {
            Ok(length) if length > 0 => {
                if !to.send(piece.freeze()).await {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// `{"Width": 80, "Height": 24}`
fn resize(terminal: &Terminal, size: &[u8]) {
    let Ok(size) = serde_json::from_slice::<Value>(size) else {
        return;
    };
    let number = |key: &str| size[key].as_u64().and_then(|number| u16::try_from(number).ok());
    if let (Some(columns), Some(rows)) = (number("Width"), number("Height")) {
        terminal.resize(columns, rows);
    }
}

/// How the program ended, as clients read it.
fn status_of(ended: ExitStatus) -> Value {
    let code = ended
        .code()
        .unwrap_or_else(|| 128 + ended.signal().unwrap_or_default());
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    failure(
        "NonZeroExitCode",
        &format!("command terminated with non-zero exit code: exit status {code}"),
        &[("ExitCode", &code.to_string())],
    )
}

fn failure(reason: &str, message: &str, causes: &[(&str, &str)]) -> Value {
    let causes: Vec<Value> = causes
        .iter()
        .map(|(reason, message)| json!({"reason": reason, "message": message}))
        .collect();
    json!({
        "metadata": {}, "status": "Failure", "reason": reason, "message": message, "code": 500,
        "details": {"causes": causes},
    })
}
