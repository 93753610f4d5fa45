use std::time::Duration;

use howdah_overview::{MemberOverview, WalPosition, members};
use serde_json::{Map, Value, json};

use crate::{
    cli::{Format, ListArgs},
    context::{Cluster, Context},
    table::{Column, column, render},
};

pub(crate) async fn list(context: &Context, args: &ListArgs) -> anyhow::Result<()> {
    let every = args.watch.or(args.watch_2.then_some(2.0));
    loop {
        if args.timestamp {
            println!("{}", jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S"));
        }
        if args.cluster_names.is_empty() {
            print!("{}", describe(&context.cluster(None).await?, args));
        }
        for name in &args.cluster_names {
            print!("{}", describe(&context.cluster(Some(name)).await?, args));
        }
        let Some(seconds) = every else { return Ok(()) };
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
}

/// The table of a cluster, for commands that show it first.
pub(crate) fn overview(cluster: &Cluster) -> String {
    let args = ListArgs {
        cluster_names: Vec::new(),
        extended: false,
        timestamp: false,
        format: Format::Pretty,
        watch_2: false,
        watch: None,
    };
    describe(cluster, &args)
}

fn describe(cluster: &Cluster, args: &ListArgs) -> String {
    let rows = members(&cluster.view);
    let pretty = args.format == Format::Pretty;
    let (columns, cells) = table(cluster.scope.as_str(), &rows, pretty, args.extended);
    let id = match cluster.view.initialize.as_deref() {
        None => "uninitialized",
        Some("") => "initializing",
        Some(id) => id,
    };
    let header = format!(" Cluster: {} ({id}) ", cluster.scope);
    let mut text = render(&columns, &cells, args.format, &header);
    if pretty {
        text += &footer(cluster);
    }
    text
}

/// Makes the cell of one member, for people (`true`) or for machines.
type CellOf = fn(&MemberOverview, bool) -> Value;

/// The columns in Patroni's order; the last four only if some member has a value, or all are wanted.
fn table(
    scope: &str,
    rows: &[MemberOverview],
    pretty: bool,
    extended: bool,
) -> (Vec<Column>, Vec<Vec<Value>>) {
    let lag = |key: &'static str| Column {
        key,
        title: "Lag",
        right: true,
    };
    let mut columns = vec![
        column("Member", false),
        column("Host", false),
        column("Role", false),
        column("State", false),
        column("TL", true),
        column("Receive LSN", true),
        lag("Receive Lag"),
        column("Replay LSN", true),
        lag("Replay Lag"),
    ];
    if !pretty {
        columns.insert(0, column("Cluster", false));
    }
    let with_port = needs_port(rows);
    let mut cells: Vec<Vec<Value>> = rows
        .iter()
        .map(|row| basic_cells(scope, row, pretty, with_port))
        .collect();
    let optional: [(Column, CellOf); 4] = [
        (column("Pending restart", false), |row, _| {
            if row.pending_restart.is_some() {
                "*".into()
            } else {
                Value::Null
            }
        }),
        (column("Pending restart reason", false), |row, pretty| {
            row.pending_restart
                .as_ref()
                .map_or(Value::Null, |reason| pending_reason(reason, pretty))
        }),
        (column("Scheduled restart", false), |row, _| {
            row.scheduled_restart
                .as_ref()
                .and_then(|plan| plan.get("schedule").cloned())
                .unwrap_or(Value::Null)
        }),
        (column("Tags", false), |row, pretty| tags(&row.tags, pretty)),
    ];
    for (extra, value) in optional {
        let values: Vec<Value> = rows.iter().map(|row| value(row, pretty)).collect();
        if extended || values.iter().any(|value| !value.is_null()) {
            columns.push(extra);
            for (row, value) in cells.iter_mut().zip(values) {
                row.push(value);
            }
        }
    }
    (columns, cells)
}

fn basic_cells(scope: &str, row: &MemberOverview, pretty: bool, with_port: bool) -> Vec<Value> {
    let host = match row.port {
        Some(port) if with_port => format!("{}:{port}", row.host),
        _ => row.host.clone(),
    };
    let position = |value: Option<WalPosition>| -> [Value; 2] {
        match value {
            _ if row.role.leads() => [Value::Null, Value::Null],
            Some(WalPosition { lsn, lag }) => [lsn.to_string().into(), megabytes(lag).into()],
            None => ["unknown".into(), Value::Null],
        }
    };
    let mut cells: Vec<Value> = vec![
        row.name.clone().into(),
        host.into(),
        row.role.title().into(),
        row.state.to_string().into(),
        row.timeline.map_or(Value::Null, |timeline| timeline.0.into()),
    ];
    cells.extend(position(row.received));
    cells.extend(position(row.replayed));
    if !pretty {
        cells.insert(0, scope.into());
    }
    cells
}

/// Bytes in MB, rounded half to even as Python does.
fn megabytes(bytes: u64) -> u64 {
    let (whole, rest) = (bytes >> 20, bytes & 0xf_ffff);
    match rest.cmp(&0x8_0000) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Greater => whole + 1,
        std::cmp::Ordering::Equal => whole + (whole & 1),
    }
}

/// The port is shown when it is not the usual one, or members share a host.
fn needs_port(rows: &[MemberOverview]) -> bool {
    let unusual = rows.iter().any(|row| row.port.is_some_and(|port| port != 5432));
    let shared = rows
        .iter()
        .enumerate()
        .any(|(i, row)| rows.iter().skip(i + 1).any(|other| other.host == row.host));
    unusual || shared
}

fn pending_reason(reason: &Map<String, Value>, pretty: bool) -> Value {
    let lines: Vec<String> = reason
        .iter()
        .map(|(name, change)| {
            let side = |key: &str| {
                change
                    .get(key)
                    .map(howdah_config::string_form)
                    .unwrap_or_default()
            };
            let line = format!("{name}: {}->{}", side("old_value"), side("new_value"));
            if pretty && line.len() > 50 {
                format!("{name}: [hidden - too long]")
            } else {
                line
            }
        })
        .collect();
    if lines.is_empty() {
        Value::Null
    } else {
        lines.join("\n").into()
    }
}

fn tags(tags: &Map<String, Value>, pretty: bool) -> Value {
    if tags.is_empty() {
        return Value::Null;
    }
    if !pretty {
        return json!(tags);
    }
    let lines: Vec<String> = tags
        .iter()
        .map(|(k, v)| format!("{k}: {}", crate::table::cell(v)))
        .collect();
    lines.join("\n").into()
}

fn footer(cluster: &Cluster) -> String {
    let mut text = String::new();
    if cluster.is_paused() {
        text += " Maintenance mode: on\n";
    }
    let scheduled = cluster
        .view
        .failover
        .value
        .as_ref()
        .filter(|request| request.scheduled_at.is_some());
    if let Some(request) = scheduled {
        let title = " Switchover scheduled at: ";
        text += &format!("{title}{}\n", request.scheduled_at.clone().unwrap_or_default());
        for (label, name) in [("from", &request.leader), ("to", &request.candidate)] {
            if let Some(name) = name {
                text += &format!("{:>width$}: {name}\n", label, width = title.len() - 2);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn megabytes_round_half_to_even() {
        assert_eq!([0, 524_288, 524_289, 1_572_864].map(megabytes), [0, 0, 1, 2]);
    }
}
