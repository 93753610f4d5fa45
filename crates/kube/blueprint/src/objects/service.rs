use std::collections::BTreeMap;

use howdah_manifest::Manifest;
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{base_labels, inherited_annotations, metadata};
use crate::{Names, Settings};

const PORT: i32 = 5432;

/// What tells the two Services apart.
struct Side<'a> {
    role: &'a str,
    annotations: &'a BTreeMap<String, String>,
    load_balancer: bool,
    node_port: Option<Option<i32>>,
    host: String,
}

/// The primary's Service.
pub(super) fn primary(manifest: &Manifest, settings: &Settings) -> Service {
    let spec = &manifest.spec;
    let side = Side {
        role: "master",
        annotations: &spec.master_service_annotations,
        load_balancer: spec
            .enable_master_load_balancer
            .unwrap_or(settings.enable_master_load_balancer),
        node_port: spec
            .enable_master_node_port
            .unwrap_or(settings.enable_master_node_port)
            .then_some(spec.master_node_port),
        host: hosts(
            manifest,
            settings,
            &settings.master_dns_name_format,
            &settings.master_legacy_dns_name_format,
        ),
    };
    service(manifest, settings, &Names(&manifest.name).cluster(), &side)
}

/// The replicas' Service.
pub(super) fn replica(manifest: &Manifest, settings: &Settings) -> Service {
    let spec = &manifest.spec;
    let side = Side {
        role: "replica",
        annotations: &spec.replica_service_annotations,
        load_balancer: spec
            .enable_replica_load_balancer
            .unwrap_or(settings.enable_replica_load_balancer),
        node_port: spec
            .enable_replica_node_port
            .unwrap_or(settings.enable_replica_node_port)
            .then_some(spec.replica_node_port),
        host: hosts(
            manifest,
            settings,
            &settings.replica_dns_name_format,
            &settings.replica_legacy_dns_name_format,
        ),
    };
    service(
        manifest,
        settings,
        &Names(&manifest.name).replica_service(),
        &side,
    )
}

/// The DNS names for a load balancer; the second has the team in it, for clusters named after their team.
fn hosts(manifest: &Manifest, settings: &Settings, format: &str, legacy: &str) -> String {
    let team = manifest.spec.team_id.to_lowercase();
    let named = |format: &str, cluster: &str| {
        format
            .replace("{cluster}", cluster)
            .replace("{namespace}", &manifest.namespace)
            .replace("{team}", &team)
            .replace("{hostedzone}", &settings.db_hosted_zone)
    };
    let host = named(format, &manifest.name);
    match manifest.name.strip_prefix(&format!("{team}-")) {
        Some(rest) => format!("{host},{}", named(legacy, rest)),
        None => host,
    }
}

fn service(manifest: &Manifest, settings: &Settings, name: &str, side: &Side<'_>) -> Service {
    let mut selector = base_labels(&manifest.name, settings);
    selector.insert(settings.pod_role_label.clone(), side.role.into());
    let mut metadata = metadata(manifest, settings, name);
    // The role tells which Service it is; the selector says it as well, but labels can be searched for.
    if let Some(labels) = &mut metadata.labels {
        labels.insert(settings.pod_role_label.clone(), side.role.into());
    }
    let exposure = Exposure {
        port_name: "postgresql",
        selector,
        load_balancer: side.load_balancer,
        node_port: side.node_port,
        host: side.host.clone(),
    };
    exposed(manifest, settings, metadata, side.annotations, exposure)
}

/// How clients reach what a Service selects.
pub(super) struct Exposure<'a> {
    pub(super) port_name: &'a str,
    pub(super) selector: BTreeMap<String, String>,
    pub(super) load_balancer: bool,
    /// A port of every node; which one, unless Kubernetes chooses.
    pub(super) node_port: Option<Option<i32>>,
    /// The DNS names of a load balancer.
    pub(super) host: String,
}

/// A Service. `own`: annotations that win over those of all Services.
pub(super) fn exposed(
    manifest: &Manifest,
    settings: &Settings,
    metadata: ObjectMeta,
    own: &BTreeMap<String, String>,
    exposure: Exposure<'_>,
) -> Service {
    let mut annotations = inherited_annotations(manifest, settings);
    annotations.extend(settings.custom_service_annotations.clone());
    annotations.extend(manifest.spec.service_annotations.clone());
    annotations.extend(own.clone());
    let mut spec = ServiceSpec {
        ports: Some(vec![ServicePort {
            name: Some(exposure.port_name.to_owned()),
            port: PORT,
            target_port: Some(IntOrString::Int(PORT)),
            protocol: Some("TCP".into()),
            ..ServicePort::default()
        }]),
        selector: Some(exposure.selector),
        type_: Some("ClusterIP".into()),
        ..ServiceSpec::default()
    };
    if let Some(node_port) = exposure.node_port {
        spec.type_ = Some("NodePort".into());
        if let Some(ports) = &mut spec.ports {
            ports[0].node_port = node_port.filter(|port| *port != 0);
        }
    } else if exposure.load_balancer {
        spec.type_ = Some("LoadBalancer".into());
        let ranges = manifest.spec.allowed_source_ranges.clone().unwrap_or_default();
        spec.load_balancer_source_ranges = Some(if ranges.is_empty() {
            vec!["127.0.0.1/32".into()]
        } else {
            ranges
        });
        spec.external_traffic_policy = Some(settings.external_traffic_policy.clone());
        annotations.insert("external-dns.alpha.kubernetes.io/hostname".into(), exposure.host);
    }
    Service {
        metadata: ObjectMeta {
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..metadata
        },
        spec: Some(spec),
        status: None,
    }
}
