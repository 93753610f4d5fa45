//! Roles that change: passwords that rotate, robots of the operator's configuration, the people of teams. An operator with a
//! configuration of its own works on the sandbox's API, with real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use howdah_testkit::{Sandbox, howdah_binary, until};
use serde_json::{Value, json};
use tokio::sync::watch;

const NAME: &str = "acid-roles";
const OWNER: &str = "roles-test";
const SOON: Duration = Duration::from_secs(60);

/// A sandbox with an operator beside its own, which takes the clusters of this test.
struct Place {
    operator: Child,
    log: PathBuf,
    sandbox: Sandbox,
    _dir: tempfile::TempDir,
}

impl Place {
    fn start(settings: &Value) -> Place {
        let sandbox = Sandbox::start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        apply(
            &sandbox,
            &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": settings}),
        );
        let log = dir.path().join("operator.log");
        let file = std::fs::File::create(&log).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let operator = Command::new(howdah_binary().unwrap())
            .args([
                "operator",
                "--namespace",
                "default",
                "--operator-namespace",
                "default",
                "--no-leader-election",
            ])
            .args([
                "--controller-id",
                OWNER,
                "--config-map",
                "settings",
                "--listen",
                &format!("127.0.0.1:{port}"),
            ])
            .arg("--kubeconfig")
            .arg(sandbox.state().join("kubeconfig"))
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Place {
            operator,
            log,
            sandbox,
            _dir: dir,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn apply(&self, more: &Value) {
        let mut manifest = json!({
            "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
            "metadata": {"name": NAME, "annotations": {"acid.zalan.do/controller": OWNER}},
            "spec": {
                "teamId": "acid", "volume": {"size": "1Gi"}, "numberOfInstances": 1, "postgresql": {"version": "15"},
                "users": {"app": ["createdb"], "placed": []}, "databases": {"shop": "owner"},
            },
        });
        manifest["spec"]["users"]["owner"] = json!([]);
        let spec = manifest["spec"].as_object_mut().unwrap();
        spec.extend(more.as_object().unwrap().clone());
        let applied = self.sandbox.apply(&manifest.to_string());
        applied.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    fn sql(&self, statement: &str) -> String {
        self.sandbox.sql(NAME, "postgres", statement).unwrap()
    }

    /// A key of a role's Secret.
    fn value(&self, role: &str, key: &str) -> String {
        let name = format!("{role}.{NAME}.credentials.postgresql.acid.zalan.do");
        let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        self.sandbox
            .kubectl(&["get", "secret", &name, "-o", &template])
            .unwrap()
    }

    /// Makes a role's password due.
    fn due(&self, role: &str) {
        let name = format!("{role}.{NAME}.credentials.postgresql.acid.zalan.do");
        let patch = json!({"stringData": {"nextRotation": "2020-01-01T00:00:00Z"}}).to_string();
        self.sandbox
            .kubectl(&["patch", "secret", &name, "--type=merge", "-p", &patch])
            .unwrap();
    }

    /// Logs in and returns who that is, or the server's words.
    fn login(&self, user: &str, password: &str) -> Result<String, String> {
        let path = "jsonpath={.spec.clusterIP}";
        let address = self
            .sandbox
            .kubectl(&["get", "service", NAME, "-o", path])
            .unwrap();
        let output = Command::new("psql")
            .args(["-qXAt", "-c", "SELECT current_user"])
            .arg(format!(
                "host={} user={user} dbname=postgres sslmode=require connect_timeout=5",
                address.trim()
            ))
            .env("PGPASSWORD", password)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    async fn status_says(&self, text: &str) {
        let says = until(text, SOON, async || {
            self.sandbox
                .cluster(NAME)
                .is_ok_and(|cluster| cluster["status"].to_string().contains(text))
        });
        says.await.unwrap_or_else(|error| {
            panic!(
                "{error}: {}\n{}",
                self.sandbox.cluster(NAME).unwrap()["status"],
                self.log()
            )
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.operator.kill();
        let _ = self.operator.wait();
    }
}

fn apply(sandbox: &Sandbox, object: &Value) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object.to_string()).unwrap();
    sandbox
        .kubectl(&["apply", "-f", &file.path().to_string_lossy()])
        .unwrap();
}

#[tokio::test]
async fn passwords_change_and_nobody_is_locked_out() {
    let place =
        Place::start(&json!({"enable_password_rotation": "true", "password_rotation_interval": "30"}));
    place.apply(&json!({"usersWithInPlaceSecretRotation": ["placed"]}));
    let first = place.value("app", "password");
    assert_eq!(place.login("app", &first).unwrap(), "app");
    assert!(place.value("app", "nextRotation").ends_with('Z'));
    place.sql("ALTER ROLE app SET work_mem = '8MB'; CREATE ROLE app200101 LOGIN IN ROLE app; CREATE ROLE app200601 LOGIN IN ROLE app; CREATE ROLE app200102 LOGIN IN ROLE app; CREATE ROLE app200103 LOGIN; ALTER ROLE app SET search_path = ''");
    // One of the old roles owns something, and cannot be dropped; one is no member, and only has such a name.
    place.sql("GRANT CREATE ON SCHEMA public TO app200102; SET ROLE app200102; CREATE TABLE kept (a int)");

    place.due("app");
    let name = |role: &str| place.value(role, "username");
    let changed = until("a newer role", SOON, async || name("app") != "app");
    changed
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", place.log()));
    let (newer, password) = (name("app"), place.value("app", "password"));
    assert!(newer.len() == 9 && newer.starts_with("app"), "{newer}");
    // It works at once, and so does what applications hold.
    assert_eq!(place.login(&newer, &password).unwrap(), newer);
    assert_eq!(place.login("app", &first).unwrap(), "app");
    assert_eq!(place.sql(&format!("SELECT pg_has_role('{newer}', 'app', 'MEMBER'), rolcreatedb FROM pg_roles WHERE rolname = '{newer}'")), "t|t");
    assert!(
        place
            .sql(&format!(
                "SELECT rolconfig FROM pg_roles WHERE rolname = '{newer}'"
            ))
            .contains("work_mem=8MB")
    );
    // The newest of the old ones may be in use still; one that owns something stays, and that is said.
    let old = "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname ~ '^app20'";
    let dropped = until("an old role is dropped", SOON, async || {
        place.sql(old) == "app200102 app200103 app200601"
    });
    dropped
        .await
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", place.sql(old), place.log()));
    let told = until("the reason", SOON, async || {
        place
            .sandbox
            .kubectl(&["get", "events"])
            .unwrap()
            .contains("role app200102 is old enough to be dropped and stays")
    });
    told.await
        .unwrap_or_else(|error| panic!("{error}\n{}", place.log()));

    // In place: the same role, another password.
    let before = place.value("placed", "password");
    place.due("placed");
    let changed = until("another password", SOON, async || {
        place.value("placed", "password") != before
    });
    changed
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", place.log()));
    assert_eq!(name("placed"), "placed");
    assert_eq!(
        place.login("placed", &place.value("placed", "password")).unwrap(),
        "placed"
    );
    assert!(
        place
            .login("placed", &before)
            .unwrap_err()
            .contains("password authentication failed")
    );

    // A Secret that is deleted comes back with the newer role and its password.
    let secret = format!("app.{NAME}.credentials.postgresql.acid.zalan.do");
    place.sandbox.kubectl(&["delete", "secret", &secret]).unwrap();
    let back = until("the Secret comes back", SOON, async || {
        place.sandbox.kubectl(&["get", "secret", &secret]).is_ok()
    });
    back.await.unwrap();
    assert_eq!(
        (name("app"), place.value("app", "password")),
        (newer.clone(), password.clone())
    );

    // Without rotation the Secret names the role itself again, with a password that works.
    place.apply(
        &json!({"usersIgnoringSecretRotation": ["app"], "usersWithInPlaceSecretRotation": ["placed"]}),
    );
    let back = until("the role itself", SOON, async || name("app") == "app");
    back.await
        .unwrap_or_else(|error| panic!("{error}\n{}", place.log()));
    assert_eq!(
        place.login("app", &place.value("app", "password")).unwrap(),
        "app"
    );
    // Who still holds the newer one is not thrown out.
    assert_eq!(place.login(&newer, &password).unwrap(), newer);
}

/// A teams API: what it answers can be changed.
fn teams_api() -> (u16, watch::Sender<String>) {
    let (answer, answers) = watch::channel(String::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(request.get(..read).unwrap_or_default()).into_owned();
            let answer = answers.borrow().clone();
            if answer == "silent" {
                // The connection stays open and says nothing.
                std::mem::forget(stream);
                continue;
            }
            let is_right = request.starts_with("GET /api/teams/acid ")
                && request.to_lowercase().contains("authorization: bearer s3cret");
            let (status, body) = if answer == "absent" {
                ("404 Not Found", "no such team")
            } else if is_right {
                ("200 OK", answer.as_str())
            } else {
                ("401 Unauthorized", "{}")
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (port, answer)
}

#[tokio::test]
async fn robots_and_people_have_roles_and_who_leaves_cannot_log_in() {
    let (port, answer) = teams_api();
    let say = |text: &str| drop(answer.send_replace(text.to_owned()));
    say(r#"{"id": "acid", "member": ["ann", "bob", "Not A Role", "postgres"]}"#);
    let place = Place::start(&json!({
        "enable_teams_api": "true", "teams_api_url": format!("http://127.0.0.1:{port}/api/"), "oauth_token_secret_name": "token",
        "enable_team_member_deprecation": "true", "infrastructure_roles_secret_name": "robots", "additional_owner_roles": "robot_a,ghost",
        "postgres_superuser_teams": "", "team_api_role_configuration": "log_statement:ddl,search_path:a",
    }));
    apply(
        &place.sandbox,
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"},
        "stringData": {"read-only-token-type": "Bearer", "read-only-token-secret": "s3cret"}}),
    );
    apply(
        &place.sandbox,
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "robots"},
        "stringData": {"user1": "robot_a", "password1": "one", "inrole1": "pg_monitor"}}),
    );
    apply(
        &place.sandbox,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "robots"},
        "data": {"robot_a": "user_flags: [createdb]\ndb_parameters:\n  log_statement: all\n"}}),
    );
    place.apply(&json!({}));
    place.sql("DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'zalandos') THEN CREATE ROLE zalandos; END IF; END $$");
    assert_eq!(place.login("robot_a", "one").unwrap(), "robot_a");
    assert_eq!(place.sql("SELECT rolcreatedb, rolconfig, pg_has_role('robot_a', 'pg_monitor', 'MEMBER') FROM pg_roles WHERE rolname = 'robot_a'"), "t|{log_statement=all}|t");
    assert_eq!(place.sql("SELECT pg_has_role('owner', 'robot_a', 'MEMBER')"), "t");
    place
        .status_says("role owner is no member of ghost: there is no such role")
        .await;
    let people = "SELECT string_agg(rolname || ':' || rolcanlogin || ':' || rolsuper, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname ~ '^(ann|bob)'";
    assert_eq!(place.sql(people), "ann:true:false bob:true:false");
    assert!(
        place
            .sql("SELECT rolconfig FROM pg_roles WHERE rolname = 'ann'")
            .contains("log_statement=ddl")
    );

    // What is remembered is asked for again after half a minute; a change of the manifest begins a pass then.
    let step = std::cell::Cell::new(0);
    let pass = || {
        step.set(step.get() + 1);
        place.apply(
            &json!({"podAnnotations": {}, "patroni": {"maximum_lag_on_failover": 1_000_000 + step.get()}}),
        );
    };
    // An API that does not answer says nothing about who has left.
    say("silent");
    let unknown = until("it is not known", SOON, async || {
        place.sandbox.cluster(NAME).is_ok_and(|cluster| {
            cluster["status"]
                .to_string()
                .contains("the people of team acid are not known")
        }) || {
            pass();
            false
        }
    });
    unknown
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", place.log()));
    assert_eq!(place.sql(people), "ann:true:false bob:true:false");
    say("absent");
    pass();
    assert_eq!(place.sql(people), "ann:true:false bob:true:false");
    // Who has a password of their own leaves all the same.
    place.sql("ALTER ROLE bob PASSWORD 'own'");
    say(r#"{"id": "acid", "member": ["ann"]}"#);
    let left = until("bob has left", SOON, async || {
        place.sql(people) == "ann:true:false bob_deleted:false:false" || {
            pass();
            false
        }
    });
    left.await
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", place.sql(people), place.log()));
    say(r#"{"id": "acid", "member": ["ann", "bob"]}"#);
    let back = until("bob is back", SOON, async || {
        place.sql(people) == "ann:true:false bob:true:false" || {
            pass();
            false
        }
    });
    back.await
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", place.sql(people), place.log()));
}

#[tokio::test]
async fn who_may_make_roles_becomes_no_superuser() {
    let place = Place::start(&json!({}));
    let users = json!({"app": [], "owner": [], "mallory": ["createrole"], "inj": [], "held": []});
    let rotated = json!(["inj", "held"]);
    place.apply(&json!({"users": users, "usersWithSecretRotation": rotated}));
    let as_user = |user: &str, statement: &str| {
        let args = [
            "psql", NAME, "-U", user, "-d", "postgres", "--", "-qXAtc", statement,
        ];
        place.sandbox.run(&args).unwrap()
    };
    // The role of tomorrow's manifest is made today, and granted to its maker.
    as_user("mallory", "CREATE ROLE chief; GRANT chief TO mallory");
    let day = place.sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYMMDD')");
    as_user(
        "mallory",
        &format!("CREATE ROLE held{day} IN ROLE held; GRANT held{day} TO mallory"),
    );
    let mut more = users.clone();
    more["chief"] = json!(["superuser"]);
    place.apply(&json!({"users": more, "usersWithSecretRotation": rotated}));
    place
        .status_says("role chief does not get SUPERUSER, because mallory could become it")
        .await;
    assert_eq!(
        place.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'chief'"),
        "f"
    );
    // A line break in a parameter makes no second one.
    as_user(
        "inj",
        "ALTER ROLE inj SET search_path = E'a\\nsession_replication_role=replica\\nlog_statement=none'",
    );
    place.due("inj");
    place.due("held");
    let changed = until("a newer role", SOON, async || {
        place.value("inj", "username") != "inj"
    });
    changed
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", place.log()));
    let settings =
        place.sql("SELECT array_length(rolconfig, 1) FROM pg_roles WHERE rolname ~ '^inj[0-9]{6}$'");
    assert_eq!(settings, "1");
    // A newer role that is there already is not taken, and what the Secret says still works.
    place
        .status_says(&format!("there is a role held{day} already"))
        .await;
    assert_eq!(place.value("held", "username"), "held");
    assert_eq!(
        place.login("held", &place.value("held", "password")).unwrap(),
        "held"
    );
    assert_eq!(
        place.sql(&format!(
            "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'held{day}'"
        )),
        "f"
    );
}
