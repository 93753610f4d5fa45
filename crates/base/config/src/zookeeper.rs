//! The section `zookeeper`.

use std::path::PathBuf;

use serde_json::Value;

use crate::{ConfigError, Listen, reader::Reader};

/// `zookeeper`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZooKeeperConfig {
    /// Host and port of each server, at least one.
    pub servers: Vec<(String, u16)>,
    /// What stands behind the servers (`host:2181/this`): all nodes are below it.
    pub chroot: String,
    /// `use_ssl`
    pub tls: Option<ZooKeeperTls>,
    /// Scheme and credential (`auth_data`).
    pub auth: Vec<(String, String)>,
    /// The subjects of certificates that have rights on what is made, and which, as ZooKeeper's bits (`set_acls`); empty:
    /// everybody has all.
    pub access: Vec<(String, i32)>,
}

/// How servers are reached over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZooKeeperTls {
    /// CA of the servers' certificates.
    pub cacert: Option<PathBuf>,
    /// Our certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// The servers' certificates are checked.
    pub verify: bool,
}

/// ZooKeeper's port.
const PORT: u16 = 2181;

pub(crate) fn zookeeper(section: &Reader<'_>) -> Result<ZooKeeperConfig, ConfigError> {
    let listed = section
        .list("hosts")?
        .unwrap_or_default()
        .iter()
        .flat_map(|hosts| hosts.split(','))
        .map(|host| host.trim().to_owned())
        .filter(|host| !host.is_empty())
        .collect::<Vec<_>>();
    let mut chroot = String::new();
    let mut servers = Vec::new();
    for (i, host) in listed.iter().enumerate() {
        let (address, path) = host.split_once('/').unwrap_or((host, ""));
        if !path.is_empty() {
            if i + 1 < listed.len() {
                return Err(section.error("hosts", "has a path behind a server that is not the last one"));
            }
            chroot = path.trim_matches('/').to_owned();
        }
        let address = Listen::parse(address, PORT).map_err(|message| section.error("hosts", &message))?;
        servers.extend(address.hosts.into_iter().map(|host| (host, address.port)));
    }
    if servers.is_empty() {
        return Err(section.error("hosts", "is missing: give a list of host:port"));
    }
    let path = |key: &str| Ok::<_, ConfigError>(section.text(key)?.map(PathBuf::from));
    let tls = if section.flag("use_ssl")?.unwrap_or(false) {
        Some(ZooKeeperTls {
            cacert: path("cacert")?,
            client_cert: match (path("cert")?, path("key")?) {
                (Some(cert), Some(key)) => Some((cert, key)),
                (Some(cert), None) => Some((cert.clone(), cert)),
                _ => None,
            },
            verify: section.flag("verify")?.unwrap_or(true),
        })
    } else {
        None
    };
    let auth = section.section("auth_data")?.map();
    let auth = auth.iter().map(|(scheme, credential)| match credential {
        Value::String(credential) => Ok((scheme.clone(), credential.clone())),
        _ => Err(section.error(
            "auth_data",
            "must have a text for each scheme, such as digest: 'user:password'",
        )),
    });
    let acls = section.section("set_acls")?;
    let access = acls
        .map()
        .keys()
        .map(|principal| {
            let rights = acls.list(principal)?.unwrap_or_default();
            let bits = rights
                .iter()
                .map(|right| match right.to_ascii_uppercase().as_str() {
                    "READ" => Ok(1),
                    "WRITE" => Ok(2),
                    "CREATE" => Ok(4),
                    "DELETE" => Ok(8),
                    "ADMIN" => Ok(16),
                    "ALL" => Ok(31),
                    _ => Err(acls.error(
                        principal,
                        "has a right that is none of CREATE, READ, WRITE, DELETE, ADMIN, ALL",
                    )),
                });
            let bits = bits.collect::<Result<Vec<i32>, _>>()?;
            Ok((principal.clone(), bits.into_iter().fold(0, |all, bit| all | bit)))
        })
        .collect::<Result<_, ConfigError>>()?;
    Ok(ZooKeeperConfig {
        servers,
        chroot,
        tls,
        auth: auth.collect::<Result<_, _>>()?,
        access,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Places;

    fn read(value: Value) -> Result<ZooKeeperConfig, String> {
        let config = json!({"zookeeper": value});
        let places = Places::default();
        let root = Reader::root(config.as_object().unwrap(), &places);
        zookeeper(&root.section("zookeeper").unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn servers_are_listed_as_kazoo_takes_them() {
        let servers = vec![("a".to_owned(), 2181), ("b".to_owned(), 2182)];
        for hosts in [json!(["a", "b:2182"]), json!("a:2181,b:2182")] {
            assert_eq!(read(json!({"hosts": hosts})).unwrap().servers, servers);
        }
        let below = read(json!({"hosts": "a,b:2182/x/y"})).unwrap();
        assert_eq!((below.servers, below.chroot.as_str()), (servers, "x/y"));
    }

    #[test]
    fn rights_are_zookeepers_bits() {
        let config = read(
            json!({"hosts": "a", "set_acls": {"CN=a": ["READ", "write"], "CN=b": ["ALL", "READ"]},
            "auth_data": {"digest": "u:p"}, "use_ssl": true, "verify": false}),
        );
        let config = config.unwrap();
        assert_eq!(config.access, [("CN=a".to_owned(), 3), ("CN=b".to_owned(), 31)]);
        assert_eq!(config.auth, [("digest".to_owned(), "u:p".to_owned())]);
        assert!(config.tls.is_some_and(|tls| !tls.verify));
    }

    #[test]
    fn wrong_values_are_named() {
        for (value, part) in [
            (json!({}), "zookeeper.hosts"),
            (json!({"hosts": "a/x,b"}), "zookeeper.hosts"),
            (json!({"hosts": "a:b"}), "zookeeper.hosts"),
            (
                json!({"hosts": "a", "set_acls": {"CN=a": ["FLY"]}}),
                "zookeeper.set_acls.CN=a",
            ),
            (
                json!({"hosts": "a", "auth_data": {"digest": 1}}),
                "zookeeper.auth_data",
            ),
        ] {
            let said = read(value.clone()).unwrap_err();
            assert!(said.contains(part), "{value}: {said}");
        }
    }
}
