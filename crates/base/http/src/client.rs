use std::sync::Arc;

use bytes::Bytes;
use howdah_types::BootTime;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::task::JoinHandle;

use crate::{HttpError, Url, dial::dial, error::Cause, timeout_at};

/// Makes connections. Cheap to clone.
#[derive(Clone, Default)]
pub struct Client {
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<String>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// A header's value; `None` if it is absent, or no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Where a redirection leads: an address, or a path on the same server.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.header("location")
    }

    /// The body as text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The largest answer that is kept whole. A list of all objects of a large Kubernetes is below it; a server that sends more
/// must not take the memory of this process.
const LARGEST: usize = 256 << 20;

const JSON: &str = "application/json";

/// One keep-alive connection to one server.
pub struct Connection {
    url: Url,
    sender: SendRequest<Full<Bytes>>,
    driver: Arc<Driver>,
    authorization: Option<String>,
}

/// A body that is read as it comes.
pub struct StreamBody {
    body: Incoming,
    headers: HeaderMap,
    url: String,
    /// The connection that it comes over.
    _driver: Arc<Driver>,
}

/// The task that moves a connection's bytes. It ends with the connection and the bodies that come over it.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// A client that speaks TLS with these settings to `https` addresses.
    #[must_use]
    pub fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Client {
            tls,
            authorization: None,
        }
    }

    /// Sends this `Authorization` header with every request.
    #[must_use]
    pub fn with_authorization(mut self, value: Option<String>) -> Self {
        self.authorization = value;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// Always [`HttpError::NotSent`].
    pub async fn connect(&self, url: &Url, deadline: BootTime) -> Result<Connection, HttpError> {
        let not_sent = |cause: Cause| HttpError::NotSent {
            url: url.base(),
            cause,
        };
        match timeout_at(deadline, self.open(url)).await {
            Ok(Ok((sender, driver))) => Ok(Connection {
                url: url.clone(),
                sender,
                driver: Arc::new(driver),
                authorization: self.authorization.clone(),
            }),
            Ok(Err(cause)) => Err(not_sent(cause)),
            Err(_) => Err(not_sent("no connection in time".into())),
        }
    }

    async fn open(&self, url: &Url) -> Result<(SendRequest<Full<Bytes>>, Driver), Cause> {
        let tls = if url.secure {
            Some(self.tls.as_ref().ok_or("no TLS settings for an https address")?)
        } else {
            None
        };
        start(TokioIo::new(dial(&url.host, url.port, tls).await?)).await
    }

    /// One request on a connection of its own.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn request(
        &self,
        method: Method,
        url: &Url,
        body: Option<Bytes>,
        deadline: BootTime,
    ) -> Result<Response, HttpError> {
        self.connect(url, deadline)
            .await?
            .request(method, &url.path, body, deadline)
            .await
    }
}

async fn start<S>(io: TokioIo<S>) -> Result<(SendRequest<Full<Bytes>>, Driver), Cause>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(io).await?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "HTTP connection ended");
        }
    });
    Ok((sender, Driver(driver)))
}

impl Connection {
    /// Whether another request can be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        deadline: BootTime,
    ) -> Result<Response, HttpError> {
        self.request_with(method, path, JSON, body, deadline).await
    }

    /// Sends a request with a body of another type than JSON and reads the whole answer.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn request_with(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<Bytes>,
        deadline: BootTime,
    ) -> Result<Response, HttpError> {
        let (status, stream) = self.send(method, path, content_type, body, deadline).await?;
        let StreamBody {
            body,
            headers,
            url,
            _driver,
        } = stream;
        match timeout_at(deadline, Limited::new(body, LARGEST).collect()).await {
            Ok(Ok(body)) => Ok(Response {
                status,
                headers,
                body: body.to_bytes(),
            }),
            Ok(Err(error)) => Err(HttpError::Lost {
                url,
                cause: error.into(),
            }),
            Err(_) => Err(HttpError::Timeout { url }),
        }
    }

    /// Sends a request and returns as soon as the answer begins.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn open_stream(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        deadline: BootTime,
    ) -> Result<(u16, StreamBody), HttpError> {
        self.send(method, path, JSON, body, deadline).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<Bytes>,
        deadline: BootTime,
    ) -> Result<(u16, StreamBody), HttpError> {
        let url = format!("{}{path}", self.url.base());
        let path = if path.is_empty() { "/" } else { path };
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.url.authority());
        if let Some(value) = &self.authorization {
            builder = builder.header(AUTHORIZATION, value);
        }
        if body.is_some() {
            builder = builder.header(CONTENT_TYPE, content_type);
        }
        let request = builder
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| HttpError::NotSent {
                url: url.clone(),
                cause: error.into(),
            })?;
        match timeout_at(deadline, self.sender.ready()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                return Err(HttpError::NotSent {
                    url,
                    cause: error.into(),
                });
            }
            Err(_) => {
                return Err(HttpError::NotSent {
                    url,
                    cause: "the connection is busy".into(),
                });
            }
        }
        match timeout_at(deadline, self.sender.send_request(request)).await {
            Ok(Ok(mut response)) => Ok((
                response.status().as_u16(),
                StreamBody {
                    headers: std::mem::take(response.headers_mut()),
                    body: response.into_body(),
                    url,
                    _driver: Arc::clone(&self.driver),
                },
            )),
            Ok(Err(error)) if error.is_canceled() => Err(HttpError::NotSent {
                url,
                cause: error.into(),
            }),
            Ok(Err(error)) => Err(HttpError::Lost {
                url,
                cause: error.into(),
            }),
            Err(_) => Err(HttpError::Timeout { url }),
        }
    }
}

impl StreamBody {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    return Err(HttpError::Lost {
                        url: self.url.clone(),
                        cause: error.into(),
                    });
                }
            }
        }
    }
}
