use std::net::SocketAddr;

use anyhow::Context as _;
use howdah_blueprint::Settings;
use howdah_operator::{kube_text, redact};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Map, Value, json};

use crate::{
    OperatorArgs, keys,
    keys::{GROUPS, NOT_YET, NOT_YET_PREFIXES, Said, WITHOUT_EFFECT, with_port},
    place::Place,
};

/// The image of the members unless the configuration names one.
const IMAGE: &str = concat!("ghcr.io/howdah/howdah:", env!("CARGO_PKG_VERSION"));

/// Passes at a time unless the configuration says otherwise. An API server that gets the requests of a thousand passes at once answers
/// hardly any of them in time; a pass whose agent is silent takes its place for a minute.
const WORKERS: u16 = 24;

/// The configuration of the process.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    pub(crate) settings: Settings,
    /// The namespace to look after; `None`: all.
    pub(crate) namespace: Option<String>,
    /// The operator's own namespace.
    pub(crate) home: String,
    /// The teams API may be asked.
    pub(crate) asks_teams: bool,
    pub(crate) controller_id: String,
    pub(crate) register_definition: bool,
    /// Passes at a time.
    pub(crate) workers: u16,
    pub(crate) listen: SocketAddr,
    /// What the configuration asks for and does not get.
    pub(crate) notes: Vec<String>,
    /// For the debug API.
    pub(crate) said: Value,
}

impl Configuration {
    /// Whether the two make the operator work in the same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.settings == other.settings
            && self.namespace == other.namespace
            && self.register_definition == other.register_definition
            && self.workers == other.workers
    }

    pub(crate) async fn read(client: &Client, args: &OperatorArgs, place: &Place) -> anyhow::Result<Self> {
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let (values, from) = match (named(&args.configuration), named(&args.config_map)) {
            (Some(name), _) => object(client, &name, place).await?,
            (None, Some(name)) => config_map(client, &name, place).await?,
            (None, None) => (Vec::new(), String::new()),
        };
        let mut configuration = settle(&values, &from, args, &place.namespace)?;
        let mut shown: Value = values
            .iter()
            .map(|value| (value.name.clone(), value.value.clone()))
            .collect::<Map<_, _>>()
            .into();
        redact(&mut shown);
        configuration.said = json!({
            "operator": shown,
            "controller": {
                "Namespace": configuration.namespace, "ControllerID": configuration.controller_id,
                "Notes": configuration.notes,
            },
        });
        Ok(configuration)
    }
}

/// Keys of which an empty value says something.
const EMPTY_COUNTS: [&str; 5] = [
    "watched_namespace",
    "default_cpu_request",
    "default_memory_request",
    "default_cpu_limit",
    "default_memory_limit",
];

/// A key with its value, as it was found.
struct Found {
    /// The group that it is in; `None`: the form has no groups.
    group: Option<String>,
    name: String,
    value: Value,
}

/// `NAMESPACE/NAME`, or a name in the operator's namespace.
fn split<'a>(name: &'a str, place: &'a Place) -> (&'a str, &'a str) {
    name.split_once('/').unwrap_or((&place.namespace, name))
}

async fn config_map(client: &Client, name: &str, place: &Place) -> anyhow::Result<(Vec<Found>, String)> {
    let (namespace, name) = split(name, place);
    let from = format!("ConfigMap {namespace}/{name}");
    check_place(&from, namespace, name)?;
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let map = api
        .get(name)
        .await
        .map_err(|error| anyhow::anyhow!("reading the {from}: {}", kube_text(&error)))?;
    let found = map
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| Found {
            group: None,
            name,
            value: Value::from(value),
        });
    Ok((found.collect(), from))
}

async fn object(client: &Client, name: &str, place: &Place) -> anyhow::Result<(Vec<Found>, String)> {
    let (namespace, name) = split(name, place);
    let from = format!("OperatorConfiguration {namespace}/{name}");
    check_place(&from, namespace, name)?;
    let kind = GroupVersionKind::gvk("acid.zalan.do", "v1", "OperatorConfiguration");
    let resource = ApiResource::from_gvk_with_plural(&kind, "operatorconfigurations");
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let object = api
        .get(name)
        .await
        .map_err(|error| anyhow::anyhow!("reading the {from}: {}", kube_text(&error)))?;
    let configuration = object
        .data
        .get("configuration")
        .and_then(Value::as_object)
        .with_context(|| format!("{from} has no 'configuration'"))?;
    Ok((grouped(configuration), from))
}

fn check_place(from: &str, namespace: &str, name: &str) -> anyhow::Result<()> {
    let fits = |text: &str| {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        !text.is_empty() && text.chars().all(fits)
    };
    anyhow::ensure!(
        fits(namespace) && fits(name),
        "the configuration is named as NAME or NAMESPACE/NAME; this is neither: {from}"
    );
    Ok(())
}

fn grouped(configuration: &Map<String, Value>) -> Vec<Found> {
    let mut found = Vec::new();
    for (name, value) in configuration {
        match value {
            Value::Object(inner) if GROUPS.contains(&name.as_str()) => {
                found.extend(inner.iter().map(|(key, value)| Found {
                    group: Some(name.clone()),
                    name: key.clone(),
                    value: value.clone(),
                }));
            }
            // A group that is no map has no keys: it is wrong as a whole.
            Value::Null if GROUPS.contains(&name.as_str()) => {}
            _ => found.push(Found {
                group: Some(String::new()),
                name: name.clone(),
                value: value.clone(),
            }),
        }
    }
    found
}

/// The configuration from its values. All that is wrong is said at once.
fn settle(values: &[Found], from: &str, args: &OperatorArgs, own: &str) -> anyhow::Result<Configuration> {
    let mut said = Said::default();
    said.settings.docker_image = IMAGE.to_owned();
    let (mut wrong, mut later, mut unknown, mut idle) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Found { group, name, value } in values {
        // Helm writes a value that is not set as nothing.
        let is_unset = value.is_null() || (value == "" && !EMPTY_COUNTS.contains(&name.as_str()));
        if is_unset {
            continue;
        }
        let fits = |key: &&crate::keys::Key| {
            key.name == name && group.as_ref().is_none_or(|group| key.group == group)
        };
        if GROUPS.contains(&name.as_str()) && group.is_some() {
            wrong.push(format!("{name}: it must be a map of keys"));
        } else if let Some(key) = keys::keys().find(fits) {
            if let Err(reason) = (key.act)(&mut said, value) {
                wrong.push(format!("{name} = {value}: {reason}"));
            }
        } else if WITHOUT_EFFECT.contains(&name.as_str()) {
            idle.push(name.as_str());
        } else if NOT_YET.contains(&name.as_str())
            || NOT_YET_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || group
                .as_deref()
                .is_some_and(|group| NOT_YET_PREFIXES.contains(&format!("{group}_").as_str()))
        {
            let is_empty = value == "" || value == &json!([]) || value == &json!({});
            if !is_empty {
                later.push(name.as_str());
            }
        } else {
            unknown.push(name.as_str());
        }
    }
    said.settings.pods.additional_secret_mount =
        match (said.additional_secret.take(), said.additional_secret_path.take()) {
            (Some(secret), Some(path)) => Some((secret, path)),
            (None, None) => None,
            _ => {
                wrong.push(
                    "additional_secret_mount and additional_secret_mount_path: one needs the other"
                        .to_owned(),
                );
                None
            }
        };
    let of = &said.settings.objects;
    if of
        .min_instances
        .zip(of.max_instances)
        .is_some_and(|(least, most)| least > most)
    {
        wrong.push("min_instances is more than max_instances".to_owned());
    }
    let settings = &said.settings;
    let labels = [&settings.cluster_name_label, &settings.pod_role_label];
    if settings.cluster_name_label == settings.pod_role_label
        || labels
            .iter()
            .any(|label| settings.cluster_labels.contains_key(*label))
    {
        wrong
            .push("cluster_labels, cluster_name_label and pod_role_label: a label is named twice".to_owned());
    }
    if said.settings.super_username == said.settings.replication_username {
        wrong.push("super_username and replication_username are the same".to_owned());
    }
    if said.settings.pooler.user == said.settings.super_username {
        wrong.push("connection_pooler_user and super_username are the same".to_owned());
    }
    anyhow::ensure!(wrong.is_empty(), "{from}: {}", wrong.join("; "));
    if args.nodatabaseaccess {
        said.settings.enable_database_access = false;
    }
    let mut notes = Vec::new();
    for (names, what) in [
        (later, "not acted on yet"),
        (unknown, "unknown, and ignored"),
        (idle, "without effect here (docs/kubernetes.md)"),
    ] {
        if !names.is_empty() {
            notes.push(format!("{from}: these keys are {what}: {}", names.join(", ")));
        }
    }
    // The variable wins over the configuration; empty: the operator's own namespace.
    let namespace = args.namespace.clone().or(said.watched_namespace);
    let namespace = match namespace.as_deref() {
        Some("*") => None,
        None | Some("") => Some(own.to_owned()),
        Some(name) => Some(name.to_owned()),
    };
    Ok(Configuration {
        settings: said.settings,
        namespace,
        home: own.to_owned(),
        asks_teams: !args.noteamsapi,
        controller_id: args.controller_id.clone().unwrap_or_default(),
        register_definition: said.register_definition.unwrap_or(true),
        workers: said.workers.unwrap_or(WORKERS),
        listen: with_port(said.port),
        notes,
        said: Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: OperatorArgs,
    }

    fn args(words: &[&str]) -> OperatorArgs {
        Line::parse_from([&["operator"], words].concat()).args
    }

    fn flat(pairs: &[(&str, &str)]) -> Vec<Found> {
        let found = |(name, value): &(&str, &str)| Found {
            group: None,
            name: (*name).to_owned(),
            value: Value::from(*value),
        };
        pairs.iter().map(found).collect()
    }

    #[test]
    fn both_forms_say_the_same() {
        let one = flat(&[
            ("docker_image", "img:1"),
            ("cluster_labels", "application:pg"),
            ("pod_terminate_grace_period", "2m"),
            ("watched_namespace", "*"),
            ("aws_region", "eu-central-1"),
            ("logical_backup_schedule", "30 00 * * *"),
        ]);
        let other = grouped(
            json!({
                "docker_image": "img:1",
                "kubernetes": {
                    "cluster_labels": {"application": "pg"}, "pod_terminate_grace_period": "2m", "watched_namespace": "*",
                },
                "aws_or_gcp": {"aws_region": "eu-central-1"},
                "logical_backup": {"logical_backup_schedule": "30 00 * * *"},
            })
            .as_object()
            .unwrap(),
        );
        let one = settle(&one, "x", &args(&[]), "own").unwrap();
        let other = settle(&other, "x", &args(&[]), "own").unwrap();
        assert_eq!(one.settings, other.settings);
        assert_eq!(one.settings.pod_terminate_grace_period, 120);
        assert_eq!((one.namespace.as_deref(), &one.notes), (None, &other.notes));
        assert!(
            one.notes[0].contains("not acted on yet: logical_backup_schedule")
                && one.notes[1].contains(": aws_region"),
            "{:?}",
            one.notes
        );
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let values = flat(&[
            ("workers", "0"),
            ("enable_shm_volume", "maybe"),
            ("super_username", "standby"),
        ]);
        let error = settle(&values, "ConfigMap a/b", &args(&[]), "own")
            .unwrap_err()
            .to_string();
        for part in ["ConfigMap a/b", "workers", "enable_shm_volume", "are the same"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let values = flat(&[
            ("toleration", "key:a,efect:b"),
            ("pod_management_policy", "serial"),
            ("master_dns_name_format", "db.{zone}"),
            ("sidecars", "a:b"),
            ("additional_secret_mount", "s"),
        ]);
        let error = settle(&values, "x", &args(&[]), "own").unwrap_err().to_string();
        for part in [
            "'efect' is none of",
            "ordered_ready, parallel",
            "{hostedzone}",
            "list of containers",
            "one needs the other",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let values = flat(&[("no_such_key", "1")]);
        let fine = settle(&values, "x", &args(&[]), "own").unwrap();
        assert!(fine.notes[0].contains("no_such_key"));
    }

    #[test]
    fn what_holds_for_all_pods_is_read() {
        let values = flat(&[
            (
                "persistent_volume_claim_retention_policy",
                "when_deleted:delete,when_scaled:retain",
            ),
            ("toleration", "key:postgres,operator:Exists,effect:NoSchedule"),
            ("node_readiness_label_merge", "AND"),
            ("pod_management_policy", "parallel"),
            ("additional_pod_capabilities", "sys_nice"),
            ("additional_secret_mount", "s"),
            ("additional_secret_mount_path", "/secret"),
            ("inherited_labels", "app,team"),
        ]);
        let settings = settle(&values, "x", &args(&[]), "own").unwrap().settings;
        let pods = settings.pods;
        assert!(pods.delete_claims_when_deleted && !pods.delete_claims_when_scaled && pods.is_parallel);
        assert_eq!(pods.toleration["effect"], "NoSchedule");
        assert!(pods.node_readiness_label_merge_and);
        assert_eq!(pods.additional_pod_capabilities, ["SYS_NICE"]);
        assert_eq!(
            pods.additional_secret_mount,
            Some(("s".to_owned(), "/secret".to_owned()))
        );
        assert_eq!(settings.inherited_labels, ["app", "team"]);
    }

    #[test]
    fn the_namespace_is_upstreams_choice() {
        let of = |words: &[&str], pairs: &[(&str, &str)]| {
            settle(&flat(pairs), "x", &args(words), "own").unwrap().namespace
        };
        assert_eq!(of(&[], &[]).as_deref(), Some("own"));
        assert_eq!(
            of(&["--namespace", ""], &[("watched_namespace", "*")]).as_deref(),
            Some("own")
        );
        assert_eq!(of(&["--namespace", "*"], &[("watched_namespace", "a")]), None);
        assert_eq!(of(&[], &[("watched_namespace", "a")]).as_deref(), Some("a"));
    }
}
