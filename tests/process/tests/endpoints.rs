//! A cluster whose state is in Kubernetes' Endpoints: the agents run as processes of their own, with the sandbox's API as their store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use howdah_http::Method;
use howdah_testkit::{Lab, LabOptions, Sandbox, until};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn json_of(sandbox: &Sandbox, args: &[&str]) -> Value {
    serde_json::from_str(&sandbox.kubectl(&[args, &["-o", "json"]].concat()).unwrap()).unwrap()
}

/// What a pod has of its account, in a directory that every user can read, and where the API is.
fn account(sandbox: &Sandbox, dir: &Path) -> Vec<(String, String)> {
    let config = json_of(sandbox, &["config", "view", "--raw", "--flatten"]);
    let cluster = &config["clusters"][0]["cluster"];
    let token = config["users"][0]["user"]["token"].as_str().unwrap();
    fs::write(dir.join("token"), token).unwrap();
    let ca = cluster["certificate-authority-data"].as_str().unwrap();
    let ca = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, ca).unwrap();
    fs::write(dir.join("ca.crt"), ca).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let server = cluster["server"].as_str().unwrap().rsplit('/').next().unwrap();
    let (host, port) = server.split_once(':').unwrap();
    vec![
        ("KUBERNETES_SERVICE_HOST".to_owned(), host.to_owned()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_owned()),
    ]
}

fn kubernetes(account: &Path, use_endpoints: bool) -> Value {
    json!({
        "labels": {"application": "spilo"}, "scope_label": "cluster-name", "role_label": "spilo-role",
        "leader_label_value": "master", "use_endpoints": use_endpoints, "pod_ip": "127.0.0.1",
        "ports": [{"name": "postgresql", "port": 5432}], "service_account": account,
    })
}

async fn leads_to(sandbox: &Sandbox, member: &str) {
    let mut seen = Value::Null;
    let leads = until("the Service leads to the leader", PATIENCE, async || {
        seen = json_of(sandbox, &["get", "endpoints", "lab"]);
        let subset = &seen["subsets"][0];
        subset["addresses"][0]["targetRef"]["name"] == member
            && subset["addresses"][0]["ip"] == "127.0.0.1"
            && subset["ports"][0]["port"] == 5432
            && seen["metadata"]["annotations"]["leader"] == member
    });
    assert!(leads.await.is_ok(), "{member}: {seen:#}");
}

#[tokio::test]
async fn the_leader_is_where_its_endpoints_lead() {
    let sandbox = Sandbox::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let environment = account(&sandbox, dir.path());
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "lab"}, "spec": {"ports": [{"port": 5432}]}});
    let mut objects = vec![service];
    for member in ["m0", "m1", "m2"] {
        // Its program is not the sandbox's to run.
        objects.push(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": member, "labels": {"application": "spilo", "cluster-name": "lab"}},
            "spec": {"containers": [{"name": "elsewhere", "image": "elsewhere"}]}}));
    }
    let file = dir.path().join("objects.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    fs::write(&file, list.to_string()).unwrap();
    sandbox
        .kubectl(&["create", "-f", file.to_str().unwrap()])
        .unwrap();
    let mut options = LabOptions::howdah(3).unwrap();
    options.settings.local = json!({"etcd3": null, "kubernetes": kubernetes(dir.path(), true)});
    options.settings.environment = environment;
    let dynamic = json!({"ttl": 20, "howdah": {"ttl": 8}, "loop_wait": 2, "retry_timeout": 3});
    let mut lab = Lab::new(options.dynamic(dynamic)).await.unwrap();
    lab.start_all().unwrap();
    let healthy = lab.wait_healthy(PATIENCE).await;
    assert!(healthy.is_ok(), "{}", lab.logs());
    let first = lab.wait_primary(PATIENCE).await.unwrap();
    leads_to(&sandbox, &lab.members[first].name).await;
    let config = json_of(&sandbox, &["get", "service", "lab-config"]);
    assert_eq!(config["spec"]["clusterIP"], "None");
    let maps = sandbox.kubectl(&["get", "configmaps", "-o", "name"]).unwrap();
    assert!(!maps.contains("lab-"), "{maps}");
    // A switchover, and a failover.
    let second = (first + 1) % 3;
    let body = json!({"leader": lab.members[first].name, "candidate": lab.members[second].name});
    let answer = lab.members[first]
        .call(Method::POST, "/switchover", Some(&body))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), lab.logs());
    leads_to(&sandbox, &lab.members[second].name).await;
    lab.wait_healthy(PATIENCE).await.unwrap();
    lab.members[second].kill_node();
    let third = lab.wait_primary(PATIENCE).await.unwrap();
    leads_to(&sandbox, &lab.members[third].name).await;
    // The commands find the kind by themselves.
    let listed = sandbox.run(&["ctl", "list", "lab", "-f", "json"]).unwrap();
    let rows: Value = serde_json::from_str(&listed).unwrap();
    let leader = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["Role"] == "Leader")
        .unwrap();
    assert_eq!(leader["Member"], lab.members[third].name.as_str(), "{listed}");
    // A member that looks for ConfigMaps finds a cluster that is elsewhere, and leads no second one.
    let path = lab.dir().join(format!("{}.yml", lab.members[second].name));
    let mut text: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    text["kubernetes"] = kubernetes(dir.path(), false);
    fs::write(&path, text.to_string()).unwrap();
    lab.members[second].start().unwrap();
    let told = until("the member says where the cluster is", PATIENCE, async || {
        lab.members[second]
            .log()
            .contains("the state of this cluster is in endpoints/lab-config")
    });
    assert!(told.await.is_ok(), "{}", lab.logs());
    assert_eq!(lab.primary().await, Some(third), "{}", lab.logs());
}
