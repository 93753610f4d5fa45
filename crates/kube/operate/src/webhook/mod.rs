//! The admission webhook: what is wrong with a manifest is said by `kubectl apply`, before it is stored.
//!
//! ```text
//!   certificate.rs   own certificate in a Secret, shared by the replicas, renewed in time ─► TLS, caBundle
//!   review.rs        AdmissionReview in, AdmissionReview out (pure)
//! ```
//!
//! Kubernetes goes on without it (`failurePolicy: Ignore`): what it would refuse, the operator refuses in the status.

mod certificate;
mod review;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use howdah_clock::now;
use howdah_http::{Limits, Pem, Reply, ServerConfig, serve, server_tls_of, sleep_until, timeout_at};
use howdah_operator::kube_text;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::admissionregistration::v1::ValidatingWebhookConfiguration};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use crate::{OperatorArgs, configuration::Configuration, place::Place};
use certificate::Certificate;

/// The certificate is looked at this often.
const LOOK: Duration = Duration::from_secs(60);

/// The same after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// A request with two manifests fits: the store takes 1.5 MiB of an object.
const MOST: usize = 3 * 1024 * 1024 + 64 * 1024;

/// So many requests are read at a time: anybody inside may send some, and each takes memory.
const AT_A_TIME: usize = 2;

/// The API server has heard of a change after this time.
const HEARD: Duration = Duration::from_secs(5);

/// A body arrives in this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// The webhook's name in its configuration, and who writes its caBundle.
const NAME: &str = "postgresqls.acid.zalan.do";
const MANAGER: &str = "howdah-webhook";

/// What the webhook needs.
pub(crate) struct Webhook {
    listener: TcpListener,
    client: Client,
    /// The operator's own namespace.
    namespace: String,
    /// The names by which the API server reaches it.
    hosts: Vec<String>,
    /// The Secret and the ValidatingWebhookConfiguration.
    secret: String,
    configuration: String,
    newest: watch::Receiver<Arc<Configuration>>,
}

impl Webhook {
    /// Listens. `None`: no webhook is asked for.
    pub(crate) async fn listen(
        args: &OperatorArgs,
        client: &Client,
        place: &Place,
        newest: watch::Receiver<Arc<Configuration>>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(address) = args.webhook_listen else {
            return Ok(None);
        };
        anyhow::ensure!(
            !args.webhook_host.is_empty(),
            "--webhook-listen needs --webhook-host: the name by which the API server reaches it, such as howdah-webhook.NAMESPACE.svc"
        );
        let listener = match listen(address).await {
            Ok(listener) => listener,
            Err(error) => {
                // Clusters are looked after without it.
                tracing::warn!("There is no admission webhook: {address} cannot be listened on: {error}.");
                return Ok(None);
            }
        };
        Ok(Some(Webhook {
            listener,
            client: client.clone(),
            namespace: place.namespace.clone(),
            hosts: args.webhook_host.clone(),
            secret: format!("{}-webhook", args.webhook_configuration),
            configuration: args.webhook_configuration.clone(),
            newest,
        }))
    }

    /// Answers until `stop` says true.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) {
        let (certified, tls) = watch::channel::<Option<Arc<ServerConfig>>>(None);
        let newest = self.newest.clone();
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        let handler = move |request: Request<Incoming>, _| {
            let configuration = newest.borrow().clone();
            let places = Arc::clone(&places);
            async move {
                let place = timeout_at(now() + PATIENCE, places.acquire()).await;
                match place {
                    Ok(Ok(_place)) => answer(request, &configuration).await,
                    _ => reply(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": "busy"})),
                }
            }
        };
        let limits = Limits {
            connections: 16,
            from_one_address: 16,
            ..Limits::default()
        };
        let keep = keep_certified(
            self.client,
            &self.namespace,
            &self.secret,
            &self.configuration,
            &self.hosts,
            certified,
            stop.clone(),
        );
        tokio::join!(serve(self.listener, limits, tls, stop, handler), keep);
    }
}

async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        // A machine without IPv6.
        Err(_) if address.ip().is_unspecified() && address.is_ipv6() => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        other => other,
    }
}

/// Keeps a valid certificate, and the API server informed of it.
async fn keep_certified(
    client: Client,
    namespace: &str,
    secret: &str,
    configuration: &str,
    hosts: &[String],
    certified: watch::Sender<Option<Arc<ServerConfig>>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut told = String::new();
    let mut known: Option<Certificate> = None;
    loop {
        let kept = async {
            let found = certificate::keep(&client, namespace, secret, hosts).await?;
            // Whom to trust is said before another certificate is presented.
            inform(&client, configuration, &found.bundle).await?;
            if known.as_ref() != Some(&found) {
                let pem = |text: &str| Pem {
                    of: format!("Secret {namespace}/{secret}"),
                    text: text.as_bytes().to_vec(),
                };
                let config = server_tls_of(&pem(&found.certificate), &pem(&found.key))?;
                if known.is_some() {
                    sleep_until(now() + HEARD).await;
                }
                certified.send_replace(Some(config));
            }
            Ok::<_, anyhow::Error>(found)
        };
        let kept = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            kept = kept => kept,
        };
        let pause = match kept {
            Ok(found) => {
                if known.as_ref() != Some(&found) {
                    tracing::info!("The admission webhook answers.");
                }
                known = Some(found);
                told.clear();
                LOOK
            }
            Err(error) => {
                let error = format!("{error:#}");
                if error != told {
                    tracing::warn!(
                        "The admission webhook is not complete, and manifests are stored unchecked: {error}."
                    );
                }
                told = error;
                AGAIN
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep_until(now() + pause) => {}
        }
    }
}

/// Tells the API server whom to trust. The rest of the object is the chart's.
async fn inform(client: &Client, name: &str, bundle: &str) -> anyhow::Result<()> {
    let api = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    let change = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": name},
        "webhooks": [{"name": NAME, "clientConfig": {"caBundle": ByteString(bundle.as_bytes().to_vec())}}],
    });
    let params = PatchParams::apply(MANAGER).force();
    let written = api.patch(name, &params, &Patch::Apply(change)).await;
    written
        .map(drop)
        .map_err(|error| anyhow::anyhow!("ValidatingWebhookConfiguration {name}: {}", kube_text(&error)))
}

async fn answer(request: Request<Incoming>, configuration: &Configuration) -> Reply {
    let body = Limited::new(request.into_body(), MOST).collect();
    let body = match timeout_at(now() + PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => {
            return reply(
                StatusCode::BAD_REQUEST,
                &json!({"error": "the body did not arrive"}),
            );
        }
    };
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else {
        return reply(
            StatusCode::BAD_REQUEST,
            &json!({"error": "the body is no AdmissionReview"}),
        );
    };
    let today = Timestamp::now().strftime("%Y-%m-%d").to_string();
    let answer = review::review(&asked, configuration, &today);
    reply(StatusCode::OK, &answer)
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body.to_string())));
    *reply.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}
