use howdah_http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Scene, of};
use crate::processes::send;

/// What is asked for in maintenance mode.
#[derive(Clone, Copy)]
pub(super) enum Wish {
    Restart,
    Reinit,
    Switchover,
}

pub(super) async fn switchover(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let body = json!({ "leader": scene.member().name });
    ask(scene, scene.primary, Method::POST, "/switchover", &body, 200).await
}

/// PostgreSQL takes the name of any library, and then does not start.
pub(super) async fn bad_parameter(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    preload(scene, json!("no_such_library")).await?;
    // Whatever it is answered with: the primary must serve.
    let primary = &scene.lab.members[scene.primary];
    primary.call(Method::POST, "/restart", Some(&json!({}))).await?;
    scene.lab.wait_primary(scene.patience).await?;
    // Also an agent that knows nothing of the start that failed.
    if let Some(replica) = scene.replicas().first().copied() {
        scene.lab.members[replica].kill_node();
        scene.lab.members[replica].start()?;
    }
    scene.lab.wait_healthy(scene.patience).await?;
    preload(scene, Value::Null).await
}

async fn preload(scene: &Scene<'_>, library: Value) -> anyhow::Result<()> {
    let parameters = json!({ "shared_preload_libraries": library });
    let body = json!({"postgresql": {"parameters": parameters}});
    ask(scene, scene.primary, Method::PATCH, "/config", &body, 200).await
}

pub(super) async fn wrong_values(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let parameters = [
        ("checkpoint_timeout", json!("1h30")),
        ("work_mem", json!("64mb")),
        ("work_mem", json!("8MBB")),
        ("max_connections", json!(300_000)),
        ("max_connections", json!(-5)),
        ("wal_level", json!("everything")),
        ("shared_buffers", json!([])),
        ("MAX_WORKER_PROCESSES", json!("many")),
    ];
    for (name, value) in parameters {
        let body = json!({"postgresql": {"parameters": {name: value}}});
        ask(scene, scene.primary, Method::PATCH, "/config", &body, 400).await?;
    }
    let others = [
        json!({"postgresql": {"parameters": "x"}}),
        json!({"postgresql": {"pg_hba": [1, 2, {}]}}),
        json!({"postgresql": {"pg_hba": ["host all all 127.0.0.1/33 md5"]}}),
        json!({"ttl": 1e30}),
        json!({"loop_wait": "soon"}),
    ];
    for body in others {
        ask(scene, scene.primary, Method::PATCH, "/config", &body, 400).await?;
    }
    // What is unusual is not wrong.
    let unusual = |value: Value| json!({"postgresql": {"parameters": {"archive_command": value}}});
    let body = unusual(json!("true\n"));
    ask(scene, scene.primary, Method::PATCH, "/config", &body, 200).await?;
    ask(scene, scene.primary, Method::POST, "/restart", &json!({}), 200).await?;
    let body = unusual(Value::Null);
    ask(scene, scene.primary, Method::PATCH, "/config", &body, 200).await
}

/// The guard has not started it and must fence it all the same.
pub(super) async fn started_by_hand(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    pause(scene, true).await?;
    let member = scene.member();
    send(of(member.postmaster_pid(), "postmaster")?, Signal::INT);
    let member = &scene.lab.members[scene.primary];
    crate::until("PostgreSQL has ended", scene.patience, async || {
        member.postmaster_pid().is_none()
    })
    .await?;
    member.start_postgres_by_hand()?;
    scene.lab.wait_primary(scene.patience).await?;
    pause(scene, false).await?;
    scene.lab.wait_healthy(scene.patience).await?;
    // Rows that the primary has acknowledged alone would keep everybody else from leading.
    if scene.lab.config().await?["synchronous_mode"] == true {
        scene.lab.wait_sync(scene.patience).await?;
    }
    // Whatever the agent does then, the lease ends.
    super::store::leader_cut(scene).await
}

pub(super) async fn paused(scene: &mut Scene<'_>, wish: Wish) -> anyhow::Result<()> {
    pause(scene, true).await?;
    let nothing = json!({});
    match wish {
        Wish::Restart => ask(scene, scene.primary, Method::POST, "/restart", &nothing, 200).await?,
        Wish::Reinit => {
            for replica in scene.replicas().into_iter().take(1) {
                ask(scene, replica, Method::POST, "/reinitialize", &nothing, 200).await?;
            }
        }
        Wish::Switchover => {
            let candidate = candidate(scene).await;
            let body = json!({
                "leader": scene.member().name,
                "candidate": scene.lab.members[candidate].name,
            });
            ask(scene, scene.primary, Method::POST, "/switchover", &body, 200).await?;
        }
    }
    // It does not wait for the end of the pause.
    scene.lab.wait_healthy(scene.patience).await?;
    pause(scene, false).await
}

/// A replica that may take over: in synchronous mode the synchronous standby.
async fn candidate(scene: &Scene<'_>) -> usize {
    let replicas = scene.replicas();
    for i in &replicas {
        if scene.lab.members[*i].status().await["sync_standby"] == true {
            return *i;
        }
    }
    replicas.first().copied().unwrap_or_default()
}

async fn pause(scene: &Scene<'_>, pause: bool) -> anyhow::Result<()> {
    let leader = scene.lab.wait_primary(scene.patience).await?;
    ask(
        scene,
        leader,
        Method::PATCH,
        "/config",
        &json!({ "pause": pause }),
        200,
    )
    .await?;
    crate::until("all members have seen it", scene.patience, async || {
        let mut all = true;
        for member in &scene.lab.members {
            all &= (member.status().await["pause"] == true) == pause;
        }
        all
    })
    .await
}

async fn ask(
    scene: &Scene<'_>,
    member: usize,
    method: Method,
    path: &str,
    body: &Value,
    expected: u16,
) -> anyhow::Result<()> {
    let answer = scene.lab.members[member]
        .call(method.clone(), path, Some(body))
        .await?;
    anyhow::ensure!(
        answer.status == expected,
        "{method} {path} {body}: {} {}",
        answer.status,
        answer.text()
    );
    Ok(())
}
