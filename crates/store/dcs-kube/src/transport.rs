use std::{fs, path::PathBuf, sync::Arc};

use bytes::Bytes;
use howdah_dcs::StoreError;
use howdah_http::{
    Client, ClientConfig, Connection, HttpError, Method, StreamBody, TlsError, Url, client_tls,
};
use howdah_types::BootTime;
use serde_json::Value;
use thiserror::Error;

/// Why the API server cannot be used.
#[derive(Debug, Error)]
pub enum SetupError {
    /// Its address is not a URL.
    #[error(transparent)]
    Url(#[from] HttpError),
    /// A certificate is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// This process was not started in a pod.
    #[error(
        "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: a member with 'kubernetes:' as its store runs in \
         a pod"
    )]
    NotInPod,
}

/// Where the API server is and how to talk to it.
#[derive(Clone)]
pub struct Api {
    url: Url,
    client: Client,
    token: Token,
}

/// What a request says who it is by, besides a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// The certificate is all.
    None,
    /// A bearer token.
    Text(String),
    /// A file with a bearer token, read for each connection: Kubernetes replaces it while a pod runs.
    File(PathBuf),
}

impl Token {
    fn read(&self) -> Result<Option<String>, Failure> {
        match self {
            Token::None => Ok(None),
            Token::Text(token) => Ok(Some(token.clone())),
            // A file of a memory volume: microseconds.
            Token::File(path) => match fs::read_to_string(path) {
                Ok(token) => Ok(Some(token.trim().to_owned())),
                Err(error) => Err(Failure::NotDone(format!("{}: {error}", path.display()))),
            },
        }
    }
}

impl Api {
    /// The API server at `url`.
    #[must_use]
    pub fn new(url: Url, tls: Option<Arc<ClientConfig>>, token: Token) -> Self {
        Api {
            url,
            client: Client::new(tls),
            token,
        }
    }

    /// The API server of the pod that this process runs in, with the credentials of its ServiceAccount.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn in_pod(service_account: PathBuf, cacert: Option<PathBuf>) -> Result<Self, SetupError> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = var("KUBERNETES_SERVICE_HOST").ok_or(SetupError::NotInPod)?;
        let port = var("KUBERNETES_SERVICE_PORT").ok_or(SetupError::NotInPod)?;
        let cacert = cacert.unwrap_or_else(|| service_account.join("ca.crt"));
        Ok(Api {
            url: Url::parse(&format!("https://{host}:{port}"))?,
            client: Client::new(Some(client_tls(Some(&cacert), None, false)?)),
            token: Token::File(service_account.join("token")),
        })
    }
}

/// How a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was not carried out: it never reached the server, or the server turned it away.
    NotDone(String),
    /// It may have been carried out.
    Unknown(String),
    /// Another client was faster (409).
    Conflict,
    /// There is no such object (404).
    NotFound,
    /// We may not (401, 403).
    Forbidden(String),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotDone(reason) | Failure::Unknown(reason) => StoreError::Unreachable(reason),
            Failure::Forbidden(reason) => StoreError::Auth(reason),
            Failure::Conflict => StoreError::Protocol("a read was answered with a conflict".into()),
            Failure::NotFound => StoreError::Protocol("there is no such namespace".into()),
        }
    }
}

/// Connections to the API server, used by one task at a time.
pub(crate) struct Transport {
    api: Arc<Api>,
    connection: Option<Connection>,
}

/// How a body changes an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    /// A new object.
    Json,
    /// What differs; null deletes.
    MergePatch,
}

impl Transport {
    pub(crate) fn new(api: Arc<Api>) -> Self {
        Transport {
            api,
            connection: None,
        }
    }

    /// One request. A connection that turns out to be closed is opened again; a request that may have arrived is not
    /// sent twice.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        kind: Body,
        body: &Value,
        deadline: BootTime,
    ) -> Result<Value, Failure> {
        let mut tries = 0;
        loop {
            let fresh = self.connection.is_none();
            self.connect(deadline).await?;
            let Some(connection) = self.connection.as_mut() else {
                return Err(Failure::NotDone("no connection".into()));
            };
            let (content_type, bytes) = encode(kind, body);
            let answer = connection
                .request_with(method.clone(), path, content_type, bytes, deadline)
                .await;
            match answer {
                Ok(response) if response.status == 401 && !fresh && tries == 0 => {
                    // The token was replaced since this connection was opened.
                    tries += 1;
                    self.connection = None;
                }
                Ok(response) => {
                    return result_of(response.status, &response.body);
                }
                Err(error) if error.never_sent() && !fresh && tries == 0 => {
                    tries += 1;
                    self.connection = None;
                }
                Err(error) => {
                    self.connection = None;
                    return Err(failure(&error));
                }
            }
        }
    }

    /// Begins an endless answer.
    pub(crate) async fn stream(&mut self, path: &str, deadline: BootTime) -> Result<StreamBody, Failure> {
        self.connection = None;
        self.connect(deadline).await?;
        let Some(mut connection) = self.connection.take() else {
            return Err(Failure::NotDone("no connection".into()));
        };
        match connection.open_stream(Method::GET, path, None, deadline).await {
            Ok((200, stream)) => {
                self.connection = Some(connection);
                Ok(stream)
            }
            Ok((status, _)) => Err(result_of(status, b"").err().unwrap_or(Failure::NotFound)),
            Err(error) => Err(failure(&error)),
        }
    }

    async fn connect(&mut self, deadline: BootTime) -> Result<(), Failure> {
        if self.connection.as_ref().is_some_and(Connection::is_open) {
            return Ok(());
        }
        let token = self.api.token.read()?;
        let client = self
            .api
            .client
            .clone()
            .with_authorization(token.map(|token| format!("Bearer {token}")));
        match client.connect(&self.api.url, deadline).await {
            Ok(connection) => {
                self.connection = Some(connection);
                Ok(())
            }
            Err(error) => Err(failure(&error)),
        }
    }
}

fn encode(kind: Body, body: &Value) -> (&'static str, Option<Bytes>) {
    let content_type = match kind {
        Body::None => return ("", None),
        Body::Json => "application/json",
        Body::MergePatch => "application/merge-patch+json",
    };
    (content_type, Some(Bytes::from(body.to_string())))
}

fn result_of(status: u16, body: &[u8]) -> Result<Value, Failure> {
    if (200..300).contains(&status) {
        return serde_json::from_slice(body)
            .map_err(|error| Failure::Unknown(format!("an answer that is no JSON: {error}")));
    }
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = document["message"].as_str().unwrap_or("no message");
    let message = format!("status {status}: {message}");
    Err(match status {
        401 | 403 => Failure::Forbidden(message),
        404 => Failure::NotFound,
        409 => Failure::Conflict,
        // Turned away before anything was done: invalid, too many requests.
        400 | 405 | 415 | 422 | 429 => Failure::NotDone(message),
        _ => Failure::Unknown(message),
    })
}

fn failure(error: &HttpError) -> Failure {
    if error.never_sent() {
        Failure::NotDone(error.to_string())
    } else {
        Failure::Unknown(error.to_string())
    }
}
