//! The section `consul`.

use std::path::PathBuf;

use serde_json::Value;

use crate::{ConfigError, Listen, reader::Reader, string_form};

/// `consul`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsulConfig {
    /// `http[s]://host:port` of Consul's agent.
    pub url: String,
    /// ACL token.
    pub token: Option<String>,
    /// The data center, if it is not the agent's own.
    pub datacenter: Option<String>,
    /// CA of the agent's certificate.
    pub cacert: Option<PathBuf>,
    /// Our certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// The agent's certificate is checked; with a CA it always is.
    pub verify: bool,
    /// The member is registered as a service.
    pub service: Option<ConsulService>,
}

/// `register_service` and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulService {
    /// Tags beside the role, sorted.
    pub tags: Vec<String>,
    /// How often the check is made.
    pub check_interval: String,
    /// The name in the certificate that the check expects.
    pub tls_server_name: Option<String>,
}

/// Consul's port.
const PORT: u16 = 8500;

pub(crate) fn consul(section: &Reader<'_>) -> Result<ConsulConfig, ConfigError> {
    let scheme = section.text("scheme")?.unwrap_or_else(|| "http".into());
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(section.error("scheme", "must be http or https"));
    }
    let url = match section.text("url")? {
        Some(url) => {
            let (scheme, rest) = url
                .split_once("://")
                .filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
                .ok_or_else(|| section.error("url", "must begin with http:// or https://"))?;
            let authority = rest.split('/').next().unwrap_or(rest);
            let address = Listen::parse(authority, PORT).map_err(|message| section.error("url", &message))?;
            format!("{scheme}://{address}")
        }
        None => {
            let host = section.text("host")?.unwrap_or_else(|| "127.0.0.1".into());
            let mut address =
                Listen::parse(&host, PORT).map_err(|message| section.error("host", &message))?;
            if let Some(port) = section.int("port", "")? {
                address.port = u16::try_from(port).map_err(|_| section.error("port", "must be a port"))?;
            }
            format!("{scheme}://{address}")
        }
    };
    let path = |key: &str| Ok::<_, ConfigError>(section.text(key)?.map(PathBuf::from));
    let cacert = path("cacert")?;
    // Patroni checks certificates where it is told to, or has a CA.
    let verify = section.flag("verify")?.unwrap_or(true) || cacert.is_some();
    let texts = |key: &str| -> Result<Vec<String>, ConfigError> {
        match section.value(key) {
            Some(Value::Array(items)) => Ok(items.iter().map(string_form).collect()),
            _ => Ok(section.list(key)?.unwrap_or_default()),
        }
    };
    let mut tags = texts("service_tags")?;
    tags.sort();
    let registered = section.flag("register_service")?.unwrap_or(false);
    let service = ConsulService {
        tags,
        check_interval: section
            .text("service_check_interval")?
            .unwrap_or_else(|| "5s".into()),
        tls_server_name: section.text("service_check_tls_server_name")?,
    };
    Ok(ConsulConfig {
        url,
        token: section.text("token")?,
        datacenter: section.text("dc")?,
        client_cert: match (path("cert")?, path("key")?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (Some(cert), None) => Some((cert.clone(), cert)),
            _ => None,
        },
        cacert,
        verify,
        service: registered.then_some(service),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Places;

    fn read(value: Value) -> Result<ConsulConfig, String> {
        let config = json!({"consul": value});
        let places = Places::default();
        let root = Reader::root(config.as_object().unwrap(), &places);
        consul(&root.section("consul").unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_agent_is_named_in_patronis_ways() {
        for (value, url) in [
            (json!({"host": "c"}), "http://c:8500"),
            (json!({"host": "c:8501"}), "http://c:8501"),
            (
                json!({"host": "c", "port": 8501, "scheme": "https"}),
                "https://c:8501",
            ),
            (json!({"url": "https://c/"}), "https://c:8500"),
            (json!({"token": "t"}), "http://127.0.0.1:8500"),
        ] {
            assert_eq!(read(value.clone()).unwrap().url, url, "{value}");
        }
    }

    #[test]
    fn services_are_registered_when_asked() {
        assert_eq!(
            read(json!({"host": "c", "service_tags": ["x"]})).unwrap().service,
            None
        );
        let service = read(json!({"register_service": true, "service_tags": ["b", "a"]}))
            .unwrap()
            .service
            .unwrap();
        assert_eq!(
            (service.tags, service.check_interval.as_str()),
            (vec!["a".to_owned(), "b".to_owned()], "5s")
        );
    }

    #[test]
    fn wrong_values_are_named() {
        for (value, part) in [
            (json!({"url": "c:8500"}), "consul.url"),
            (json!({"scheme": "ftp"}), "consul.scheme"),
            (json!({"port": 70000}), "consul.port"),
            (json!({"register_service": "perhaps"}), "consul.register_service"),
        ] {
            let said = read(value.clone()).unwrap_err();
            assert!(said.contains(part), "{value}: {said}");
        }
    }
}
