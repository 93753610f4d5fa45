//! What PgBouncer's console says, as Prometheus' metrics: the names of the exporter that is in use for it
//! (prometheus-community/pgbouncer_exporter).

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use howdah_clock::now;
use howdah_http::{Limits, Reply, serve};
use howdah_sql::{Session, SimpleQueryRow, Target, Tls};
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use tokio::{net::TcpListener, sync::watch};

/// The console answers within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the console is: by its socket the user that PgBouncer runs as needs no password.
#[derive(Clone, Debug)]
pub(super) struct Console {
    pub(super) directory: PathBuf,
    pub(super) port: u16,
}

/// A metric: its name, its type, what it is, the column, and the factor from the column's unit.
type Metric = (&'static str, &'static str, &'static str, &'static str, f64);

const MICROSECONDS: f64 = 1e-6;

#[rustfmt::skip]
const STATS: &[Metric] = &[
    ("stats_sql_transactions_pooled_total", "counter", "Transactions", "total_xact_count", 1.0),
    ("stats_queries_pooled_total", "counter", "Queries", "total_query_count", 1.0),
    ("stats_received_bytes_total", "counter", "Bytes from clients", "total_received", 1.0),
    ("stats_sent_bytes_total", "counter", "Bytes to clients", "total_sent", 1.0),
    ("stats_server_in_transaction_seconds_total", "counter", "Time in transactions", "total_xact_time", MICROSECONDS),
    ("stats_queries_duration_seconds_total", "counter", "Time in queries", "total_query_time", MICROSECONDS),
    ("stats_client_wait_seconds_total", "counter", "Time that clients waited for a server", "total_wait_time", MICROSECONDS),
];

#[rustfmt::skip]
const POOLS: &[Metric] = &[
    ("pools_client_active_connections", "gauge", "Clients with a server, or idle", "cl_active", 1.0),
    ("pools_client_waiting_connections", "gauge", "Clients that wait for a server", "cl_waiting", 1.0),
    ("pools_server_active_connections", "gauge", "Servers with a client", "sv_active", 1.0),
    ("pools_server_idle_connections", "gauge", "Servers without a client", "sv_idle", 1.0),
    ("pools_server_used_connections", "gauge", "Servers that are checked before they are used again", "sv_used", 1.0),
    ("pools_server_testing_connections", "gauge", "Servers that are being reset or checked", "sv_tested", 1.0),
    ("pools_server_login_connections", "gauge", "Servers that are being logged in to", "sv_login", 1.0),
    ("pools_client_maxwait_seconds", "gauge", "How long the first client in line has waited", "maxwait", 1.0),
];

/// Serves `/metrics` until `stop` says true.
pub(super) async fn run(listener: TcpListener, console: Console, stop: watch::Receiver<bool>) {
    let (_plain, tls) = watch::channel(None);
    let limits = Limits {
        connections: 16,
        from_one_address: 16,
        ..Limits::default()
    };
    let handler = move |request: Request<Incoming>, _| {
        let console = console.clone();
        async move {
            if request.uri().path() != "/metrics" {
                return reply(StatusCode::NOT_FOUND, "there is nothing at this path\n".into());
            }
            let found = read(&console).await;
            if let Err(error) = &found {
                eprintln!("The console of PgBouncer does not answer: {error:#}.");
            }
            reply(StatusCode::OK, text(found.ok()))
        }
    };
    serve(listener, limits, tls, stop, handler).await;
}

fn reply(status: StatusCode, text: String) -> Reply {
    let mut reply = Response::new(Full::new(text.into()));
    *reply.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}

/// Rows of the console, each with its columns.
type Rows = Vec<Vec<(String, String)>>;

async fn read(console: &Console) -> anyhow::Result<(Rows, Rows)> {
    let deadline = now() + PATIENCE;
    let host = console.directory.display().to_string();
    let target = Target {
        host: &host,
        port: console.port,
        user: "pgbouncer",
        password: None,
        database: "pgbouncer",
        application: "howdah pooler",
        options: "",
        tls: Tls::Off,
    };
    let session = Session::connect(&target, deadline).await.context("connecting")?;
    let stats = session.rows("SHOW STATS", deadline).await.context("SHOW STATS")?;
    let pools = session.rows("SHOW POOLS", deadline).await.context("SHOW POOLS")?;
    Ok((
        stats.iter().map(columns).collect(),
        pools.iter().map(columns).collect(),
    ))
}

fn columns(row: &SimpleQueryRow) -> Vec<(String, String)> {
    let names = row.columns().iter().enumerate();
    names
        .map(|(index, column)| {
            (
                column.name().to_owned(),
                row.get(index).unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

/// The text of the page; without an answer only that there is none.
fn text(found: Option<(Rows, Rows)>) -> String {
    let mut out = format!(
        "# HELP pgbouncer_up Whether the console answers\n# TYPE pgbouncer_up gauge\npgbouncer_up {}\n",
        u8::from(found.is_some())
    );
    let Some((stats, pools)) = found else {
        return out;
    };
    for (metrics, rows, labels) in [
        (STATS, &stats, &["database"][..]),
        (POOLS, &pools, &["database", "user"]),
    ] {
        for (name, kind, about, column, factor) in metrics {
            let _ = write!(
                out,
                "# HELP pgbouncer_{name} {about}\n# TYPE pgbouncer_{name} {kind}\n"
            );
            for row in rows {
                let find = |column: &str| row.iter().find(|(name, _)| name == column).map(|(_, text)| text);
                let Some(value) = find(column).and_then(|text| text.parse::<f64>().ok()) else {
                    continue;
                };
                let labels: Vec<String> = labels
                    .iter()
                    .map(|label| format!("{label}=\"{}\"", escaped(find(label).map_or("", String::as_str))))
                    .collect();
                let _ = writeln!(out, "pgbouncer_{name}{{{}}} {}", labels.join(","), value * factor);
            }
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn rows_become_metrics_in_seconds() {
        let stats = vec![row(&[
            ("database", "a\"b"),
            ("total_xact_count", "7"),
            ("total_wait_time", "1500000"),
        ])];
        let pools = vec![row(&[
            ("database", "app"),
            ("user", "u"),
            ("cl_waiting", "3"),
            ("pool_mode", "transaction"),
        ])];
        let text = text(Some((stats, pools)));
        for line in [
            "pgbouncer_up 1",
            r#"pgbouncer_stats_sql_transactions_pooled_total{database="a\"b"} 7"#,
            r#"pgbouncer_stats_client_wait_seconds_total{database="a\"b"} 1.5"#,
            r#"pgbouncer_pools_client_waiting_connections{database="app",user="u"} 3"#,
            "# TYPE pgbouncer_pools_client_waiting_connections gauge",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}: {text}");
        }
        // A column that this version of PgBouncer does not have is left out.
        assert!(!text.contains("sv_active") && !text.contains("pools_server_active_connections{"));
    }

    #[test]
    fn a_console_that_does_not_answer_is_said() {
        assert!(text(None).contains("\npgbouncer_up 0\n"));
    }
}
