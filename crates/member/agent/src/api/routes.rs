use std::time::Duration;

use bytes::Bytes;
use howdah_clock::now;
use howdah_config::VerifyClient;
use howdah_http::{Peer, Reply, basic_auth, timeout_at};
use howdah_member_api::Query;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SERVER, WWW_AUTHENTICATE},
};
use serde_json::{Map, Value};

use super::{Api, allowlist, answer::Answer, failsafe, read, switchover, write};

/// A dynamic configuration is a few kilobytes.
const LARGEST_BODY: usize = 1024 * 1024;

/// And comes at once. Who sends it piece by piece keeps a place that a health check needs.
const BODY_PATIENCE: Duration = Duration::from_secs(5);

/// Answers one request.
pub(crate) async fn route(api: &Api, request: Request<Incoming>, peer: Peer) -> Reply {
    let http10 = request.version() == Version::HTTP_10;
    let method = request.method().clone();
    let answer = dispatch(api, request, peer).await;
    let extra = api.config();
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("howdah"));
    for (name, value) in &extra.restapi.extra_headers {
        // Both were checked with the configuration.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.insert(name, value);
        }
    }
    if answer.status == 401 {
        headers.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"Patroni\""),
        );
    }
    if let Some(lsn) = answer.lsn {
        headers.insert(HeaderName::from_static("lsn"), HeaderValue::from(lsn));
    }
    // What Patroni serves is HTTP/1.0; load balancers that count on the close get it.
    if http10 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if !matches!(method, Method::HEAD | Method::OPTIONS) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.kind));
        *response.body_mut() = Full::new(Bytes::from(answer.body));
    }
    response
}

async fn dispatch(api: &Api, request: Request<Incoming>, peer: Peer) -> Answer {
    let path = request.uri().path().to_owned();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let first = path
        .trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    match *request.method() {
        Method::GET => read::get(api, &path, &first, &query).await,
        // Only the health checks exist in these forms; every other path is judged as one.
        Method::HEAD | Method::OPTIONS => Answer::bare(read::is_healthy(api, &path, &query)),
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
            if !allowlist::allows(api, peer.address.ip()).await {
                return Answer::text(403, "Access is denied");
            }
            if let Some(refused) = refuse(api, request.headers(), peer) {
                return refused;
            }
            let method = request.method().clone();
            let has_length = request.headers().contains_key(hyper::header::CONTENT_LENGTH);
            match body(request).await {
                Ok(body) => unsafe_verb(api, &method, &first, body, has_length).await,
                Err(answer) => answer,
            }
        }
        _ => Answer::text(501, "Unsupported method"),
    }
}

async fn unsafe_verb(
    api: &Api,
    method: &Method,
    first: &str,
    body: Option<Map<String, Value>>,
    has_length: bool,
) -> Answer {
    let optional = || body.clone().unwrap_or_default();
    let needs_body = matches!(
        (method, first),
        (&Method::POST, "switchover" | "failover") | (&Method::PATCH | &Method::PUT, "config")
    );
    if needs_body && !has_length {
        return Answer::text(411, "Length Required");
    }
    if needs_body && body.as_ref().is_none_or(Map::is_empty) {
        return Answer::text(400, "the body is empty: send a JSON object with the values");
    }
    match (method, first) {
        (&Method::PATCH, "config") => write::patch_config(api, &optional()).await,
        (&Method::PUT, "config") => write::put_config(api, &optional()).await,
        (&Method::POST, "reload") => write::reload(api).await,
        (&Method::POST, "restart") => write::restart(api, &optional()).await,
        (&Method::DELETE, "restart") => write::flush_restart(api).await,
        (&Method::POST, "reinitialize") => write::reinitialize(api, &optional()).await,
        (&Method::POST, "switchover") => switchover::post(api, &optional(), true).await,
        (&Method::POST, "failover") => switchover::post(api, &optional(), false).await,
        (&Method::DELETE, "switchover") => switchover::delete(api).await,
        (&Method::POST, "failsafe") => failsafe::promise(api, &optional()).await,
        (&Method::POST, "citus" | "mpp") => Answer::text(501, "Citus is not supported by this version"),
        _ => Answer::text(501, format!("Unsupported method ('{method}')")),
    }
}

/// Who may change something: with client certificates, every holder of one; with a password, everyone who knows it.
fn refuse(api: &Api, headers: &HeaderMap, peer: Peer) -> Option<Answer> {
    let config = &api.config().restapi;
    let wants_certificate = config
        .tls
        .as_ref()
        .is_some_and(|tls| tls.verify_client != VerifyClient::None);
    if wants_certificate && !peer.has_certificate {
        return Some(Answer::text(403, "client certificate required"));
    }
    let (user, password) = config.authentication.as_ref()?;
    let wanted = basic_auth(user, password);
    let given = headers
        .get(AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    match given {
        b"" => Some(Answer::text(401, "no auth header received")),
        given if same_bytes(given, wanted.as_bytes()) => None,
        _ => Some(Answer::text(401, "not authenticated")),
    }
}

/// Compares without telling by its time where the difference is.
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

async fn body(request: Request<Incoming>) -> Result<Option<Map<String, Value>>, Answer> {
    let body = Limited::new(request.into_body(), LARGEST_BODY);
    let bytes = match timeout_at(now() + BODY_PATIENCE, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return Err(Answer::text(400, format!("the body cannot be read: {error}"))),
        Err(_) => return Err(Answer::text(408, "the body did not come in time")),
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(_) => Err(Answer::text(400, "a JSON object is required")),
        Err(error) => Err(Answer::text(400, format!("the body is not JSON: {error}"))),
    }
}
