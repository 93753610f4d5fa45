//! The house's HTTP below `object_store`: connections that are kept, with a limit on every wait.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use howdah_http::{ClientConfig, dial, timeout_at};
use hyper::{
    Request, Response, Uri,
    body::{Body, Frame, Incoming},
    client::conn::http1::{SendRequest, handshake},
    header::{HOST, HeaderValue},
    http::uri::PathAndQuery,
};
use hyper_util::rt::TokioIo;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
        HttpResponseBody, HttpService,
    },
};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a server may be silent: before its answer, and between two pieces of it.
const SILENCE: Duration = Duration::from_secs(30);

/// Bytes a second that a slow line carries: so much longer may a request take that has a body.
const SLOWEST: u64 = 64 << 10;

/// How long a kept connection may take for what is left of its last answer.
const READY: Duration = Duration::from_millis(200);

/// Connections that are kept for one server.
const KEPT: usize = 16;

type Sender = SendRequest<HttpRequestBody>;
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Makes clients for `object_store`.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    tls: Option<Arc<ClientConfig>>,
    idle: Mutex<BTreeMap<(bool, String, u16), Vec<Kept>>>,
}

/// A connection and the task that moves its bytes, which ends with it.
#[derive(Debug)]
struct Kept {
    sender: Sender,
    _driver: Driver,
}

#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connector {
    pub(crate) fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Connector {
            pool: Arc::new(Pool {
                tls,
                idle: Mutex::new(BTreeMap::new()),
            }),
        }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

fn failed(kind: HttpErrorKind, cause: impl Into<Cause>) -> HttpError {
    HttpError::new_boxed(kind, cause.into())
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let key = server(request.uri()).map_err(|error| failed(HttpErrorKind::Unknown, error))?;
        let mut request = by_path(request)?;
        // A kept connection may have been closed by the server: then nothing was sent, and the next one is tried.
        loop {
            let (mut kept, is_new) = match self.pool.take(&key) {
                Some(kept) => (kept, false),
                None => (self.pool.open(&key).await?, true),
            };
            if !is_new
                && !matches!(
                    timeout_at(howdah_clock::now() + READY, kept.sender.ready()).await,
                    Ok(Ok(()))
                )
            {
                continue;
            }
            let body = u64::try_from(request.body().content_length()).unwrap_or(u64::MAX);
            let deadline = howdah_clock::now() + SILENCE + Duration::from_secs(body / SLOWEST);
            match timeout_at(deadline, kept.sender.try_send_request(request)).await {
                Ok(Ok(response)) => return Ok(self.answer(key, kept, response)),
                Ok(Err(mut error)) => match error.take_message() {
                    Some(again) if !is_new => request = again,
                    _ => return Err(failed(kind_of(error.error()), error.into_error())),
                },
                Err(_) => {
                    return Err(failed(
                        HttpErrorKind::Timeout,
                        format!("no answer within {} s", SILENCE.as_secs() + body / SLOWEST),
                    ));
                }
            }
        }
    }
}

fn kind_of(error: &hyper::Error) -> HttpErrorKind {
    if error.is_canceled() {
        HttpErrorKind::Connect
    } else if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_parse() {
        HttpErrorKind::Decode
    } else {
        HttpErrorKind::Interrupted
    }
}

/// TLS or not, host, port.
fn server(uri: &Uri) -> Result<(bool, String, u16), String> {
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        other => return Err(format!("neither http nor https: {}", other.unwrap_or_default())),
    };
    let host = uri.host().ok_or("an address without a host")?;
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    Ok((secure, host.trim_matches(['[', ']']).to_owned(), port))
}

/// HTTP/1.1 sends the path, and the host in a header of its own.
fn by_path(request: HttpRequest) -> Result<Request<HttpRequestBody>, HttpError> {
    let (mut parts, body) = request.into_parts();
    if !parts.headers.contains_key(HOST) {
        let authority = parts
            .uri
            .authority()
            .map(hyper::http::uri::Authority::as_str)
            .unwrap_or_default();
        let host = HeaderValue::from_str(authority).map_err(|error| failed(HttpErrorKind::Unknown, error))?;
        parts.headers.insert(HOST, host);
    }
    let path = parts.uri.path_and_query().cloned();
    parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Ok(Request::from_parts(parts, body))
}

impl Pool {
    fn take(&self, key: &(bool, String, u16)) -> Option<Kept> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(key)?;
        while let Some(connection) = kept.pop() {
            if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    async fn open(&self, (secure, host, port): &(bool, String, u16)) -> Result<Kept, HttpError> {
        let tls = match (secure, &self.tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls),
            (true, None) => {
                return Err(failed(
                    HttpErrorKind::Unknown,
                    "no TLS settings for an https address",
                ));
            }
        };
        let opening = async {
            let stream = dial(host, *port, tls).await.map_err(|cause| cause.to_string())?;
            Ok::<_, Cause>(handshake(TokioIo::new(stream)).await?)
        };
        let opened = timeout_at(howdah_clock::now() + CONNECT, opening).await;
        let (sender, connection) = opened
            .map_err(|_| {
                let reason = format!("no connection to {host}:{port} within {} s", CONNECT.as_secs());
                failed(HttpErrorKind::Connect, reason)
            })?
            .map_err(|error| {
                let reason = format!("{host}:{port}: {error}");
                // A certificate does not become right by trying again.
                let is_final = reason.contains("invalid peer certificate");
                let kind = if is_final {
                    HttpErrorKind::Unknown
                } else {
                    HttpErrorKind::Connect
                };
                failed(kind, reason)
            })?;
        let driver = Driver(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "HTTP connection ended");
            }
        }));
        Ok(Kept {
            sender,
            _driver: driver,
        })
    }

    fn keep(&self, key: (bool, String, u16), kept: Kept) {
        if kept.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        let of = idle.entry(key).or_default();
        if of.len() < KEPT {
            of.push(kept);
        }
    }
}

impl Connector {
    fn answer(&self, key: (bool, String, u16), kept: Kept, response: Response<Incoming>) -> HttpResponse {
        let (parts, body) = response.into_parts();
        let body = Answer {
            body,
            silent_until: Box::pin(tokio::time::sleep(SILENCE)),
            kept: Some(kept),
            key,
            pool: Arc::downgrade(&self.pool),
        };
        HttpResponse::from_parts(parts, HttpResponseBody::new(body))
    }
}

/// An answer's body. Read to its end it gives its connection back; dropped before, it closes it.
struct Answer {
    body: Incoming,
    silent_until: Pin<Box<tokio::time::Sleep>>,
    kept: Option<Kept>,
    key: (bool, String, u16),
    pool: Weak<Pool>,
}

impl Drop for Answer {
    /// Answers without a body are dropped unread.
    fn drop(&mut self) {
        if self.body.is_end_stream()
            && let (Some(kept), Some(pool)) = (self.kept.take(), self.pool.upgrade())
        {
            pool.keep(self.key.clone(), kept);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            ready!(self.silent_until.as_mut().poll(context));
            self.kept = None;
            let reason = format!("the answer stopped for {} s", SILENCE.as_secs());
            return Poll::Ready(Some(Err(failed(HttpErrorKind::Timeout, reason))));
        };
        match frame {
            Some(Ok(frame)) => {
                let until = tokio::time::Instant::now() + SILENCE;
                self.silent_until.as_mut().reset(until);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.kept = None;
                Poll::Ready(Some(Err(failed(HttpErrorKind::Interrupted, error))))
            }
            None => {
                if let (Some(kept), Some(pool)) = (self.kept.take(), self.pool.upgrade()) {
                    pool.keep(self.key.clone(), kept);
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Also an empty body is polled to its end, so that its connection comes back.
        false
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
