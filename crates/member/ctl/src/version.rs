use howdah_http::Method;
use howdah_types::PgVersion;
use serde_json::Value;

use crate::{cli::VersionArgs, context::Context};

/// Prints this program's version, and those of a cluster's members.
pub(crate) async fn version(context: &Context, args: &VersionArgs) -> anyhow::Result<()> {
    let Some(cluster_name) = &args.cluster_name else {
        return Ok(());
    };
    println!();
    let cluster = context.cluster(Some(cluster_name)).await?;
    for (name, member) in &cluster.view.members {
        if !args.member_names.is_empty() && !args.member_names.iter().any(|wanted| wanted == name.as_str()) {
            continue;
        }
        match context.call(member, Method::GET, "patroni", None).await {
            Ok(answer) => println!("{name}: {}", described(&answer.body)),
            Err(error) => println!("{name}: failed to get version: {error}"),
        }
    }
    Ok(())
}

/// This program's own line.
pub(crate) fn own() -> String {
    format!("howdah ctl version {}", env!("CARGO_PKG_VERSION"))
}

/// Patroni's words, and behind them whose agent it is.
fn described(body: &[u8]) -> String {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut line = format!("Patroni {}", text(&status["patroni"]["version"]));
    let server = status["server_version"]
        .as_u64()
        .and_then(|version| u32::try_from(version).ok());
    if let Some(version) = server {
        line += &format!(" PostgreSQL {}", PgVersion(version));
    }
    if let Some(howdah) = status["howdah"]["version"].as_str() {
        line += &format!(" (Howdah {howdah})");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_says_whose_agent_it_has() {
        let patroni = br#"{"patroni": {"version": "4.1.5"}, "server_version": 150018}"#;
        assert_eq!(described(patroni), "Patroni 4.1.5 PostgreSQL 15.18");
        let ours = br#"{"patroni": {"version": "4.1.5"}, "howdah": {"version": "0.1.0"}}"#;
        assert_eq!(described(ours), "Patroni 4.1.5 (Howdah 0.1.0)");
        assert_eq!(described(b"no JSON"), "Patroni ?");
    }
}
