//! The chart by the real helm against the real API server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for what other processes do"
)]

use std::process::Command;

use howdah_kubernetes_tests::{Kube, Namespace, control_plane, until};
use serde_json::Value;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/howdah");

fn helm(kube: &Kube, args: &[&str]) -> Result<String, String> {
    let helm = std::env::var_os("HOWDAH_HELM").expect("HOWDAH_HELM is set by script/e2e");
    let output = Command::new(helm)
        .arg("--kubeconfig")
        .arg(&kube.kubeconfig)
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// Cluster-wide names must not meet those of other tests.
fn named(ns: &Namespace) -> String {
    format!(
        "fullnameOverride={},podServiceAccount.name={}-pod,configKubernetes.watched_namespace={}",
        ns.name, ns.name, ns.name
    )
}

#[test]
fn it_is_installed_upgraded_and_uninstalled() {
    let Some(kube) = control_plane() else { return };
    let ns = kube.namespace("chart");
    let names = named(&ns);
    let install = [
        "install",
        &ns.name,
        CHART,
        "-n",
        &ns.name,
        "--set",
        &names,
        "--set",
        "debugApi.token=t",
    ];
    let told = helm(&kube, &install).unwrap();
    assert!(told.contains("kubectl wait --for=condition=Ready"), "{told}");
    let deployment = ns.get("deployment", &ns.name);
    let pod = &deployment["spec"]["template"];
    let checksum = pod["metadata"]["annotations"]["checksum/config"].clone();
    assert_eq!(
        pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"],
        true
    );
    assert_eq!(deployment["spec"]["replicas"], 2);
    let configuration = ns.get("operatorconfiguration", &ns.name);
    assert_eq!(
        configuration["configuration"]["kubernetes"]["watched_namespace"],
        ns.name
    );
    // Pretended nodes run anything.
    until(
        || ns.get("deployment", &ns.name)["status"]["readyReplicas"] == 2,
        || "two replicas are ready".to_owned(),
    );

    let upgrade = [
        "upgrade",
        &ns.name,
        CHART,
        "-n",
        &ns.name,
        "--set",
        &names,
        "--set",
        "configTarget=ConfigMap",
        "--set",
        "configKubernetes.cluster_labels.application=spilo",
        "--set",
        "configGeneral.workers=4",
        "--set",
        "configTeamsApi.protected_role_names={admin,cron_admin}",
    ];
    helm(&kube, &upgrade).unwrap();
    assert!(ns.get("operatorconfiguration", &ns.name).is_null());
    let map = ns.get("configmap", &ns.name);
    assert_eq!(map["data"]["cluster_labels"], "application:spilo");
    assert_eq!(map["data"]["protected_role_names"], "admin,cron_admin");
    assert_eq!(map["data"]["workers"], "4");
    let deployment = ns.get("deployment", &ns.name);
    assert_ne!(
        deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"],
        checksum
    );

    helm(&kube, &["uninstall", &ns.name, "-n", &ns.name]).unwrap();
    until(
        || ns.get("deployment", &ns.name).is_null(),
        || "the Deployment is gone".to_owned(),
    );
    // Clusters outlive the operator: their definition stays, and the members' rights.
    let members = format!("{}-pod", ns.name);
    assert!(!ns.get("clusterrole", &members).is_null());
    kube.kubectl(&["delete", "clusterrole", &members]);
    assert!(!ns.get("crd", "postgresqls.acid.zalan.do").is_null());
}

#[test]
fn wrong_values_are_refused_with_their_place() {
    let Some(kube) = control_plane() else { return };
    for (value, place) in [
        ("replicas=many", "replicas"),
        ("configTarget=Secret", "configTarget"),
        ("image.pullPolicy=Maybe", "pullPolicy"),
    ] {
        let error = helm(
            &kube,
            &["template", "x", CHART, "--kube-version", "1.35.0", "--set", value],
        )
        .unwrap_err();
        assert!(error.contains(place), "{value}: {error}");
    }
}

#[test]
fn values_of_the_old_chart_are_accepted() {
    let Some(kube) = control_plane() else { return };
    let text = helm(&kube, &[
        "template", "postgres-operator", CHART, "--kube-version", "1.35.0", "--set", "configTarget=ConfigMap",
        "--set", "image.registry=ghcr.io,image.repository=zalando/postgres-operator,image.tag=v1.15.1",
        "--set", "configGeneral.docker_image=ghcr.io/zalando/spilo-17:4.0-p3,configGeneral.max_instances=-1",
        "--set", "configUsers.super_username=postgres,configTimeouts.ready_wait_timeout=30s",
        "--set", "configAwsOrGcp.aws_region=eu-central-1,configConnectionPooler.connection_pooler_mode=transaction",
        "--set", "controllerID.create=true,controllerID.name=second,enableJsonLogging=true",
        "--set", "extraEnvs[0].name=A,extraEnvs[0].value=b,podLabels.x=y,priorityClassName=high",
    ])
    .unwrap();
    for part in [
        "max_instances: \"-1\"",
        "docker_image: \"ghcr.io/zalando/spilo-17:4.0-p3\"",
        "value: \"second\"",
        "ENABLE_JSON_LOGGING",
        "priorityClassName: high",
        "connection_pooler_mode: \"transaction\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

/// The kustomize base and the example for Git are what the API server takes, and a second time is no change.
#[test]
fn the_kustomize_base_and_the_example_for_git_are_applied() {
    let Some(kube) = control_plane() else { return };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    for _ in 0..2 {
        kube.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-k",
            &format!("{root}/examples/gitops/operator"),
        ]);
        kube.kubectl(&[
            "apply",
            "--server-side",
            "-k",
            &format!("{root}/examples/gitops/clusters"),
        ]);
    }
    let configuration: Value =
        serde_json::from_str(&kube.kubectl(&["-n", "howdah", "get", "configmap", "howdah", "-o", "json"]))
            .unwrap();
    assert_eq!(
        configuration["data"]["enable_persistent_volume_claim_deletion"],
        "false"
    );
    // kubectl diff: exit code 1 and a text where something differs.
    kube.kubectl(&[
        "diff",
        "--server-side",
        "-k",
        &format!("{root}/examples/gitops/clusters"),
    ]);
    kube.kubectl(&[
        "delete",
        "-k",
        &format!("{root}/examples/gitops/clusters"),
        "--wait=false",
    ]);
    kube.kubectl(&["-n", "howdah", "delete", "deployment", "howdah"]);
}
