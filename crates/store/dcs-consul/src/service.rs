//! The member as a service in Consul (`register_service`): its name is the cluster's, its tags are the role, its check is the
//! agent's REST API.

use std::time::Duration;

use howdah_types::{MemberName, Scope};
use serde_json::{Value, json};

use crate::wire::go_duration;

/// `consul.service_*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// Tags beside the role.
    pub tags: Vec<String>,
    /// How often the check is made, as Consul writes it.
    pub check_interval: String,
    /// The name in the certificate that the check expects.
    pub tls_server_name: Option<String>,
}

/// What Consul is to know of the member.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Registration {
    /// It serves.
    Serves(Value),
    /// It has ended.
    Gone,
}

/// Longer names are cut: with `replica.` and `.service.consul` they must be names in DNS.
const LONGEST_NAME: usize = 230;

/// The service's name: letters, digits and dashes in DNS.
fn service_name(scope: &Scope) -> String {
    let mut name = String::new();
    for c in scope.as_str().to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' | '-' => name.push(c),
            '.' | '_' | ' ' => name.push('-'),
            other => name.push_str(&format!("u{:04}", u32::from(other))),
        }
    }
    name.truncate(LONGEST_NAME);
    name
}

pub(crate) fn service_id(scope: &Scope, me: &MemberName) -> String {
    format!("{scope}/{me}")
}

/// What a record says of a member; `None`: it stays as it is known.
pub(crate) fn registration(
    options: &ServiceOptions,
    scope: &Scope,
    me: &MemberName,
    record: &str,
    session: Duration,
) -> Option<Registration> {
    let record: Value = serde_json::from_str(record).ok()?;
    let (role, state) = (record["role"].as_str()?, record["state"].as_str()?);
    if state == "stopped" {
        return Some(Registration::Gone);
    }
    let role = match role {
        "master" | "primary" => "primary",
        "replica" => "replica",
        "standby_leader" => "standby-leader",
        _ => return None,
    };
    if state != "running" {
        return None;
    }
    let (host, port) = host_and_port(record["conn_url"].as_str()?)?;
    let api = record["api_url"].as_str()?;
    let base = api.split('/').take(3).collect::<Vec<_>>().join("/");
    let mut check = json!({
        "HTTP": format!("{base}/{role}"),
        "Interval": options.check_interval,
        "DeregisterCriticalServiceAfter": go_duration(session * 10),
    });
    if let Some(name) = &options.tls_server_name {
        check["TLSServerName"] = name.clone().into();
    }
    let mut tags = options.tags.clone();
    tags.push(role.to_owned());
    if role == "primary" {
        tags.push("master".to_owned());
    }
    Some(Registration::Serves(json!({
        "ID": service_id(scope, me),
        "Name": service_name(scope),
        "Address": host,
        "Port": port,
        "Tags": tags,
        "EnableTagOverride": true,
        "Check": check,
    })))
}

/// The first address of a connection string in the form of a URL.
fn host_and_port(url: &str) -> Option<(String, u16)> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit('@').next()?;
    let first = authority.split(',').next()?;
    match first.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
        }
        _ => Some((first.trim_matches(['[', ']']).to_owned(), 5432)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_the_service_that_patroni_registers() {
        let options = ServiceOptions {
            tags: vec!["db".to_owned()],
            check_interval: "5s".to_owned(),
            tls_server_name: None,
        };
        let (scope, me) = (Scope::new("Ba_t.man").unwrap(), MemberName::new("pg0").unwrap());
        let of = |record: Value| {
            registration(
                &options,
                &scope,
                &me,
                &record.to_string(),
                Duration::from_secs(15),
            )
        };
        let record = json!({"role": "primary", "state": "running", "conn_url": "postgres://10.0.0.1:5433/postgres",
            "api_url": "http://10.0.0.1:8008/patroni"});
        let Some(Registration::Serves(service)) = of(record) else {
            panic!("not registered")
        };
        assert_eq!(service["ID"], "Ba_t.man/pg0");
        assert_eq!(service["Name"], "ba-t-man");
        assert_eq!(
            (&service["Address"], &service["Port"]),
            (&json!("10.0.0.1"), &json!(5433))
        );
        assert_eq!(service["Tags"], json!(["db", "primary", "master"]));
        assert_eq!(service["Check"]["HTTP"], "http://10.0.0.1:8008/primary");
        assert_eq!(service["Check"]["DeregisterCriticalServiceAfter"], "150000ms");
        assert_eq!(
            of(json!({"role": "replica", "state": "stopped"})),
            Some(Registration::Gone)
        );
        assert_eq!(of(json!({"role": "replica", "state": "starting"})), None);
    }
}
