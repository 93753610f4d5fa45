use std::fmt;

/// An address to listen on or to be reached at: `host:port`, where the host may be a comma list or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The hosts, as written.
    pub hosts: Vec<String>,
    /// The port.
    pub port: u16,
}

impl Listen {
    /// Parses `host[,host][:port]`; IPv6 in brackets.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let (hosts, port) = match text.rsplit_once(':') {
            Some((hosts, port)) if !port.contains(']') => (
                hosts,
                port.trim()
                    .parse()
                    .map_err(|_| format!("'{port}' is not a port"))?,
            ),
            _ => (text, default_port),
        };
        let hosts: Vec<String> = hosts
            .split(',')
            .map(|host| host.trim().trim_matches(['[', ']']).to_owned())
            .collect();
        if hosts.iter().any(String::is_empty) {
            return Err(format!(
                "'{text}' has no host (write host:port, or *:port for all addresses)"
            ));
        }
        if hosts.len() > 1 && hosts.iter().any(|host| host == "*") {
            return Err(format!("'{text}': * stands alone"));
        }
        Ok(Listen { hosts, port })
    }

    /// The first host; where it is a wildcard, loopback.
    #[must_use]
    pub fn local_host(&self) -> &str {
        match self.hosts.first().map(String::as_str) {
            None | Some("*" | "0.0.0.0") => "127.0.0.1",
            Some("::") => "::1",
            Some(host) => host,
        }
    }

    /// The hosts as PostgreSQL's `listen_addresses` takes them.
    #[must_use]
    pub fn listen_addresses(&self) -> String {
        self.hosts.join(",")
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.hosts.join(",");
        if host.contains(':') {
            write!(f, "[{host}]:{}", self.port)
        } else {
            write!(f, "{host}:{}", self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(
            Listen::parse("127.0.0.1:5433", 1).unwrap().to_string(),
            "127.0.0.1:5433"
        );
        assert_eq!(Listen::parse("*:5432", 1).unwrap().local_host(), "127.0.0.1");
        assert_eq!(Listen::parse("[::1]:8008", 1).unwrap().hosts, ["::1"]);
        assert_eq!(Listen::parse("a,b:1", 9).unwrap().listen_addresses(), "a,b");
        assert_eq!(Listen::parse("host", 8008).unwrap().port, 8008);
        assert!(Listen::parse(":5432", 1).is_err());
        assert!(Listen::parse("a,*:5432", 1).is_err());
    }
}
