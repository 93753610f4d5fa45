use std::path::Path;

use bytes::Bytes;
use howdah_dcs::StoreError;
use howdah_http::{Client, Connection, HttpError, TlsError, Url, client_tls};
use howdah_types::BootTime;
use serde_json::{Value, json};
use thiserror::Error;

/// Why the store cannot be set up from its configuration.
#[derive(Debug, Error)]
pub enum SetupError {
    /// An endpoint is not a URL.
    #[error(transparent)]
    Url(#[from] HttpError),
    /// A certificate is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Where etcd is and how to talk to it.
#[derive(Clone)]
pub struct Endpoints {
    urls: Vec<Url>,
    client: Client,
    auth: Option<(String, String)>,
}

impl Endpoints {
    /// Endpoints as `http[s]://host:port`, credentials, CA and client certificate.
    ///
    /// # Errors
    /// A URL or a certificate is unusable.
    pub fn new(
        endpoints: &[String],
        auth: Option<(String, String)>,
        cacert: Option<&Path>,
        client_cert: Option<(&Path, &Path)>,
    ) -> Result<Self, SetupError> {
        let urls = endpoints
            .iter()
            .map(|text| Url::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        let tls = if urls.iter().any(|url| url.secure) {
            Some(client_tls(cacert, client_cert, false)?)
        } else {
            None
        };
        Ok(Endpoints {
            urls,
            client: Client::new(tls),
            auth,
        })
    }
}

/// How a request to the gateway failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No endpoint has seen it.
    NotSent(String),
    /// It may have been carried out.
    Unknown(String),
    /// etcd said no.
    Error { code: u64, message: String },
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(reason) | Failure::Unknown(reason) => StoreError::Unreachable(reason),
            Failure::Error {
                code: 7 | 16,
                message,
            } => StoreError::Auth(message),
            Failure::Error { message, .. } => StoreError::Protocol(message),
        }
    }
}

/// Connections to one etcd, used by one task at a time.
pub(crate) struct Transport {
    endpoints: Endpoints,
    current: usize,
    connection: Option<Connection>,
    token: Option<String>,
}

/// gRPC's "not found": the lease does not exist.
pub(crate) const NOT_FOUND: u64 = 5;

impl Transport {
    pub(crate) fn new(endpoints: Endpoints) -> Self {
        Transport {
            endpoints,
            current: 0,
            connection: None,
            token: None,
        }
    }

    /// Sends one request. An endpoint that cannot be reached is passed over; one that may have acted is not.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        body: &Value,
        deadline: BootTime,
    ) -> Result<Value, Failure> {
        let mut refreshed = false;
        loop {
            let answer = self.post_once(path, body, deadline).await;
            match answer {
                Err(Failure::Error { code, message })
                    if !refreshed && self.token_is_stale(code, &message) =>
                {
                    refreshed = true;
                    self.token = None;
                    self.connection = None;
                }
                other => return other,
            }
        }
    }

    /// Begins an endless answer.
    pub(crate) async fn stream(
        &mut self,
        path: &str,
        body: &Value,
        deadline: BootTime,
    ) -> Result<howdah_http::StreamBody, Failure> {
        self.connect(deadline).await?;
        let Some(connection) = self.connection.as_mut() else {
            return Err(Failure::NotSent("no connection".into()));
        };
        let opened = connection
            .open_stream(
                hyper_post(),
                &format!("/v3{path}"),
                Some(to_bytes(body)),
                deadline,
            )
            .await;
        match opened {
            Ok((200, stream)) => Ok(stream),
            Ok((status, _)) => Err(Failure::Error {
                code: u64::from(status),
                message: format!("status {status}"),
            }),
            Err(error) => {
                self.move_on();
                Err(failure(&error))
            }
        }
    }

    async fn post_once(&mut self, path: &str, body: &Value, deadline: BootTime) -> Result<Value, Failure> {
        let mut last = Failure::NotSent("no endpoint".into());
        for _ in 0..self.endpoints.urls.len().max(1) * 2 {
            if let Err(failure) = self.connect(deadline).await {
                // Refused credentials are refused everywhere, and a request without a token says less.
                let refused = matches!(failure, Failure::Error { .. });
                last = failure;
                if refused {
                    break;
                }
                if howdah_clock::now() >= deadline {
                    break;
                }
                continue;
            }
            let Some(connection) = self.connection.as_mut() else {
                break;
            };
            let path = format!("/v3{path}");
            match connection
                .request(hyper_post(), &path, Some(to_bytes(body)), deadline)
                .await
            {
                Ok(response) => {
                    let value: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
                    return self.result_of(response.status, value, &response.text());
                }
                Err(error) => {
                    let sent = !error.never_sent();
                    last = failure(&error);
                    if sent {
                        self.move_on();
                        break;
                    }
                    // A keep-alive connection that was closed meanwhile: try again, on the same endpoint first.
                    self.connection = None;
                }
            }
        }
        Err(last)
    }

    fn result_of(&mut self, status: u16, value: Value, text: &str) -> Result<Value, Failure> {
        if status == 200 && value.get("error").is_none() {
            return Ok(value);
        }
        let error = value
            .get("error")
            .filter(|error| error.is_object())
            .unwrap_or(&value);
        let code = error
            .get("code")
            .or_else(|| error.get("grpc_code"))
            .and_then(Value::as_u64)
            .unwrap_or(0);
        let message = error
            .get("message")
            .or_else(|| error.get("error"))
            .and_then(Value::as_str)
            .unwrap_or(text)
            .to_owned();
        match code {
            // Cancelled, unknown, deadline exceeded, internal, unavailable: it may have been carried out.
            0 | 1 | 2 | 4 | 13 | 14 => {
                self.move_on();
                Err(Failure::Unknown(message))
            }
            _ => Err(Failure::Error { code, message }),
        }
    }

    fn token_is_stale(&self, code: u64, message: &str) -> bool {
        // Invalid argument (no user given), unauthenticated, permission denied, with auth switched on.
        self.endpoints.auth.is_some()
            && (code == 16
                || code == 7
                || message.contains("user name is empty")
                || message.contains("token"))
    }

    fn move_on(&mut self) {
        self.connection = None;
        self.current = (self.current + 1) % self.endpoints.urls.len().max(1);
    }

    async fn connect(&mut self, deadline: BootTime) -> Result<(), Failure> {
        if self.connection.as_ref().is_some_and(Connection::is_open) {
            return Ok(());
        }
        let url = self
            .endpoints
            .urls
            .get(self.current)
            .cloned()
            .ok_or_else(|| Failure::NotSent("no endpoint is configured".into()))?;
        // One dead endpoint must not use up the time of the living ones.
        let now = howdah_clock::now();
        let share = now + now.until(deadline) / u32::try_from(self.endpoints.urls.len()).unwrap_or(1).max(1);
        let client = self
            .endpoints
            .client
            .clone()
            .with_authorization(self.token.clone());
        match client.connect(&url, share).await {
            Ok(connection) => self.connection = Some(connection),
            Err(error) => {
                self.move_on();
                return Err(failure(&error));
            }
        }
        if self.token.is_none() && self.endpoints.auth.is_some() {
            self.authenticate(&url, deadline).await?;
        }
        Ok(())
    }

    async fn authenticate(&mut self, url: &Url, deadline: BootTime) -> Result<(), Failure> {
        let Some((name, password)) = self.endpoints.auth.clone() else {
            return Ok(());
        };
        let Some(connection) = self.connection.as_mut() else {
            return Ok(());
        };
        let body = json!({"name": name, "password": password});
        let answer = connection
            .request(
                hyper_post(),
                "/v3/auth/authenticate",
                Some(to_bytes(&body)),
                deadline,
            )
            .await
            .map_err(|error| Failure::NotSent(error.to_string()))?;
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let Some(token) = value["token"].as_str() else {
            let message = value["message"]
                .as_str()
                .unwrap_or("authentication refused")
                .to_owned();
            self.connection = None;
            return Err(Failure::Error { code: 16, message });
        };
        self.token = Some(token.to_owned());
        let client = self
            .endpoints
            .client
            .clone()
            .with_authorization(self.token.clone());
        self.connection = Some(
            client
                .connect(url, deadline)
                .await
                .map_err(|error| failure(&error))?,
        );
        Ok(())
    }
}

fn hyper_post() -> howdah_http::Method {
    howdah_http::Method::POST
}

fn to_bytes(body: &Value) -> Bytes {
    Bytes::from(body.to_string())
}

fn failure(error: &HttpError) -> Failure {
    if error.never_sent() {
        Failure::NotSent(error.to_string())
    } else {
        Failure::Unknown(error.to_string())
    }
}
