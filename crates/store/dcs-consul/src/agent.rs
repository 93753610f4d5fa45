use std::path::Path;

use bytes::Bytes;
use howdah_dcs::StoreError;
use howdah_http::{Client, Connection, HttpError, Method, TlsError, Url, client_tls};
use howdah_types::BootTime;
use serde_json::Value;
use thiserror::Error;

/// Why Consul cannot be used as it is configured.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The address is not a URL.
    #[error(transparent)]
    Url(#[from] HttpError),
    /// A certificate is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Where Consul's agent is and how to talk to it.
#[derive(Clone)]
pub struct Agent {
    url: Url,
    client: Client,
    datacenter: Option<String>,
}

impl Agent {
    /// The agent at `http[s]://host:port`, the ACL token, the data center if it is not the agent's own, the CA, our certificate
    /// and key, and whether the server's certificate is checked.
    ///
    /// # Errors
    /// The URL or a certificate is unusable.
    pub fn new(
        url: &str,
        token: Option<&str>,
        datacenter: Option<&str>,
        cacert: Option<&Path>,
        client_cert: Option<(&Path, &Path)>,
        verify: bool,
    ) -> Result<Self, SetupError> {
        let url = Url::parse(url)?;
        let tls = if url.secure {
            Some(client_tls(cacert, client_cert, !verify)?)
        } else {
            None
        };
        let authorization = token.map(|token| format!("Bearer {token}"));
        Ok(Agent {
            url,
            client: Client::new(tls).with_authorization(authorization),
            datacenter: datacenter.map(str::to_owned),
        })
    }
}

/// How a request failed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// Consul has not seen it.
    #[error("{0}")]
    NotSent(String),
    /// It may have been carried out.
    #[error("{0}")]
    Unknown(String),
    /// It was refused, and nothing has happened.
    #[error("Consul refuses: {status} {text}")]
    Refused { status: u16, text: String },
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(why) | Failure::Unknown(why) => StoreError::Unreachable(why),
            Failure::Refused {
                status: 401 | 403,
                text,
            } => StoreError::Auth(text),
            refused @ Failure::Refused { .. } => StoreError::Protocol(refused.to_string()),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) text: String,
    /// Rights are missing for a part of what was asked for, which is left out.
    pub(crate) filtered: bool,
    /// Consul's revision of what was read.
    pub(crate) index: u64,
}

/// One connection to the agent, used by one task at a time.
pub(crate) struct Line {
    agent: Agent,
    connection: Option<Connection>,
}

impl Line {
    pub(crate) fn new(agent: Agent) -> Self {
        Line {
            agent,
            connection: None,
        }
    }

    /// One request. 404 and 409 are answers; any other status but 200 is a failure.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        deadline: BootTime,
    ) -> Result<Answered, Failure> {
        let path = match &self.agent.datacenter {
            Some(dc) => format!("{path}{}dc={dc}", if path.contains('?') { '&' } else { '?' }),
            None => path.to_owned(),
        };
        let body = body.map(|body| Bytes::from(body.to_string()));
        // A connection that the agent has closed meanwhile is no trouble of its: one more try.
        let mut again = self.connection.is_some();
        loop {
            let connection = match &mut self.connection {
                Some(connection) if connection.is_open() => connection,
                _ => {
                    again = false;
                    let opened = self.agent.client.connect(&self.agent.url, deadline).await;
                    self.connection
                        .insert(opened.map_err(|error| Failure::NotSent(error.to_string()))?)
                }
            };
            let response = connection
                .request(method.clone(), &path, body.clone(), deadline)
                .await;
            match response {
                Ok(response) => {
                    let text = response.text();
                    let body = serde_json::from_str::<Value>(&text);
                    return match (response.status, body) {
                        (200, Err(_)) if !text.trim().is_empty() => Err(Failure::Unknown(
                            "an answer that is not Consul's: is its address that of another server?".into(),
                        )),
                        (status @ (200 | 404 | 409), body) => Ok(Answered {
                            status,
                            body: body.unwrap_or(Value::Null),
                            filtered: response.header("x-consul-results-filtered-by-acls") == Some("true"),
                            index: response
                                .header("x-consul-index")
                                .and_then(|index| index.parse().ok())
                                .unwrap_or(0),
                            text,
                        }),
                        // What Consul says of a request that its servers have looked at and not carried out.
                        (500, _)
                            if text.contains("nvalid session") || text.contains("Invalid Session TTL") =>
                        {
                            Err(Failure::Refused { status: 500, text })
                        }
                        (status @ (429 | 500..), _) => {
                            Err(Failure::Unknown(format!("{status} {}", text.trim())))
                        }
                        (status, _) => Err(Failure::Refused { status, text }),
                    };
                }
                Err(error) => {
                    self.connection = None;
                    if error.never_sent() && again {
                        continue;
                    }
                    return Err(if error.never_sent() {
                        Failure::NotSent(error.to_string())
                    } else {
                        Failure::Unknown(error.to_string())
                    });
                }
            }
        }
    }
}
