use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use howdah_clock::now;
use howdah_http::{Client, Limits, Method, Reply, Url, serve};
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use tokio::{net::TcpListener, sync::watch};

use crate::routes::{Answer, Shown, answer};

pub(crate) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{address} cannot be listened on (--listen, api_port)"))
}

/// The query of a request that another replica hands on.
const DIRECT: &str = "direct";

/// The replica that leads answers in this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves health, metrics and the debug API until `stop` says true.
pub(crate) async fn run(listener: TcpListener, shown: Arc<Shown>, stop: watch::Receiver<bool>) {
    let (_plain, tls) = watch::channel(None);
    let limits = Limits {
        connections: 64,
        from_one_address: 32,
        ..Limits::default()
    };
    let handler = move |request: Request<Incoming>, _| {
        let shown = Arc::clone(&shown);
        async move {
            let authorization = request.headers().get(header::AUTHORIZATION);
            let authorization = authorization.and_then(|value| value.to_str().ok());
            let uri = request.uri();
            let answer = answer(&shown, request.method(), uri.path(), authorization);
            // A replica that was asked by another one does not ask a third.
            let holder = answer.holder.clone().filter(|_| uri.query() != Some(DIRECT));
            match holder {
                Some(holder) => forward(&holder, uri.path(), authorization)
                    .await
                    .unwrap_or_else(|| reply(answer)),
                None => reply(answer),
            }
        }
    };
    serve(listener, limits, tls, stop, handler).await;
}

/// Asks the replica that leads. `None`: it does not answer.
async fn forward(holder: &str, path: &str, authorization: Option<&str>) -> Option<Reply> {
    let url = Url::parse(&format!("http://{holder}{path}?{DIRECT}")).ok()?;
    let client = Client::default().with_authorization(authorization.map(str::to_owned));
    let answered = client
        .request(Method::GET, &url, None, now() + PATIENCE)
        .await
        .ok()?;
    Some(reply(Answer {
        status: StatusCode::from_u16(answered.status).ok()?,
        kind: "application/json",
        body: answered.text(),
        holder: None,
    }))
}

fn reply(answer: Answer) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(answer.body)));
    *reply.status_mut() = answer.status;
    let kind = header::HeaderValue::from_static(answer.kind);
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}
