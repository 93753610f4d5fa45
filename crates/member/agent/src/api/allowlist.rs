//! `restapi.allowlist`: from where unsafe requests may come.

use std::net::IpAddr;

use howdah_clock::now;
use howdah_http::Url;

use super::Api;
use crate::patience::STORE_PATIENCE;

/// Whether an unsafe request may come from this address. Without a list it may come from anywhere.
pub(crate) async fn allows(api: &Api, from: IpAddr) -> bool {
    let config = &api.config().restapi;
    if config.allowlist.is_empty() && !config.allowlist_include_members {
        return true;
    }
    let from = from.to_canonical();
    for entry in &config.allowlist {
        if matches_network(entry, from) || resolves_to(entry, from).await {
            return true;
        }
    }
    config.allowlist_include_members && is_member(api, from).await
}

/// An address, or a network as `address/bits`.
fn matches_network(entry: &str, from: IpAddr) -> bool {
    let (address, bits) = entry.split_once('/').unwrap_or((entry, ""));
    let Ok(network) = address.parse::<IpAddr>() else {
        return false;
    };
    match (network, from) {
        (IpAddr::V4(network), IpAddr::V4(from)) => {
            let bits = if bits.is_empty() {
                Some(32)
            } else {
                bits.parse().ok().filter(|bits| *bits <= 32)
            };
            let mask = bits.map(|bits: u32| u32::MAX.checked_shl(32 - bits).unwrap_or(0));
            mask.is_some_and(|mask| network.to_bits() & mask == from.to_bits() & mask)
        }
        (IpAddr::V6(network), IpAddr::V6(from)) => {
            let bits = if bits.is_empty() {
                Some(128)
            } else {
                bits.parse().ok().filter(|bits| *bits <= 128)
            };
            let mask = bits.map(|bits: u32| u128::MAX.checked_shl(128 - bits).unwrap_or(0));
            mask.is_some_and(|mask| network.to_bits() & mask == from.to_bits() & mask)
        }
        _ => false,
    }
}

async fn resolves_to(host: &str, from: IpAddr) -> bool {
    if host.contains('/') || host.parse::<IpAddr>().is_ok() {
        return false;
    }
    let lookup = tokio::net::lookup_host((host, 0));
    match howdah_http::timeout_at(now() + STORE_PATIENCE, lookup).await {
        Ok(Ok(found)) => found
            .into_iter()
            .any(|address| address.ip().to_canonical() == from),
        _ => false,
    }
}

async fn is_member(api: &Api, from: IpAddr) -> bool {
    let Ok(view) = api.store.read(now() + STORE_PATIENCE).await else {
        return false;
    };
    for member in view.members.values() {
        let Some(host) = member
            .api_base()
            .and_then(|base| Url::parse(base).ok())
            .map(|url| url.host)
        else {
            continue;
        };
        if matches_network(&host, from) || resolves_to(&host, from).await {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks() {
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        for (entry, address, wanted) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.0/24", "10.0.0.200", true),
            ("10.0.0.0/24", "10.0.1.1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("10.0.0.0/99", "10.0.0.1", false),
            ("example.org", "10.0.0.1", false),
        ] {
            assert_eq!(matches_network(entry, from(address)), wanted, "{entry} {address}");
        }
    }
}
