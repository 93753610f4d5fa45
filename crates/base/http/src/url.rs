use base64::{Engine, engine::general_purpose::STANDARD};

use crate::HttpError;

/// An `http` or `https` address without user, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Speaks TLS.
    pub secure: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Begins with a slash, or is empty.
    pub path: String,
}

impl Url {
    /// Parses `http[s]://host[:port][/path]`.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn parse(text: &str) -> Result<Self, HttpError> {
        let bad = || HttpError::BadUrl(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let secure = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(bad()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let default = if secure { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| bad())?),
            _ => (authority, default),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(bad());
        }
        Ok(Url {
            secure,
            host: host.to_owned(),
            port,
            path: path.trim_end_matches('/').to_owned(),
        })
    }

    /// `scheme://host:port`
    #[must_use]
    pub fn base(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// `host:port`, with brackets around IPv6.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The value of an `Authorization` header.
#[must_use]
pub fn basic_auth(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let url = Url::parse("https://[::1]:8008/patroni").unwrap();
        assert_eq!(
            (url.secure, url.host.as_str(), url.port, url.path.as_str()),
            (true, "::1", 8008, "/patroni")
        );
        assert_eq!(url.base(), "https://[::1]:8008");
        assert_eq!(Url::parse("http://h").unwrap().port, 80);
        for bad in ["h:80", "ftp://h", "http://", "http://h:x"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}
