use std::time::Duration;

use howdah_clock::now;
use howdah_http::{Client, Method, Url, client_tls, sleep_until, timeout_at};
use serde_json::Value;
use tokio::net::TcpStream;

/// Between two looks at a container that has not been ready yet.
const STARTS: Duration = Duration::from_millis(200);

/// A probe of a container, with Kubernetes' defaults.
pub(super) struct Probe {
    target: Target,
    delay: Duration,
    period: Duration,
    patience: Duration,
    successes: u64,
    failures: u64,
}

enum Target {
    Http(Url),
    Tcp(String, u16),
}

impl Probe {
    /// `None` if there is no such probe, or one of a kind that is not offered (exec, grpc): it counts as passed.
    pub(super) fn of(probe: &Value, address: &str) -> Option<Self> {
        let port = |value: &Value| value["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let target = if let Some(port) = port(&probe["httpGet"]) {
            let scheme = probe["httpGet"]["scheme"]
                .as_str()
                .unwrap_or("HTTP")
                .to_lowercase();
            let path = probe["httpGet"]["path"].as_str().unwrap_or("/");
            Target::Http(Url::parse(&format!("{scheme}://{address}:{port}{path}")).ok()?)
        } else {
            Target::Tcp(address.to_owned(), port(&probe["tcpSocket"])?)
        };
        let seconds = |key: &str, default: u64| Duration::from_secs(probe[key].as_u64().unwrap_or(default));
        Some(Probe {
            target,
            delay: seconds("initialDelaySeconds", 0),
            period: seconds("periodSeconds", 10).max(Duration::from_secs(1)),
            patience: seconds("timeoutSeconds", 1),
            successes: probe["successThreshold"].as_u64().unwrap_or(1),
            failures: probe["failureThreshold"].as_u64().unwrap_or(3),
        })
    }

    async fn passes(&self) -> bool {
        let deadline = now() + self.patience;
        match &self.target {
            Target::Http(url) => client(url)
                .request(Method::GET, url, None, deadline)
                .await
                .is_ok_and(|response| (200..400).contains(&response.status)),
            Target::Tcp(address, port) => {
                let connect = TcpStream::connect((address.as_str(), *port));
                matches!(timeout_at(deadline, connect).await, Ok(Ok(_)))
            }
        }
    }

    /// Waits until the probe says something else than `passing`.
    pub(super) async fn change_from(&self, passing: bool, begin: bool) {
        if begin {
            sleep_until(now() + self.delay).await;
        }
        let wanted = if passing { self.failures } else { self.successes };
        let mut count = 0;
        loop {
            count = if self.passes().await == passing {
                0
            } else {
                count + 1
            };
            if count >= wanted {
                return;
            }
            // A kubelet would wait for a whole period; a container that starts is ready in less.
            let starts = begin && !passing;
            let pause = if starts {
                self.period.min(STARTS)
            } else {
                self.period
            };
            sleep_until(now() + pause).await;
        }
    }
}

/// As a kubelet, without a look at the certificate.
fn client(url: &Url) -> Client {
    let tls = url.secure.then(|| client_tls(None, None, true).ok()).flatten();
    Client::new(tls)
}

/// Waits for a change, or for ever if there is no probe.
pub(super) async fn change(probe: Option<&Probe>, passing: bool, begin: bool) {
    match probe {
        Some(probe) => probe.change_from(passing, begin).await,
        None => std::future::pending().await,
    }
}
