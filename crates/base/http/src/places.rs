//! How many connections are served at a time, in all and from one address.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many connections a server holds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at a time: beyond that, clients wait in the kernel's queue.
    pub connections: usize,
    /// Of them, those from one address: what it opens beyond that is closed at once, so that others are answered. Behind a
    /// proxy many clients have one address.
    pub from_one_address: usize,
    /// Bytes of a request's head.
    pub head: usize,
}

impl Default for Limits {
    /// For a member's REST API: a health check needs a connection for a millisecond.
    fn default() -> Self {
        Limits {
            connections: 512,
            from_one_address: 256,
            head: 16 * 1024,
        }
    }
}

/// The places of a server, owned by its accepting task.
pub(crate) struct Places {
    limits: Limits,
    free: Arc<Semaphore>,
    /// One token for an address; its connections have copies.
    addresses: HashMap<IpAddr, Arc<()>>,
}

/// The place of a connection; given back when it is dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _address: Arc<()>,
}

impl Places {
    pub(crate) fn new(limits: Limits) -> Self {
        Places {
            limits,
            free: Arc::new(Semaphore::new(limits.connections)),
            addresses: HashMap::new(),
        }
    }

    /// Waits until a connection can be served. `None` never happens: the semaphore is not closed.
    pub(crate) async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Takes the place for a connection from there; `None` if that address has its share.
    pub(crate) fn take(&mut self, permit: OwnedSemaphorePermit, address: IpAddr) -> Option<Place> {
        if self.addresses.len() > 2 * self.limits.connections {
            self.addresses.retain(|_, token| Arc::strong_count(token) > 1);
        }
        let token = self.addresses.entry(address).or_default();
        (Arc::strong_count(token) <= self.limits.from_one_address).then(|| Place {
            _permit: permit,
            _address: Arc::clone(token),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_cannot_take_all() {
        let mut places = Places::new(Limits::default());
        let [greedy, other]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let mut held = Vec::new();
        for _ in 0..Limits::default().from_one_address {
            held.push(places.take(places.wait().await.unwrap(), greedy).unwrap());
        }
        assert!(places.take(places.wait().await.unwrap(), greedy).is_none());
        assert!(places.take(places.wait().await.unwrap(), other).is_some());
        held.pop();
        assert!(places.take(places.wait().await.unwrap(), greedy).is_some());
    }
}
