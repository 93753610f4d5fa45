//! What agent and guard say to each other: one fixed-size head per message, little endian, with a version, because
//! after an upgrade a new agent talks to an old guard.

use std::time::Duration;

use howdah_types::{Arm, BootTime};
use thiserror::Error;

/// The version of the messages. A guard answers [`WhyRefused::Version`] to any other.
pub const VERSION: u8 = 1;

/// The longest message: a start request carries PostgreSQL's whole command line.
pub const MAX_MESSAGE: usize = 32 * 1024;

/// How PostgreSQL is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartMode {
    /// In recovery; the guard checks that `standby.signal` exists.
    Replica,
    /// As primary, under this leadership and not after `not_after`.
    Primary {
        /// Must be the armed one.
        term: u64,
        /// Later it is refused.
        not_after: BootTime,
    },
    /// As the first primary of a cluster that does not exist yet. Must be armed by `not_after`.
    Bootstrap {
        /// Ended if no lease was armed by then.
        not_after: BootTime,
    },
}

/// What the agent asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// The first message of an agent's life; answered by [`Reply::State`].
    Hello,
    /// The agent's main loop is alive.
    Alive,
    /// The lease was renewed.
    Arm(Arm),
    /// The leadership was given back; refused while PostgreSQL may write.
    Disarm {
        /// Which.
        term: u64,
    },
    /// Maintenance mode: PostgreSQL goes on without a lease that is watched.
    Pause {
        /// The leadership at that time.
        term: u64,
    },
    /// The store said that another member leads, or none.
    Lost {
        /// Which leadership is over.
        term: u64,
    },
    /// Start PostgreSQL; the command line follows the head.
    Start(StartMode),
    /// Promote PostgreSQL.
    Promote {
        /// Must be the armed one.
        term: u64,
        /// Later it is refused.
        not_after: BootTime,
    },
    /// Stop PostgreSQL.
    Stop(crate::StopMode),
    /// Watch a PostgreSQL that was running before.
    Adopt {
        /// Its postmaster.
        pid: u32,
        /// It is a primary.
        may_write: bool,
        /// A primary is ended if no lease was armed by then.
        not_after: BootTime,
    },
    /// The agent is about to end for good.
    Exit {
        /// The exit code for the guard.
        code: u8,
    },
    /// How the machine's watchdog device is used from now on; its path follows the head. `None`: not at all.
    Watchdog(Option<crate::Watchdog>),
}

/// Why the guard does not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum WhyRefused {
    /// The message has another version.
    #[error("the message is of another version")]
    Version = 1,
    /// Not a message.
    #[error("the message is malformed")]
    Malformed = 2,
    /// A newer leadership was armed before.
    #[error("a newer leadership was armed before")]
    OldTerm = 3,
    /// Not the armed leadership, or none is armed.
    #[error("this leadership is not armed")]
    NotArmed = 4,
    /// Past `not_after`, or past the moment from which PostgreSQL must stop.
    #[error("it is too late: PostgreSQL must stop")]
    TooLate = 5,
    /// PostgreSQL is being ended.
    #[error("PostgreSQL is being ended")]
    Fencing = 6,
    /// PostgreSQL runs already.
    #[error("PostgreSQL runs already")]
    Running = 7,
    /// PostgreSQL does not run.
    #[error("PostgreSQL does not run")]
    NotRunning = 8,
    /// PostgreSQL may write and would go on without a lease.
    #[error("PostgreSQL may write and would go on without a lease")]
    MayWrite = 9,
    /// The system refused: fork, exec, a file.
    #[error("the system did not let it; the guard's line in the log says why")]
    System = 10,
    /// `standby.signal` is missing: PostgreSQL would start as primary.
    #[error("standby.signal is missing: PostgreSQL would start as primary")]
    NotAStandby = 11,
    /// `watchdog.mode` is `required`, and the device could not be opened or set.
    #[error(
        "the watchdog device that is required could not be opened or set; the guard's line in the log says why"
    )]
    NoWatchdog = 12,
}

impl WhyRefused {
    fn from_code(code: u64) -> Self {
        use WhyRefused as W;
        let all = [
            W::Version,
            W::OldTerm,
            W::NotArmed,
            W::TooLate,
            W::Fencing,
            W::Running,
            W::NotRunning,
            W::MayWrite,
            W::System,
            W::NotAStandby,
            W::NoWatchdog,
        ];
        all.into_iter()
            .find(|why| *why as u64 == code)
            .unwrap_or(W::Malformed)
    }
}

/// What the guard says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// Done; after a start, with the postmaster's pid.
    Ok {
        /// 0 unless something was started.
        pid: u32,
    },
    /// Not done.
    Refused(WhyRefused),
    /// To [`Request::Hello`].
    State(crate::Handover),
    /// Unasked: the postmaster is gone, with all its processes.
    PostgresEnded {
        /// As `waitpid` gives it; -1 if it was not our child.
        status: i32,
        /// The guard ended it because the lease ran out or was lost.
        fenced: bool,
    },
}

/// A message in one of the two directions, with its number; a reply carries the number of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<T> {
    /// The request's number; 0 for what answers no request.
    pub id: u32,
    /// What it says.
    pub body: T,
}

/// Length of a message without its tail.
pub const HEAD: usize = 8 + 5 * 8;

fn encode(kind: u8, id: u32, fields: [u64; 5]) -> [u8; HEAD] {
    let mut out = [0u8; HEAD];
    out[0] = VERSION;
    out[1] = kind;
    out[4..8].copy_from_slice(&id.to_le_bytes());
    for (i, field) in fields.iter().enumerate() {
        let at = 8 + i * 8;
        out[at..at + 8].copy_from_slice(&field.to_le_bytes());
    }
    out
}

fn decode(bytes: &[u8]) -> Result<(u8, u32, [u64; 5]), WhyRefused> {
    let head = bytes.get(..HEAD).ok_or(WhyRefused::Malformed)?;
    if head[0] != VERSION {
        return Err(WhyRefused::Version);
    }
    let mut fields = [0u64; 5];
    for (i, field) in fields.iter_mut().enumerate() {
        let mut word = [0u8; 8];
        word.copy_from_slice(&head[8 + i * 8..16 + i * 8]);
        *field = u64::from_le_bytes(word);
    }
    Ok((
        head[1],
        u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
        fields,
    ))
}

/// The number of a request that could not be read, if it has come so far: the refusal names it.
#[must_use]
pub fn number(bytes: &[u8]) -> u32 {
    let word = bytes.get(4..8).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_le_bytes)
}

impl Message<Request> {
    /// As it travels, without a tail.
    #[must_use]
    pub fn encode(self) -> [u8; HEAD] {
        let (kind, fields) = match self.body {
            Request::Hello => (1, [0; 5]),
            Request::Alive => (2, [0; 5]),
            Request::Arm(a) => (3, [a.term, a.lease, a.stop_at.0, a.kill_at.0, a.deadline.0]),
            Request::Disarm { term } => (4, [term, 0, 0, 0, 0]),
            Request::Pause { term } => (5, [term, 0, 0, 0, 0]),
            Request::Lost { term } => (6, [term, 0, 0, 0, 0]),
            Request::Start(StartMode::Replica) => (7, [0; 5]),
            Request::Start(StartMode::Primary { term, not_after }) => (7, [1, term, not_after.0, 0, 0]),
            Request::Start(StartMode::Bootstrap { not_after }) => (7, [2, 0, not_after.0, 0, 0]),
            Request::Promote { term, not_after } => (8, [term, not_after.0, 0, 0, 0]),
            Request::Stop(mode) => (9, [mode as u64, 0, 0, 0, 0]),
            Request::Adopt {
                pid,
                may_write,
                not_after,
            } => (10, [u64::from(pid), u64::from(may_write), not_after.0, 0, 0]),
            Request::Exit { code } => (11, [u64::from(code), 0, 0, 0, 0]),
            Request::Watchdog(None) => (12, [0; 5]),
            Request::Watchdog(Some(w)) => (
                12,
                [
                    1,
                    w.margin.as_secs(),
                    u64::from(w.required),
                    u64::from(w.testing),
                    0,
                ],
            ),
        };
        encode(kind, self.id, fields)
    }

    /// Reads one; what follows its head is left to the receiver.
    ///
    /// # Errors
    /// It is too short, of another version of the protocol, or unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, WhyRefused> {
        let (kind, id, f) = decode(bytes)?;
        let body = match kind {
            1 => Request::Hello,
            2 => Request::Alive,
            3 => Request::Arm(Arm {
                term: f[0],
                lease: f[1],
                stop_at: BootTime(f[2]),
                kill_at: BootTime(f[3]),
                deadline: BootTime(f[4]),
            }),
            4 => Request::Disarm { term: f[0] },
            5 => Request::Pause { term: f[0] },
            6 => Request::Lost { term: f[0] },
            7 => Request::Start(match f[0] {
                0 => StartMode::Replica,
                1 => StartMode::Primary {
                    term: f[1],
                    not_after: BootTime(f[2]),
                },
                2 => StartMode::Bootstrap {
                    not_after: BootTime(f[2]),
                },
                _ => return Err(WhyRefused::Malformed),
            }),
            8 => Request::Promote {
                term: f[0],
                not_after: BootTime(f[1]),
            },
            9 => Request::Stop(crate::StopMode::from_code(f[0]).ok_or(WhyRefused::Malformed)?),
            10 => Request::Adopt {
                pid: u32::try_from(f[0]).map_err(|_| WhyRefused::Malformed)?,
                may_write: f[1] != 0,
                not_after: BootTime(f[2]),
            },
            11 => Request::Exit {
                code: u8::try_from(f[0]).unwrap_or(1),
            },
            12 => Request::Watchdog((f[0] != 0).then_some(crate::Watchdog {
                margin: Duration::from_secs(f[1]),
                required: f[2] != 0,
                testing: f[3] != 0,
            })),
            _ => return Err(WhyRefused::Malformed),
        };
        Ok(Message { id, body })
    }
}

impl Message<Reply> {
    /// As it travels, without a tail.
    #[must_use]
    pub fn encode(self) -> [u8; HEAD] {
        let (kind, fields) = match self.body {
            Reply::Ok { pid } => (101, [u64::from(pid), 0, 0, 0, 0]),
            Reply::Refused(why) => (102, [why as u64, 0, 0, 0, 0]),
            Reply::State(h) => {
                let flags = u64::from(h.may_write) | u64::from(h.term.is_some()) << 1;
                (
                    103,
                    [
                        u64::from(h.pid),
                        flags,
                        h.term.unwrap_or(0),
                        h.lease,
                        h.deadline.0,
                    ],
                )
            }
            Reply::PostgresEnded { status, fenced } => (
                104,
                [u64::from(status.cast_unsigned()), u64::from(fenced), 0, 0, 0],
            ),
        };
        encode(kind, self.id, fields)
    }

    /// Reads one; what follows its head is left to the receiver.
    ///
    /// # Errors
    /// It is too short, of another version of the protocol, or unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, WhyRefused> {
        let (kind, id, f) = decode(bytes)?;
        let pid = u32::try_from(f[0]).unwrap_or(0);
        let body = match kind {
            101 => Reply::Ok { pid },
            102 => Reply::Refused(WhyRefused::from_code(f[0])),
            103 => Reply::State(crate::Handover {
                pid,
                may_write: f[1] & 1 != 0,
                term: (f[1] & 2 != 0).then_some(f[2]),
                lease: f[3],
                deadline: BootTime(f[4]),
            }),
            104 => Reply::PostgresEnded {
                status: pid.cast_signed(),
                fenced: f[1] != 0,
            },
            _ => return Err(WhyRefused::Malformed),
        };
        Ok(Message { id, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Handover, StopMode};

    #[test]
    fn messages_round_trip() {
        let t = BootTime(7);
        for body in [
            Request::Hello,
            Request::Arm(Arm {
                term: 1,
                lease: 2,
                stop_at: t,
                kill_at: t,
                deadline: t,
            }),
            Request::Start(StartMode::Primary {
                term: 3,
                not_after: t,
            }),
            Request::Start(StartMode::Bootstrap { not_after: t }),
            Request::Stop(StopMode::Immediate),
            Request::Adopt {
                pid: 4,
                may_write: true,
                not_after: t,
            },
            Request::Exit { code: 1 },
            Request::Watchdog(None),
            Request::Watchdog(Some(crate::Watchdog {
                margin: Duration::from_secs(5),
                required: true,
                testing: false,
            })),
        ] {
            let message = Message { id: 9, body };
            assert_eq!(Message::<Request>::decode(&message.encode()), Ok(message));
        }
        for body in [
            Reply::Refused(WhyRefused::NotAStandby),
            Reply::State(Handover {
                pid: 1,
                may_write: true,
                term: Some(0),
                lease: 5,
                deadline: t,
            }),
            Reply::PostgresEnded {
                status: -1,
                fenced: true,
            },
        ] {
            let message = Message { id: 0, body };
            assert_eq!(Message::<Reply>::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn another_version_is_refused_as_such() {
        let mut bytes = Message {
            id: 1,
            body: Request::Hello,
        }
        .encode();
        bytes[0] = 2;
        assert_eq!(Message::<Request>::decode(&bytes), Err(WhyRefused::Version));
        assert_eq!(
            Message::<Request>::decode(&bytes[..5]),
            Err(WhyRefused::Malformed)
        );
    }
}
