//! Tables as `kubectl get` prints them.

use serde_json::{Value, json};

use super::metadata::metadata_only;
use crate::{meta, resources::Resource};

/// A column: name, type, path with dots (or one of the computed ones), 0 for always and 1 for `-o wide`.
type Column = (&'static str, &'static str, &'static str, u8);

const NAME: Column = ("Name", "string", ".metadata.name", 0);
const AGE: Column = ("Age", "string", "@age", 0);

fn columns(plural: &str) -> Vec<Column> {
    let own: &[Column] = match plural {
        "pods" => &[
            ("Ready", "string", "@ready", 0),
            ("Status", "string", "@podstatus", 0),
            ("Restarts", "string", "@restarts", 0),
            AGE,
            ("IP", "string", ".status.podIP", 1),
            ("Node", "string", ".spec.nodeName", 1),
        ],
        "services" => &[
            ("Type", "string", ".spec.type", 0),
            ("Cluster-IP", "string", ".spec.clusterIP", 0),
            ("External-IP", "string", "@external", 0),
            ("Port(s)", "string", "@ports", 0),
            AGE,
            ("Selector", "string", "@selector", 1),
        ],
        "statefulsets" => &[("Ready", "string", "@setready", 0), AGE],
        "deployments" => &[
            ("Ready", "string", "@setready", 0),
            ("Up-to-date", "integer", ".status.updatedReplicas", 0),
            ("Available", "integer", ".status.availableReplicas", 0),
            AGE,
        ],
        "configmaps" => &[("Data", "string", "@data", 0), AGE],
        "secrets" => &[
            ("Type", "string", ".type", 0),
            ("Data", "string", "@data", 0),
            AGE,
        ],
        "persistentvolumeclaims" => &[
            ("Status", "string", "@claimstatus", 0),
            ("Volume", "string", ".spec.volumeName", 0),
            ("Capacity", "string", ".status.capacity.storage", 0),
            AGE,
        ],
        "poddisruptionbudgets" => &[
            ("Min Available", "string", ".spec.minAvailable", 0),
            ("Max Unavailable", "string", ".spec.maxUnavailable", 0),
            AGE,
        ],
        "endpoints" => &[("Endpoints", "string", "@endpoints", 0), AGE],
        "endpointslices" => &[
            ("AddressType", "string", ".addressType", 0),
            ("Ports", "string", "@sliceports", 0),
            ("Endpoints", "string", "@slice", 0),
            AGE,
        ],
        "namespaces" => &[("Status", "string", ".status.phase", 0), AGE],
        "nodes" => &[
            ("Status", "string", "@noderready", 0),
            AGE,
            ("Version", "string", ".status.nodeInfo.kubeletVersion", 0),
        ],
        "events" => &[
            ("Last Seen", "string", "@lastseen", 0),
            ("Type", "string", ".type", 0),
            ("Reason", "string", ".reason", 0),
            ("Object", "string", "@involved", 0),
            ("Message", "string", ".message", 0),
        ],
        "customresourcedefinitions" => &[("Created At", "date", ".metadata.creationTimestamp", 0)],
        _ => &[AGE],
    };
    let first = (plural != "events").then_some(NAME);
    first.into_iter().chain(own.iter().copied()).collect()
}

/// Objects as a table. `include` says how much of each object comes along: nothing, metadata (the default) or all.
pub(super) fn table(resource: &Resource, objects: &[&Value], revision: &str, include: &str) -> Value {
    let (definitions, paths) = definitions(resource);
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<Value> = paths.iter().map(|path| cell(object, path)).collect();
            let mut row = json!({ "cells": cells });
            match include {
                "None" => {}
                "Object" => row["object"] = (*object).clone(),
                _ => row["object"] = metadata_only(object),
            }
            row
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision},
        "columnDefinitions": definitions, "rows": rows,
    })
}

fn definitions(resource: &Resource) -> (Vec<Value>, Vec<String>) {
    let definition = |name: &str, kind: &str, priority: u8| {
        let format = if name == "Name" { "name" } else { "" };
        json!({"name": name, "type": kind, "format": format, "description": "", "priority": priority})
    };
    let (mut definitions, mut paths) = (Vec::new(), Vec::new());
    match resource
        .custom
        .as_ref()
        .and_then(|version| version["additionalPrinterColumns"].as_array())
    {
        Some(columns) => {
            definitions.push(definition("Name", "string", 0));
            paths.push(".metadata.name".to_owned());
            for column in columns {
                let text = |key: &str| column[key].as_str().unwrap_or_default();
                let priority = u8::try_from(column["priority"].as_u64().unwrap_or(0)).unwrap_or(1);
                definitions.push(definition(text("name"), text("type"), priority));
                paths.push(match text("type") {
                    "date" => format!("@date{}", text("jsonPath")),
                    _ => text("jsonPath").to_owned(),
                });
            }
        }
        None => {
            for (name, kind, path, priority) in columns(&resource.plural) {
                definitions.push(definition(name, kind, priority));
                paths.push(path.to_owned());
            }
        }
    }
    (definitions, paths)
}

fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .filter(|part| !part.is_empty())
        .fold(object, |at, key| &at[key])
}

fn cell(object: &Value, path: &str) -> Value {
    let count = |key: &str| object[key].as_object().map_or(0, serde_json::Map::len);
    match path {
        "@age" => json!(age(meta::text(object, "creationTimestamp"))),
        "@lastseen" => {
            let time = [&object["lastTimestamp"], &object["eventTime"]]
                .into_iter()
                .find_map(Value::as_str);
            json!(age(time.unwrap_or_default()))
        }
        "@external" => json!(match object["spec"]["type"].as_str() {
            Some("LoadBalancer") => object["status"]["loadBalancer"]["ingress"][0]["ip"]
                .as_str()
                .unwrap_or("<pending>"),
            _ => "<none>",
        }),
        "@ready" => {
            let all = object["status"]["containerStatuses"]
                .as_array()
                .map_or(0, Vec::len);
            let wanted = object["spec"]["containers"].as_array().map_or(all, Vec::len);
            let ready = object["status"]["containerStatuses"]
                .as_array()
                .into_iter()
                .flatten();
            json!(format!(
                "{}/{wanted}",
                ready.filter(|status| status["ready"] == true).count()
            ))
        }
        "@podstatus" => json!(pod_status(object)),
        "@claimstatus" if meta::is_ending(object) => json!("Terminating"),
        "@claimstatus" => object["status"]["phase"].clone(),
        "@restarts" => {
            let statuses = object["status"]["containerStatuses"]
                .as_array()
                .into_iter()
                .flatten();
            let restarts: u64 = statuses
                .filter_map(|status| status["restartCount"].as_u64())
                .sum();
            json!(restarts.to_string())
        }
        "@setready" => {
            let ready = object["status"]["readyReplicas"].as_u64().unwrap_or(0);
            json!(format!(
                "{ready}/{}",
                object["spec"]["replicas"].as_u64().unwrap_or(0)
            ))
        }
        "@data" => json!((count("data") + count("binaryData")).to_string()),
        "@ports" => {
            let ports = object["spec"]["ports"].as_array().into_iter().flatten();
            let told: Vec<String> = ports
                .map(|port| {
                    let node = match port["nodePort"].as_u64() {
                        Some(node) if node > 0 => format!(":{node}"),
                        _ => String::new(),
                    };
                    let protocol = port["protocol"].as_str().unwrap_or("TCP");
                    format!("{}{node}/{protocol}", port["port"])
                })
                .collect();
            json!(told.join(","))
        }
        "@endpoints" => {
            let subsets = object["subsets"].as_array().into_iter().flatten();
            let places: Vec<String> = subsets
                .flat_map(|subset| {
                    let port = subset["ports"][0]["port"].as_u64().unwrap_or(0);
                    let addresses = subset["addresses"].as_array().into_iter().flatten();
                    addresses
                        .map(move |address| format!("{}:{port}", address["ip"].as_str().unwrap_or_default()))
                })
                .collect();
            json!(if places.is_empty() {
                "<none>".to_owned()
            } else {
                places.join(",")
            })
        }
        "@sliceports" => {
            let ports = object["ports"].as_array().into_iter().flatten();
            let ports: Vec<String> = ports.map(|port| port["port"].to_string()).collect();
            json!(if ports.is_empty() {
                "<unset>".to_owned()
            } else {
                ports.join(",")
            })
        }
        "@slice" => {
            let endpoints = object["endpoints"].as_array().into_iter().flatten();
            let places: Vec<&str> = endpoints
                .filter_map(|endpoint| endpoint["addresses"][0].as_str())
                .collect();
            json!(if places.is_empty() {
                "<unset>".to_owned()
            } else {
                places.join(",")
            })
        }
        "@selector" => {
            let labels = object["spec"]["selector"].as_object().into_iter().flatten();
            let told: Vec<String> = labels
                .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
                .collect();
            json!(told.join(","))
        }
        "@involved" => {
            let involved = &object["involvedObject"];
            let text = |key: &str| involved[key].as_str().unwrap_or_default().to_lowercase();
            json!(format!("{}/{}", text("kind"), text("name")))
        }
        "@noderready" if object["spec"]["unschedulable"] == true => json!("Ready,SchedulingDisabled"),
        "@noderready" => json!("Ready"),
        path => match path.strip_prefix("@date") {
            Some(path) => json!(age(at(object, path).as_str().unwrap_or_default())),
            None => at(object, path).clone(),
        },
    }
}

/// What kubectl shows as a pod's status: why it waits or ended, else its phase.
fn pod_status(object: &Value) -> String {
    if meta::is_ending(object) {
        return "Terminating".to_owned();
    }
    let statuses = object["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten();
    for status in statuses {
        for state in ["waiting", "terminated"] {
            if let Some(reason) = status["state"][state]["reason"].as_str() {
                return reason.to_owned();
            }
        }
    }
    object["status"]["phase"].as_str().unwrap_or("Pending").to_owned()
}

/// How long ago something was, as kubectl shows it.
fn age(time: &str) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else {
        return "<unknown>".to_owned();
    };
    let seconds = (jiff::Timestamp::now().as_second() - then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => format!("{}m{}s", seconds / 60, seconds % 60),
        600..10_800 => format!("{}m", seconds / 60),
        10_800..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
