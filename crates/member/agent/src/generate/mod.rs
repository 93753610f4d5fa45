//! A configuration to begin with: `--generate-sample-config`, and `--generate-config` for a PostgreSQL that runs.

mod running;
mod sample;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use anyhow::Context;

pub use running::from_running;
pub use sample::sample;

/// This machine, as other members reach it.
struct Here {
    name: String,
    /// As it stands before a port.
    address: String,
}

impl Here {
    fn look() -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        // Addresses for documentation (RFC 5737, 3849).
        let outside: [(IpAddr, IpAddr); 2] = [
            (
                Ipv4Addr::UNSPECIFIED.into(),
                Ipv4Addr::new(198, 51, 100, 1).into(),
            ),
            (
                Ipv6Addr::UNSPECIFIED.into(),
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            ),
        ];
        // No packet is sent: the kernel says which address it would be sent from.
        let address = outside.into_iter().find_map(|(from, to)| {
            let socket = UdpSocket::bind((from, 0)).ok()?;
            socket.connect((to, 9)).ok()?;
            Some(socket.local_addr().ok()?.ip())
        });
        Here {
            name: name.trim().to_owned(),
            address: match address {
                Some(IpAddr::V4(address)) => address.to_string(),
                Some(IpAddr::V6(address)) => format!("[{address}]"),
                None => "127.0.0.1".to_owned(),
            },
        }
    }
}

/// A password that nobody has used before.
fn password() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("making a password")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A text as YAML takes it in any place.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
