//! The REST API as load balancers, operators and scripts use it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{process::Command, time::Duration};

use howdah_clock::now;
use howdah_http::{Client, Method, Url, basic_auth, client_tls};
use howdah_testkit::{Lab, LabOptions};
use serde_json::json;

/// Patroni's `http_extra_headers`, which a browser's policy or a proxy may need.
#[tokio::test]
async fn every_answer_has_the_extra_headers() {
    let lab = Lab::new(LabOptions::howdah(1).unwrap()).await.unwrap();
    let file = lab.dir().join("m0.yml");
    let mut config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    config["restapi"]["http_extra_headers"] = json!({"X-Frame-Options": "SAMEORIGIN"});
    config["restapi"]["https_extra_headers"] = json!({"Strict-Transport-Security": "max-age=1"});
    std::fs::write(&file, config.to_string()).unwrap();
    let mut lab = lab;
    lab.start_all().unwrap();
    lab.wait_healthy(Duration::from_secs(30)).await.unwrap();
    let url = format!(
        "http://127.0.0.1:{}/patroni",
        config["restapi"]["listen"]
            .as_str()
            .unwrap()
            .rsplit(':')
            .next()
            .unwrap()
    );
    let output = Command::new("curl")
        .args(["-s", "-D", "-", "-o", "/dev/null", &url])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
    assert!(said.contains("x-frame-options: sameorigin"), "{said}");
    assert!(
        !said.contains("strict-transport-security"),
        "only over TLS: {said}"
    );
}

#[tokio::test]
async fn health_checks_tell_primary_and_replica_apart() {
    let lab = Lab::running(LabOptions::howdah(2).unwrap()).await.unwrap();
    let primary = lab.wait_primary(Duration::from_secs(20)).await.unwrap();
    for (path, on_primary, on_replica) in [
        ("/", 200, 503),
        ("/primary", 200, 503),
        ("/leader", 200, 503),
        ("/read-write", 200, 503),
        ("/replica", 503, 200),
        ("/replica?lag=1MB", 503, 200),
        ("/async", 503, 200),
        ("/sync", 503, 503),
        ("/read-only", 200, 200),
        ("/health", 200, 200),
        ("/liveness", 200, 200),
        ("/readiness", 200, 200),
        ("/patroni", 200, 200),
        ("/cluster", 200, 200),
        ("/config", 200, 200),
        ("/history", 200, 200),
        ("/metrics", 200, 200),
        ("/failsafe", 502, 502),
        ("/nonsense", 503, 503),
    ] {
        for (i, member) in lab.members.iter().enumerate() {
            let wanted = if i == primary { on_primary } else { on_replica };
            let status = member.call(Method::GET, path, None).await.unwrap().status;
            assert_eq!(
                status,
                wanted,
                "GET {path} on {}",
                if i == primary { "primary" } else { "replica" }
            );
        }
    }
    let options = lab.members[primary]
        .call(Method::OPTIONS, "/primary", None)
        .await
        .unwrap();
    assert_eq!(
        (options.status, options.body.len()),
        (200, 0),
        "HAProxy asks by OPTIONS"
    );
    for (method, path, wanted) in [
        (Method::POST, "/nonsense", 501),
        (Method::POST, "/switchover", 400),
        (Method::DELETE, "/switchover", 404),
        (Method::DELETE, "/restart", 404),
        (Method::PATCH, "/config", 400),
    ] {
        let answer = lab.members[primary]
            .call(method.clone(), path, Some(&json!({})))
            .await
            .unwrap();
        assert_eq!(answer.status, wanted, "{method} {path}: {}", answer.text());
    }
    let metrics = lab.members[primary]
        .call(Method::GET, "/metrics", None)
        .await
        .unwrap()
        .text();
    assert!(
        metrics.contains("patroni_primary{scope=\"lab\",name="),
        "{metrics}"
    );
}

#[tokio::test]
async fn unsafe_verbs_need_the_password_and_tls_is_served() {
    let dir = tempdir();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    make_certificate(&dir);
    let port = howdah_testkit::free_port().unwrap();
    let restapi = json!({
        "listen": format!("127.0.0.1:{port}"), "connect_address": format!("127.0.0.1:{port}"),
        "certfile": cert, "keyfile": key, "cafile": cert,
        "authentication": {"username": "admin", "password": "secret"},
    });
    let mut lab = Lab::new(
        LabOptions::howdah(1)
            .unwrap()
            .local(json!({ "restapi": restapi })),
    )
    .await
    .unwrap();
    lab.start_all().unwrap();
    let url = |path: &str| Url::parse(&format!("https://127.0.0.1:{port}{path}")).unwrap();
    let tls = client_tls(Some(&cert), None, false).unwrap();
    let client = Client::new(Some(tls));
    let call = async |client: &Client, method: Method, path: &str| {
        client
            .request(
                method,
                &url(path),
                Some("{}".into()),
                now() + Duration::from_secs(10),
            )
            .await
            .map(|a| a.status)
    };
    howdah_testkit::until(
        "the primary answers over TLS",
        Duration::from_secs(30),
        async || matches!(call(&client, Method::GET, "/primary").await, Ok(200)),
    )
    .await
    .unwrap();
    assert_eq!(call(&client, Method::POST, "/reload").await.unwrap(), 401);
    let wrong = client
        .clone()
        .with_authorization(Some(basic_auth("admin", "guess")));
    assert_eq!(call(&wrong, Method::POST, "/reload").await.unwrap(), 401);
    let right = client
        .clone()
        .with_authorization(Some(basic_auth("admin", "secret")));
    assert_eq!(call(&right, Method::POST, "/reload").await.unwrap(), 202);
    // Certificates are renewed and passwords changed while the agent runs.
    make_certificate(&dir);
    let file = lab.dir().join("m0.yml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("\"secret\"", "\"better\"")).unwrap();
    assert_eq!(call(&right, Method::POST, "/reload").await.unwrap(), 202);
    let renewed = Client::new(Some(client_tls(Some(&cert), None, false).unwrap()));
    let renewed = renewed.with_authorization(Some(basic_auth("admin", "better")));
    howdah_testkit::until("both are taken", Duration::from_secs(10), async || {
        matches!(call(&renewed, Method::POST, "/reload").await, Ok(202))
    })
    .await
    .unwrap();
    assert!(
        call(&right, Method::GET, "/primary").await.is_err(),
        "the old certificate is gone"
    );
    #[allow(clippy::disallowed_methods, reason = "a test waits")]
    std::fs::remove_dir_all(dir).unwrap();
}

/// A certificate that signs itself, as `cert.pem` and `key.pem`.
fn make_certificate(dir: &std::path::Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=127.0.0.1",
        ])
        .args([
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .output()
        .unwrap();
    assert!(made.status.success());
    let readable = Command::new("chmod").arg("-R").arg("a+rX").arg(dir).status();
    assert!(readable.unwrap().success());
}

fn tempdir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("howdah-rest-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
