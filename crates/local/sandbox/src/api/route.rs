use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::{Method, Response, body::Incoming};

use super::{
    Api,
    reply::{Body, Reply},
    request::{Request, parse_query, unescape},
};
use crate::{ApiError, resources::Resource};

/// The largest body that is read.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// A body that does not arrive in this time is given up.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The media type of OpenAPI v2 in protobuf; no bytes are a document without types.
const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// What a path of the API names.
pub(super) struct Target {
    pub(super) resource: Resource,
    /// Empty for all, and for resources without one.
    pub(super) namespace: String,
    pub(super) name: Option<String>,
    pub(super) sub: Option<String>,
}

/// Answers one request.
pub(crate) async fn route(api: &Api, request: hyper::Request<Incoming>) -> Response<Body> {
    let answered = match read(request).await {
        Ok(request) => answer(api, &request),
        Err(error) => Err(error),
    };
    answered
        .unwrap_or_else(|error| Reply::error(&error))
        .into_response()
}

async fn read(request: hyper::Request<Incoming>) -> Result<Request, ApiError> {
    let (head, body) = request.into_parts();
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect())
        .await
        .map_err(|_| ApiError::bad_request("the body did not arrive in time"))?
        .map_err(|_| ApiError::too_large())?;
    Ok(Request {
        method: head.method,
        path: head
            .uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .map(unescape)
            .collect(),
        query: parse_query(head.uri.query().unwrap_or_default()),
        headers: head.headers,
        body: collected.to_bytes().to_vec(),
    })
}

fn answer(api: &Api, request: &Request) -> Result<Reply, ApiError> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    if let ["healthz" | "livez" | "readyz", ..] = path.as_slice() {
        return Ok(Reply::text("ok"));
    }
    let user = api.authenticate(request)?;
    tracing::debug!(
        target: "howdah_sandbox::audit",
        user,
        verb = %request.method,
        path = request.path.join("/"),
        "request"
    );
    let method = &request.method;
    match path.as_slice() {
        ["version"] => Ok(Reply::json(&super::discovery::version())),
        ["api"] => Ok(api.core_versions(request)),
        ["apis"] => Ok(api.groups(request)),
        ["api", version] => api.group_version("", version),
        ["apis", group] => api.group(group),
        ["apis", group, version] => api.group_version(group, version),
        ["openapi", "v3"] => Ok(Reply::json(&api.openapi_index())),
        ["openapi", "v3", rest @ ..] => api.openapi(rest),
        // kubectl validates by it what has no v3 schema, such as a List. A document without types lets it pass, and the
        // object is checked when it comes.
        ["openapi", "v2"] => Ok(Reply::with(200, OPENAPI_V2, bytes::Bytes::new())),
        [
            "apis",
            "authorization.k8s.io" | "authentication.k8s.io",
            "v1",
            plural,
        ] if *method == Method::POST => super::review::create(request, plural, user),
        ["api", version, rest @ ..] => resource_request(api, request, user, "", version, rest),
        ["apis", group, version, rest @ ..] => resource_request(api, request, user, group, version, rest),
        _ => Err(ApiError::no_such_path(&request.path.join("/"))),
    }
}

impl Api {
    /// Who asks. Every process of the machine can connect to a loopback address, so the address proves nothing.
    fn authenticate(&self, request: &Request) -> Result<&str, ApiError> {
        let header = request.headers.get(hyper::header::AUTHORIZATION);
        let token = header
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(ApiError::unauthorized)?;
        let known = self
            .tokens
            .iter()
            .find(|(known, _)| same(known.as_bytes(), token.trim().as_bytes()));
        known
            .map(|(_, user)| user.as_str())
            .ok_or_else(ApiError::unauthorized)
    }
}

/// Compares in a time that does not tell where two texts differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

fn resource_request(
    api: &Api,
    request: &Request,
    user: &str,
    group: &str,
    version: &str,
    rest: &[&str],
) -> Result<Reply, ApiError> {
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..]
            if !rest.is_empty() && !matches!(rest, ["status" | "finalize"]) =>
        {
            (*namespace, rest)
        }
        rest => ("", rest),
    };
    let (plural, name, sub) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some((*name).to_owned()), None),
        [plural, name, sub] => (*plural, Some((*name).to_owned()), Some((*sub).to_owned())),
        _ => return Err(ApiError::no_such_path(&request.path.join("/"))),
    };
    let resource = api.resource(group, version, plural)?;
    if resource.namespaced && namespace.is_empty() && name.is_some() {
        return Err(ApiError::bad_request(format!(
            "{} are in namespaces: name one",
            resource.plural
        )));
    }
    let target = Target {
        resource,
        namespace: namespace.to_owned(),
        name,
        sub,
    };
    act(api, request, user, &target)
}

fn act(api: &Api, request: &Request, user: &str, target: &Target) -> Result<Reply, ApiError> {
    let sub = target.sub.clone();
    match (&request.method, target.name.is_some(), sub.as_deref()) {
        (&Method::GET, false, None) if request.is_set("watch") => api.watch(request, target),
        (&Method::GET, false, None) => api.list(request, target),
        (&Method::GET, true, None) => api.get(request, target),
        (&Method::GET, true, Some("status")) if target.resource.status => api.get(request, target),
        (&Method::GET, true, Some("log")) if target.resource.plural == "pods" => api.logs(request, target),
        (&Method::POST, true, Some("eviction")) if target.resource.plural == "pods" => {
            api.evict(request, target)
        }
        (&Method::POST, false, None) => api.create(request, target),
        (&Method::PUT, true, None) => api.update(request, target),
        (&Method::PUT, true, Some("status")) if target.resource.status => api.update(request, target),
        (&Method::PATCH, true, None) => api.patch(request, target),
        (&Method::PATCH, true, Some("status")) if target.resource.status => api.patch(request, target),
        (_, true, Some("scale")) if target.resource.scale => api.scale(request, target),
        (&Method::DELETE, true, None) => api.delete(request, target),
        (&Method::DELETE, false, None) => api.delete_all(request, target),
        (&Method::GET | &Method::POST, true, Some("exec")) if target.resource.plural == "pods" => {
            api.exec(request, user, target)
        }
        (&Method::GET | &Method::POST, true, Some("portforward")) if target.resource.plural == "pods" => {
            api.forward(request, user, target)
        }
        (_, _, Some("attach")) => Err(ApiError::not_implemented(
            "attach; 'kubectl logs -f' follows what a pod says, and 'kubectl exec' runs a program in it",
        )),
        (_, _, Some(sub)) => Err(ApiError::not_implemented(&format!(
            "{}/{sub} (logs, exec, portforward, status, scale and eviction are there)",
            target.resource.plural
        ))),
        (method, _, None) => Err(ApiError::method(&format!(
            "{method} on {}",
            target.resource.full_name()
        ))),
    }
}
