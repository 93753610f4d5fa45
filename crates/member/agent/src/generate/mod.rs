//! A configuration to begin with: `--generate-sample-config`, and `--generate-config` for a PostgreSQL that runs.

mod running;
mod sample;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use anyhow::Context;

pub use running::from_running;
pub use sample::sample;

/// This machine, as other members reach it.
struct Here {
    name: String,
    address: IpAddr,
}

impl Here {
    fn look() -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        // No packet is sent: the kernel says which address it would be sent from.
        let address = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
            socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
            socket.local_addr()
        });
        Here {
            name: name.trim().to_owned(),
            address: address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip()),
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
