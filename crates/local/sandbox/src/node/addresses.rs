use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use parking_lot::Mutex;

use crate::Store;

/// Loopback addresses of one sandbox: 127.N.0.1 is the API, 127.N.1.x to 127.N.127.x are pods, 127.N.128.x and above
/// are Services. Linux answers on all of 127.0.0.0/8 without any setting up.
#[derive(Clone)]
pub(crate) struct Addresses {
    store: Store,
    network: u8,
    /// Handed out and perhaps not yet in the store.
    given: Arc<Mutex<BTreeSet<Ipv4Addr>>>,
}

impl Addresses {
    pub(crate) fn new(store: Store, network: u8) -> Self {
        Addresses {
            store,
            network,
            given: Arc::default(),
        }
    }

    /// The address of the API in a network.
    pub(crate) fn api_of(network: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, network, 0, 1)
    }

    /// An address for a new Service.
    pub(crate) fn service(&self) -> Result<String, String> {
        self.take("/services", &["spec", "clusterIP"], 128..=254)
    }

    /// An address for a new pod.
    pub(super) fn pod(&self) -> Result<String, String> {
        self.take("/pods", &["status", "podIP"], 1..=127)
    }

    fn take(
        &self,
        resource: &str,
        path: &[&str],
        third: std::ops::RangeInclusive<u8>,
    ) -> Result<String, String> {
        let mut given = self.given.lock();
        let used: BTreeSet<Ipv4Addr> = self
            .store
            .all(resource, None)
            .iter()
            .filter_map(|object| {
                path.iter()
                    .fold(&**object, |at, key| &at[*key])
                    .as_str()?
                    .parse()
                    .ok()
            })
            .collect();
        let mut all = third.flat_map(|c| (1..=254).map(move |d| (c, d)));
        let free = all.find_map(|(c, d)| {
            let address = Ipv4Addr::new(127, self.network, c, d);
            (!used.contains(&address) && !given.contains(&address)).then_some(address)
        });
        let address = free.ok_or("all addresses are in use")?;
        given.insert(address);
        Ok(address.to_string())
    }

    /// An address is free again.
    pub(super) fn release(&self, address: &str) {
        if let Ok(address) = address.parse() {
            self.given.lock().remove(&address);
        }
    }
}
