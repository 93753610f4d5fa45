//! The session that is the lease: it is begun, renewed, gone on with over another connection, and closed.

use std::{collections::VecDeque, time::Duration};

use howdah_clock::now;
use howdah_dcs::LeaseId;
use howdah_types::BootTime;

use crate::{
    Ensemble,
    connection::{CallError, Caller, Connection, Identity},
    wire::{Code, Request, read_touch},
};

/// A server passes on to the leader of the ensemble which sessions it has heard, each time the leader asks: every half
/// `tickTime`, which is one second unless configured. A renewal counts when it is this much older than another one that was
/// confirmed.
const PASSED_ON: Duration = Duration::from_secs(2);

/// A session of ours.
pub(crate) struct Session {
    identity: Identity,
    /// Its length from its beginning on: what is asked for when it is gone on with is forgotten when another server leads.
    length: Duration,
    connection: Option<Connection>,
    /// When the connection was asked for: the ensemble's leader has confirmed the session then.
    connected: BootTime,
    /// Since when no server has taken the session.
    lost: Option<BootTime>,
    /// The server that is asked, and the next one when it fails.
    server: usize,
    /// When the renewals were sent that the ensemble has confirmed; the newest last.
    confirmed: VecDeque<BootTime>,
}

impl Session {
    /// Begins one of about this length. Servers that cannot be reached are passed over.
    pub(crate) async fn begin(
        ensemble: &Ensemble,
        length: Duration,
        deadline: BootTime,
    ) -> Result<Self, CallError> {
        let mut session = Session {
            identity: Identity::new(length),
            length,
            connection: None,
            connected: BootTime(0),
            lost: None,
            // Not all members of a cluster, or all stores of a member, begin with the same one.
            server: usize::try_from(now().0 / 1000 % 1024).unwrap_or(0),
            confirmed: VecDeque::new(),
        };
        session.connect(ensemble, deadline).await?;
        session.length = session.identity.timeout;
        Ok(session)
    }

    /// The session of an earlier life of this process, as the guard has kept its number.
    pub(crate) fn known(lease: LeaseId, length: Duration) -> Self {
        let id = lease.0.cast_signed();
        Session {
            identity: Identity {
                id,
                password: password_of(id),
                timeout: length,
                seen: 0,
            },
            length,
            connection: None,
            connected: BootTime(0),
            lost: None,
            server: 0,
            confirmed: VecDeque::new(),
        }
    }

    pub(crate) fn lease(&self) -> LeaseId {
        LeaseId(self.identity.id.cast_unsigned())
    }

    /// What is sure of its length.
    pub(crate) fn length(&self) -> Duration {
        self.length.min(self.identity.timeout)
    }

    pub(crate) fn caller(&self) -> Option<Caller> {
        self.connection.as_ref().map(Connection::caller)
    }

    /// Asks the whole ensemble whether the session lives, by a write that changes nothing. For how long it lives from the
    /// moment on at which this was sent; the node at `path` need not exist.
    pub(crate) async fn renew(
        &mut self,
        ensemble: &Ensemble,
        path: &str,
        deadline: BootTime,
    ) -> Result<Duration, CallError> {
        let sent = now();
        self.touch(ensemble, path, deadline).await?;
        // Over this connection: its beginning was confirmed by the leader itself.
        let counts = counts_from(&self.confirmed, sent).max(self.connected.min(sent));
        while self.confirmed.front().is_some_and(|first| *first < counts) {
            self.confirmed.pop_front();
        }
        self.confirmed.push_back(sent);
        Ok(self.length().saturating_sub(sent.since(counts)))
    }

    /// A write that changes nothing: when it is answered, the ensemble has decided it for a session that lives, and our server
    /// has all that was decided before.
    async fn touch(&mut self, ensemble: &Ensemble, path: &str, deadline: BootTime) -> Result<(), CallError> {
        let body = self.call(ensemble, Request::touch(path), deadline).await?;
        Ok(read_touch(&body)??)
    }

    /// One request, over a new connection if the last one has broken.
    pub(crate) async fn call(
        &mut self,
        ensemble: &Ensemble,
        request: Request,
        deadline: BootTime,
    ) -> Result<Vec<u8>, CallError> {
        let answer = match &self.connection {
            Some(connection) if connection.is_open() => connection.call(request, deadline).await,
            Some(_) | None => {
                self.connect(ensemble, deadline).await?;
                match &self.connection {
                    Some(connection) => connection.call(request, deadline).await,
                    None => return Err(CallError::NotSent("no connection".into())),
                }
            }
        };
        if let Some(connection) = &self.connection {
            self.identity.seen = self.identity.seen.max(connection.seen());
        }
        if matches!(
            answer,
            Err(CallError::NotSent(_) | CallError::Unknown(_) | CallError::Refused(Code::SessionMoved))
        ) {
            // The next try asks another server.
            self.connection = None;
            self.server += 1;
        }
        answer
    }

    pub(crate) async fn close(mut self, ensemble: &Ensemble, deadline: BootTime) -> Result<(), CallError> {
        self.call(ensemble, Request::close(), deadline).await.map(|_| ())
    }

    async fn connect(&mut self, ensemble: &Ensemble, deadline: BootTime) -> Result<(), CallError> {
        if let Some(connection) = self.connection.take() {
            self.identity.seen = self.identity.seen.max(connection.seen());
        }
        // An ensemble that was restored from a copy, or made again, is behind for ever. The session has ended by now.
        if self.lost.is_some_and(|lost| now() >= lost + self.length * 3) {
            self.identity.seen = 0;
        }
        let mut failed = CallError::NotSent("no server is configured".into());
        for _ in 0..ensemble.servers.len() {
            // One that hangs leaves time for the others.
            let left = now().until(deadline);
            let patience = now() + (left / 2).max(Duration::from_millis(100));
            let server = self.server % ensemble.servers.len();
            let sent = now();
            // Never more than it began with.
            self.identity.timeout = self.length;
            match Connection::open(ensemble, server, &self.identity, patience.min(deadline)).await {
                Ok((connection, identity)) => {
                    // The ensemble's leader has begun the session then, or has confirmed it.
                    self.confirmed.push_back(sent);
                    self.connected = sent;
                    self.lost = None;
                    self.identity = identity;
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(error @ CallError::Refused(_)) => return Err(error),
                Err(CallError::NotSent(why) | CallError::Unknown(why)) => {
                    // A session that was begun and whose number was lost ends by itself, with nothing bound to it.
                    failed = CallError::NotSent(why);
                    self.lost.get_or_insert(sent);
                    self.server += 1;
                }
            }
            if now() >= deadline {
                break;
            }
        }
        Err(failed)
    }
}

/// From which moment on the session's length is counted, when a renewal that was sent at `sent` was confirmed. The leader of
/// the ensemble ends sessions, and has heard of this one through the server that we are connected to. That it decides a write
/// of ours shows that this server is still its follower, and so has passed on what it heard some time before; what it hears
/// now may be lost with it.
fn counts_from(confirmed: &VecDeque<BootTime>, sent: BootTime) -> BootTime {
    let passed_on = confirmed
        .iter()
        .rev()
        .find(|earlier| **earlier + PASSED_ON <= sent);
    passed_on.or(confirmed.front()).copied().unwrap_or(sent)
}

/// The password of a session, which ZooKeeper's servers derive from its number: sixteen bytes of Java's generator of random
/// numbers, begun with the number and a constant. The agent that follows another one goes on with its session by that.
fn password_of(id: i64) -> Vec<u8> {
    const SERVERS_CONSTANT: i64 = 0xB341_5C00;
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const BITS_48: u64 = (1 << 48) - 1;
    let mut state = ((id ^ SERVERS_CONSTANT).cast_unsigned() ^ MULTIPLIER) & BITS_48;
    let mut password = Vec::with_capacity(16);
    for _ in 0..4 {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & BITS_48;
        let word = u32::try_from(state >> 16 & 0xFFFF_FFFF).unwrap_or(0);
        password.extend_from_slice(&word.to_le_bytes());
    }
    password
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime(millis * 1_000_000)
    }

    #[test]
    fn a_renewal_counts_from_the_one_before() {
        let confirmed = |times: &[u64]| times.iter().map(|time| at(*time)).collect::<VecDeque<_>>();
        for (known, sent, counts) in [
            (&[0][..], 10_000, 0),
            (&[0, 10_000], 20_000, 10_000),
            // Two in quick succession say nothing of each other.
            (&[0, 10_000, 11_500], 12_000, 10_000),
            (&[11_500], 12_000, 11_500),
        ] {
            assert_eq!(counts_from(&confirmed(known), at(sent)), at(counts), "{known:?}");
        }
    }
}
