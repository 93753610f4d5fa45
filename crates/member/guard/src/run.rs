//! The guard's loop: waits for messages, signals and deadlines, and carries out what the core orders.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use howdah_clock::now;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair},
    process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, wait},
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime},
};

use crate::{
    Core, Input, MAX_MESSAGE, Message, Order, Reply, Request, StartMode, StopMode, WhyRefused,
    device::Device,
    log::say,
    output,
    protocol::{HEAD, number},
    sys::{self, Child, Room},
    tree::{DirId, ProcessTable},
};

/// Tells the agent which descriptor leads to the guard.
pub const GUARD_FD_ENV: &str = "HOWDAH_GUARD_FD";

/// An agent that is silent for this long is killed, and another one is started; near the end of a lease, two fifths of it.
const HANG_AFTER: Duration = Duration::from_secs(5);

/// Arguments of a PostgreSQL command line at the most.
const MAX_ARGS: usize = 256;

/// Becomes the guard: starts `program` with `args` as the agent, and returns the exit code when both have ended.
///
/// # Errors
/// The system refuses what a guard needs; nothing was started then.
pub fn run(program: &CStr, args: &[CString]) -> io::Result<u8> {
    output::never_block();
    let mut guard = Guard::new(program, args)?;
    guard.serve()
}

struct Guard<'a> {
    core: Core,
    signals: OwnedFd,
    timer: OwnedFd,
    processes: ProcessTable,
    program: &'a CStr,
    args: &'a [CString],
    /// The environments of the two children, and room to point at them when they are started.
    agent_env: Vec<CString>,
    postgres_env: Vec<CString>,
    argv: Room,
    envp: Room,
    message: Box<[u8; MAX_MESSAGE]>,
    length: usize,
    request_id: u32,
    agent: Option<(Pid, OwnedFd)>,
    postmaster: Option<(Pid, OwnedFd)>,
    /// The data directory of the running PostgreSQL: its descriptor and identity.
    data: Option<(OwnedFd, DirId)>,
    fenced: bool,
    status: i32,
    exit: Option<u8>,
    device: Device,
}

impl<'a> Guard<'a> {
    fn new(program: &'a CStr, args: &'a [CString]) -> io::Result<Self> {
        let signals = sys::signal_descriptor()?;
        let timer = timerfd_create(
            TimerfdClockId::Boottime,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        // Orphans of PostgreSQL and of the agent come to us and not to init.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;

        let mut agent_env = environment(|name| name != GUARD_FD_ENV.as_bytes());
        agent_env.push(CString::new(format!("{GUARD_FD_ENV}=3")).unwrap_or_default());
        let postgres_env = environment(|name| {
            !name.starts_with(b"PATRONI_")
                && !name.starts_with(b"KUBERNETES_")
                && !name.starts_with(b"HOWDAH_")
                && name != b"NOTIFY_SOCKET"
        });
        Ok(Guard {
            core: Core::new(HANG_AFTER, now()),
            signals,
            timer,
            processes: ProcessTable::new()?,
            program,
            args,
            argv: Room::with_capacity(args.len().max(MAX_ARGS)),
            envp: Room::with_capacity(agent_env.len().max(postgres_env.len())),
            agent_env,
            postgres_env,
            message: Box::new([0; MAX_MESSAGE]),
            length: 0,
            request_id: 0,
            agent: None,
            postmaster: None,
            data: None,
            fenced: false,
            status: 0,
            exit: None,
            device: Device::none(),
        })
    }

    fn serve(&mut self) -> io::Result<u8> {
        loop {
            self.step(Input::Tick);
            if let Some(code) = self.exit {
                return Ok(code);
            }
            self.wait()?;
            while let Some(signal) = sys::next_signal(self.signals.as_fd()) {
                self.signal(signal);
            }
            self.reap();
            self.watch_postmaster();
            self.read_messages();
        }
    }

    /// Blocks until something happens or the core's next tick is due.
    fn wait(&self) -> io::Result<()> {
        let due = self.core.next_tick(now());
        // A timer that is set to zero is off; one in the past fires at once.
        let at = due.0.clamp(1, i64::MAX.unsigned_abs());
        let value = Timespec {
            tv_sec: i64::try_from(at / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(at % 1_000_000_000).unwrap_or(0),
        };
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let spec = Itimerspec {
            it_interval: zero,
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)?;

        let fallback = self.signals.as_fd();
        let mut fds = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.timer, PollFlags::IN),
            PollFd::from_borrowed_fd(
                self.agent.as_ref().map_or(fallback, |(_, s)| s.as_fd()),
                PollFlags::IN,
            ),
            PollFd::from_borrowed_fd(
                self.postmaster.as_ref().map_or(fallback, |(_, p)| p.as_fd()),
                PollFlags::IN,
            ),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut expirations = [0u8; 8];
        let _ = rustix::io::read(&self.timer, &mut expirations);
        Ok(())
    }

    fn step(&mut self, input: Input) {
        let orders = self.core.step(input, now());
        for order in orders.into_iter().flatten() {
            self.carry_out(order);
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Reply(reply) => self.reply(self.request_id, reply),
            Order::Start => self.start_postgres(),
            Order::Promote => self.promote(),
            Order::Stop(mode) => {
                if self.core.is_fencing() {
                    self.fenced = true;
                    say!("the lease is about to end: stopping PostgreSQL");
                }
                self.stop_postgres(mode);
            }
            Order::KillPostgres => {
                if self.core.is_fencing() && !self.fenced {
                    say!("the lease has ended: killing PostgreSQL");
                    self.fenced = true;
                }
                self.kill_postgres();
            }
            Order::KillAgent => {
                if let Some((pid, _)) = &self.agent {
                    say!(
                        "the agent does not answer, or was told to end twice: killing it (silence is borne for {}s, and for {}s \
                         near the end of a lease)",
                        HANG_AFTER.as_secs(),
                        (HANG_AFTER * 2 / 5).as_secs()
                    );
                    let _ = kill_process(*pid, Signal::KILL);
                }
            }
            Order::TerminateAgent => self.to_agent(Signal::TERM),
            Order::SpawnAgent => self.spawn_agent(),
            Order::Exit(code) => self.exit = Some(code),
            Order::OpenWatchdog { wanted, timeout } => {
                let input = match self.device.open(&wanted, timeout) {
                    Ok(opened) => {
                        if opened == timeout {
                            say!(
                                "the watchdog device is open: it resets the machine in {}s unless the lease is renewed",
                                opened.as_secs()
                            );
                        } else {
                            say!(
                                "the watchdog device cannot be set to {}s, only to {}s",
                                timeout.as_secs(),
                                opened.as_secs()
                            );
                        }
                        Input::WatchdogOpened {
                            timeout: opened,
                            stops: self.device.stops(),
                        }
                    }
                    Err(error) => {
                        // Most machines have none, and then nothing is said: `automatic` is the default.
                        if wanted.required || error.kind() != io::ErrorKind::NotFound {
                            say!("the watchdog device cannot be used: {error}");
                        }
                        Input::WatchdogFailed
                    }
                };
                self.step(input);
            }
            Order::FeedWatchdog { timeout } => {
                if let Some(timeout) = self.device.feed(timeout) {
                    self.step(Input::WatchdogFed { timeout });
                }
            }
            Order::CloseWatchdog => self.device.close(),
        }
    }

    fn reply(&mut self, id: u32, body: Reply) {
        if let Some((_, socket)) = &self.agent {
            let bytes = Message { id, body }.encode();
            // An agent that does not read is about to be replaced and will ask for the state.
            let _ = send(socket, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }

    fn spawn_agent(&mut self) {
        if self.agent.is_some() {
            return;
        }
        let pair = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        );
        let argv = self.argv.fill(self.args.iter().map(CString::as_c_str));
        let envp = self.envp.fill(self.agent_env.iter().map(CString::as_c_str));
        let started = pair.map_err(io::Error::from).and_then(|(ours, theirs)| {
            let (Some(argv), Some(envp)) = (argv, envp) else {
                return Err(io::Error::other("too many arguments"));
            };
            let child = Child {
                program: self.program,
                argv,
                envp,
                descriptor: Some(theirs.as_fd()),
                death_signal: 0,
            };
            Ok((sys::spawn(&child)?, ours))
        });
        match started {
            Ok(agent) => {
                self.agent = Some(agent);
                self.step(Input::AgentStarted);
            }
            Err(error) => {
                say!("cannot start the agent: {error}");
                // As if it had started and ended at once: the core waits before the next try.
                self.step(Input::AgentStarted);
                self.step(Input::AgentEnded);
            }
        }
    }

    fn read_messages(&mut self) {
        for _ in 0..64 {
            let Some((_, socket)) = &self.agent else { return };
            match recv(socket, &mut self.message[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(_) => return,
                Ok((length, _)) => self.length = length,
            }
            let decoded = Message::<Request>::decode(self.message.get(..self.length).unwrap_or_default());
            match decoded {
                Err(why) => {
                    let id = number(self.message.get(..self.length).unwrap_or_default());
                    self.reply(id, Reply::Refused(why));
                }
                Ok(Message { id, body }) => {
                    self.request_id = id;
                    self.take(body);
                }
            }
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Start(mode) => match self.open_data_dir() {
                Some(is_standby) if mode == StartMode::Replica && !is_standby => {
                    return self.reply(self.request_id, Reply::Refused(WhyRefused::NotAStandby));
                }
                Some(_) => {}
                None => return self.reply(self.request_id, Reply::Refused(WhyRefused::Malformed)),
            },
            Request::Adopt { pid, .. } => {
                let fd = i32::try_from(pid)
                    .ok()
                    .and_then(Pid::from_raw)
                    .and_then(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)));
                let known = self.postmaster.as_ref().map(|(known, _)| raw(*known));
                if known.is_none() {
                    if fd.is_none() || self.open_data_dir().is_none() {
                        return self.reply(self.request_id, Reply::Refused(WhyRefused::NotRunning));
                    }
                    self.postmaster = fd;
                } else if known != Some(pid) {
                    return self.reply(self.request_id, Reply::Refused(WhyRefused::Running));
                }
            }
            Request::Hello
            | Request::Alive
            | Request::Arm(_)
            | Request::Disarm { .. }
            | Request::Pause { .. }
            | Request::Lost { .. }
            | Request::Promote { .. }
            | Request::Stop(_)
            | Request::Exit { .. } => {}
            Request::Watchdog(wanted) => {
                let path = Self::texts(self.message.get(..self.length).unwrap_or_default()).next();
                let path = path.unwrap_or_default();
                // An agent that was restarted says what is known.
                if wanted == self.core.watchdog() && self.device.is(path) {
                    return self.reply(self.request_id, Reply::Ok { pid: 0 });
                }
                self.device.point_at(path);
            }
        }
        self.step(Input::Request(request));
    }

    /// The texts behind the head of the message in hand.
    fn texts(message: &[u8]) -> impl Iterator<Item = &CStr> {
        message
            .get(HEAD..)
            .unwrap_or_default()
            .split_inclusive(|byte| *byte == 0)
            .map_while(|text| CStr::from_bytes_with_nul(text).ok())
    }

    /// Opens the data directory that the message names; says whether it is a standby's.
    fn open_data_dir(&mut self) -> Option<bool> {
        let path = Self::texts(self.message.get(..self.length)?).next()?;
        let dir = rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        let id = DirId::of(path).ok()?;
        let standby = rustix::fs::statat(&dir, c"standby.signal", rustix::fs::AtFlags::empty()).is_ok();
        self.data = Some((dir, id));
        Some(standby)
    }

    fn start_postgres(&mut self) {
        self.fenced = false;
        let message = self.message.get(..self.length).unwrap_or_default();
        let program = Self::texts(message).nth(1);
        let argv = self.argv.fill(Self::texts(message).skip(1));
        let envp = self.envp.fill(self.postgres_env.iter().map(CString::as_c_str));
        let started = match (program, argv, envp) {
            (Some(program), Some(argv), Some(envp)) => sys::spawn(&Child {
                program,
                argv,
                envp,
                descriptor: None,
                death_signal: libc::SIGQUIT,
            }),
            _ => Err(io::Error::other("malformed command line")),
        };
        let watched = started.and_then(|pid| Ok((pid, pidfd_open(pid, PidfdFlags::empty())?)));
        match watched {
            Ok((pid, fd)) => {
                self.postmaster = Some((pid, fd));
                self.step(Input::Started {
                    pid: pid.as_raw_nonzero().get().unsigned_abs(),
                });
            }
            Err(error) => {
                say!("cannot start PostgreSQL: {error}");
                self.step(Input::NotStarted);
            }
        }
    }

    /// What `pg_ctl promote` does: a file, and a signal to the postmaster.
    fn promote(&mut self) {
        let (Some((dir, _)), Some((pid, _))) = (&self.data, &self.postmaster) else {
            return;
        };
        let file = rustix::fs::openat(
            dir,
            c"promote",
            OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        );
        if file.is_ok() {
            let _ = kill_process(*pid, Signal::USR1);
        } else {
            say!("cannot write the promote file in the data directory");
        }
    }

    fn stop_postgres(&self, mode: StopMode) {
        if let Some((pid, _)) = &self.postmaster {
            let signal = match mode {
                StopMode::Fast => Signal::INT,
                StopMode::Immediate => Signal::QUIT,
                StopMode::Kill => Signal::KILL,
            };
            let _ = kill_process(*pid, signal);
        }
    }

    fn kill_postgres(&mut self) {
        let postmaster = self.postmaster.as_ref().map(|(pid, _)| raw(*pid));
        let data = self.data.as_ref().map(|(_, id)| *id);
        let agent = self.agent.as_ref().map(|(pid, _)| raw(*pid));
        self.processes.kill_postgres(postmaster, data, agent);
    }

    fn signal(&mut self, signal: i32) {
        match signal {
            libc::SIGCHLD => {}
            libc::SIGUSR2 => {
                // Restart the agent from the binary that is installed now; PostgreSQL goes on.
                self.to_agent(Signal::USR2);
            }
            libc::SIGHUP => self.to_agent(Signal::HUP),
            _ => self.step(Input::Terminate),
        }
    }

    fn to_agent(&self, signal: Signal) {
        if let Some((pid, _)) = &self.agent {
            let _ = kill_process(*pid, signal);
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if self.agent.as_ref().is_some_and(|(agent, _)| *agent == pid) {
                // What it had sent before its end still counts.
                self.read_messages();
                self.agent = None;
                self.step(Input::AgentEnded);
                self.end_agents_children();
            }
            if self
                .postmaster
                .as_ref()
                .is_some_and(|(postmaster, _)| *postmaster == pid)
            {
                self.status = status.as_raw();
            }
        }
    }

    /// A base backup or a pg_rewind of the agent that has died must not go on beside that of the next one.
    fn end_agents_children(&mut self) {
        let me = raw(rustix::process::getpid());
        let postmaster = self.postmaster.as_ref().map(|(pid, _)| raw(*pid));
        for _ in 0..100 {
            if self.processes.kill_descendants(me, &[postmaster]) == 0 {
                return;
            }
        }
    }

    /// When the postmaster has ended, kills what is left of it and then says so.
    fn watch_postmaster(&mut self) {
        let Some((_, fd)) = &self.postmaster else { return };
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        if !poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .is_ok_and(|ready| ready > 0)
        {
            return;
        }
        let data = self.data.as_ref().map(|(_, id)| *id);
        let agent = self.agent.as_ref().map(|(pid, _)| raw(*pid));
        for _ in 0..1000 {
            if self.processes.kill_postgres(None, data, agent) == 0 {
                break;
            }
            self.reap();
        }
        self.postmaster = None;
        self.step(Input::PostgresEnded);
        let (status, fenced) = (self.status, self.fenced);
        self.reply(0, Reply::PostgresEnded { status, fenced });
        self.fenced = false;
    }
}

fn raw(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// The guard's environment, as far as `keep` wants it, with Patroni's one renaming.
fn environment(keep: impl Fn(&[u8]) -> bool) -> Vec<CString> {
    use std::os::unix::ffi::OsStrExt;
    std::env::vars_os()
        .filter(|(name, _)| keep(name.as_bytes()))
        .filter_map(|(name, value)| {
            let name = match name.as_bytes() {
                b"PG_MALLOC_ARENA_MAX" => b"MALLOC_ARENA_MAX",
                other => other,
            };
            CString::new([name, b"=", value.as_bytes()].concat()).ok()
        })
        .collect()
}
