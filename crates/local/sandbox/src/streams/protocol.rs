use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{HeaderMap, Response, header};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::ApiError;

/// How the streams of a session are carried.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Protocol {
    /// Messages with a number before them; `closes`: the client can end one channel (v5).
    Channels { closes: bool },
    /// SPDY in the messages of a WebSocket.
    Tunnel,
    /// SPDY in place of HTTP.
    Spdy,
}

/// What a session is for decides which protocols it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Exec,
    Forward,
}

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// The protocol of a session and the answer that begins it.
///
/// # Errors
/// The client wants no upgrade, or one that is not known here.
pub(crate) fn negotiate(
    headers: &HeaderMap,
    purpose: Purpose,
) -> Result<(Protocol, hyper::http::response::Builder), ApiError> {
    let upgrade = words(headers, "upgrade");
    let switching = Response::builder()
        .status(101)
        .header(header::CONNECTION, "Upgrade");
    if upgrade.iter().any(|word| word.eq_ignore_ascii_case("websocket")) {
        let offered = words(headers, "sec-websocket-protocol");
        let known: &[(&str, Protocol)] = match purpose {
            Purpose::Exec => &[
                ("v5.channel.k8s.io", Protocol::Channels { closes: true }),
                ("v4.channel.k8s.io", Protocol::Channels { closes: false }),
            ],
            Purpose::Forward => &[
                (TUNNEL, Protocol::Tunnel),
                ("v4.channel.k8s.io", Protocol::Channels { closes: false }),
            ],
        };
        let (name, protocol) = choose(&offered, known)?;
        let key = headers
            .get("sec-websocket-key")
            .ok_or_else(|| ApiError::bad_request("a WebSocket needs a Sec-WebSocket-Key"))?;
        let answer = switching
            .header(header::UPGRADE, "websocket")
            .header("sec-websocket-accept", accept(key.as_bytes()))
            .header("sec-websocket-protocol", name);
        return Ok((protocol, answer));
    }
    if upgrade.iter().any(|word| word.eq_ignore_ascii_case("spdy/3.1")) {
        let offered = words(headers, "x-stream-protocol-version");
        let known = match purpose {
            Purpose::Exec => [("v4.channel.k8s.io", Protocol::Spdy)],
            Purpose::Forward => [("portforward.k8s.io", Protocol::Spdy)],
        };
        let (name, protocol) = choose(&offered, &known)?;
        let answer = switching
            .header(header::UPGRADE, "SPDY/3.1")
            .header("x-stream-protocol-version", name);
        return Ok((protocol, answer));
    }
    Err(ApiError::bad_request(
        "the path is for clients that upgrade the connection to WebSocket or SPDY/3.1, such as kubectl",
    ))
}

fn choose<'a>(offered: &[String], known: &'a [(&'a str, Protocol)]) -> Result<(&'a str, Protocol), ApiError> {
    let found = known
        .iter()
        .find(|(name, _)| offered.iter().any(|offer| offer == name));
    match found {
        Some((name, protocol)) => Ok((name, protocol.clone())),
        None => {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            Err(ApiError::bad_request(format!(
                "the sandbox speaks {} here; the client offers {}",
                names.join(" and "),
                if offered.is_empty() {
                    "nothing".to_owned()
                } else {
                    offered.join(", ")
                }
            )))
        }
    }
}

/// The words of a header that may come several times.
fn words(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

/// The answer to a WebSocket's key (RFC 6455, section 4.2.2).
fn accept(key: &[u8]) -> String {
    let text = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_best_known_protocol_is_taken() {
        let offers = headers(&[
            ("upgrade", "websocket"),
            ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        let (protocol, answer) = negotiate(&offers, Purpose::Exec).unwrap();
        assert_eq!(protocol, Protocol::Channels { closes: true });
        let answer = answer.body(()).unwrap();
        // The example of RFC 6455, section 1.3.
        assert_eq!(
            answer.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        let (protocol, _) = negotiate(&offers, Purpose::Forward).unwrap();
        assert_eq!(protocol, Protocol::Channels { closes: false });
        let offers = headers(&[
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v5.channel.k8s.io"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ]);
        let (protocol, _) = negotiate(&offers, Purpose::Exec).unwrap();
        assert_eq!(protocol, Protocol::Spdy);
    }

    #[test]
    fn what_is_not_known_is_named() {
        let offers = headers(&[
            ("upgrade", "websocket"),
            ("sec-websocket-protocol", "channel.k8s.io"),
        ]);
        let told = negotiate(&offers, Purpose::Exec).unwrap_err().message;
        assert!(
            told.contains("v5.channel.k8s.io") && told.contains("offers channel.k8s.io"),
            "{told}"
        );
        let told = negotiate(&HeaderMap::new(), Purpose::Exec).unwrap_err().message;
        assert!(told.contains("WebSocket"), "{told}");
    }
}
