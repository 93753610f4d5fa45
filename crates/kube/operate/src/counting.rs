use std::{
    collections::BTreeMap,
    fmt::Write as _,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use howdah_clock::now;
use howdah_http::timeout_at;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use parking_lot::Mutex;
use tower::{BoxError, Layer, Service};

use crate::requests::{Asked, asked};

/// A request whose answer is not there as a whole in this time has failed. A watch's answer begins in it, and goes on.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often what was asked of the API, and what it answered (0: nothing).
#[derive(Default)]
pub(crate) struct Requests(Mutex<BTreeMap<(Asked, u16), u64>>);

impl Requests {
    fn count(&self, asked: Asked, code: u16) {
        *self.0.lock().entry((asked, code)).or_default() += 1;
    }

    /// In Prometheus' text format.
    pub(crate) fn prometheus(&self) -> String {
        let name = "howdah_operator_api_requests_total";
        let mut out = format!(
            "# HELP {name} Requests to the Kubernetes API, as rules of access name them; code 0: without an answer.\n\
             # TYPE {name} counter\n"
        );
        for ((asked, code), count) in self.0.lock().iter() {
            let _ = writeln!(
                out,
                "{name}{{verb=\"{}\",group=\"{}\",resource=\"{}\",code=\"{code}\"}} {count}",
                asked.verb, asked.group, asked.resource
            );
        }
        out
    }
}

/// A client whose requests are counted and end.
pub(crate) fn client(config: Config, requests: &Arc<Requests>) -> anyhow::Result<Client> {
    let builder = ClientBuilder::try_from(config).context("the API server's address or certificates")?;
    Ok(builder.with_layer(&Counted(Arc::clone(requests))).build())
}

/// The body of an answer: a whole one, or that of a watch.
type Answered = UnsyncBoxBody<Bytes, BoxError>;

#[derive(Clone)]
struct Counted(Arc<Requests>);

impl<S> Layer<S> for Counted {
    type Service = CountedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountedService {
            inner,
            requests: Arc::clone(&self.0),
        }
    }
}

struct CountedService<S> {
    inner: S,
    requests: Arc<Requests>,
}

impl<S, B> Service<Request<Body>> for CountedService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answered>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answered>, BoxError>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let asked = asked(request.method(), request.uri());
        let goes_on = asked.verb == "watch";
        let mut count = Count {
            requests: Arc::clone(&self.requests),
            asked,
            code: 0,
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let deadline = now() + PATIENCE;
            let silent = || BoxError::from(format!("no answer in {} s", PATIENCE.as_secs()));
            let answer = timeout_at(deadline, answer).await.map_err(|_| silent())??;
            count.code = answer.status().as_u16();
            drop(count);
            let (head, body) = answer.into_parts();
            if goes_on {
                return Ok(Response::from_parts(
                    head,
                    body.map_err(Into::into).boxed_unsync(),
                ));
            }
            let whole = timeout_at(deadline, body.collect()).await.map_err(|_| silent())?;
            let whole = whole.map_err(Into::into)?.to_bytes();
            let whole = Full::new(whole).map_err(|never| match never {});
            Ok(Response::from_parts(head, whole.boxed_unsync()))
        })
    }
}

/// Counts its request when it is dropped: one that was given up is counted as one without an answer.
struct Count {
    requests: Arc<Requests>,
    asked: Asked,
    code: u16,
}

impl Drop for Count {
    fn drop(&mut self) {
        self.requests.count(std::mem::take(&mut self.asked), self.code);
    }
}
