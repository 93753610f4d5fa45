use hyper::{HeaderMap, Method};

use super::protobuf;
use crate::{ApiError, selector::Selector};

/// A request's parts.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    /// Names and values in their order; a name may come several times.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// The form in which a client wants objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    Table,
    MetadataOnly,
}

impl Request {
    pub(crate) fn query(&self, name: &str) -> &str {
        self.last(name).map_or("", String::as_str)
    }

    /// All values of a name.
    pub(crate) fn query_all(&self, name: &str) -> Vec<String> {
        let named = self.query.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.clone()).collect()
    }

    fn last(&self, name: &str) -> Option<&String> {
        let mut named = self.query.iter().filter(|(known, _)| known == name);
        named.next_back().map(|(_, value)| value)
    }

    /// Whether a switch of the query is on. As in Kubernetes only 0 and false turn it off; its name alone turns it on.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        let value = self.last(name);
        value.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    pub(crate) fn accepts(&self, part: &str) -> bool {
        self.headers
            .get(hyper::header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.contains(part))
    }

    pub(crate) fn form(&self) -> Form {
        if self.accepts("as=Table") {
            Form::Table
        } else if self.accepts("as=PartialObjectMetadata") {
            Form::MetadataOnly
        } else {
            Form::Plain
        }
    }

    pub(crate) fn content_type(&self) -> &str {
        self.headers
            .get(hyper::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map_or("", |value| value.split(';').next().unwrap_or(value).trim())
    }

    pub(crate) fn selector(&self) -> Result<Selector, ApiError> {
        Selector::parse(self.query("labelSelector"), self.query("fieldSelector"))
    }

    /// Who writes: the manager that the client names, or the beginning of its name.
    pub(crate) fn manager(&self) -> String {
        let named = self.query("fieldManager");
        if !named.is_empty() {
            return named.to_owned();
        }
        let agent = self
            .headers
            .get(hyper::header::USER_AGENT)
            .and_then(|value| value.to_str().ok());
        agent
            .and_then(|agent| agent.split('/').next())
            .unwrap_or("unknown")
            .to_owned()
    }

    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        match self.query("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => Err(ApiError::bad_request(format!(
                "invalid dryRun \"{other}\": only \"All\" is known"
            ))),
        }
    }

    /// The body as JSON; YAML where that is what was sent.
    pub(crate) fn object(&self) -> Result<serde_json::Value, ApiError> {
        let kind = self.content_type();
        if kind.contains("protobuf") {
            return protobuf::object(&self.body);
        }
        let text =
            std::str::from_utf8(&self.body).map_err(|_| ApiError::bad_request("the body is not UTF-8"))?;
        if kind.ends_with("yaml") && !text.trim_start().starts_with('{') {
            return serde_saphyr::from_str(text)
                .map_err(|error| ApiError::bad_request(format!("the body is no YAML: {error}")));
        }
        serde_json::from_str(text)
            .map_err(|error| ApiError::bad_request(format!("the body is no JSON: {error}")))
    }
}

/// Splits a query and undoes its escapes.
pub(crate) fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(name), unescape(value))
        })
        .collect()
}

/// Undoes percent-encoding; `+` is a space.
pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = || {
            text.get(at + 1..at + 3)
                .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        };
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' if hex().is_some() => {
                out.extend(hex());
                at += 2;
            }
            other => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_unescaped() {
        let query = parse_query("labelSelector=app%3Dx%2Cb+in+%28c%29&watch=true&broken=%zz");
        let pairs: Vec<(&str, &str)> = query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("labelSelector", "app=x,b in (c)"),
                ("watch", "true"),
                ("broken", "%zz")
            ]
        );
    }
}
