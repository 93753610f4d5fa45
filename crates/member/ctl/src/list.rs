use std::time::Duration;

use howdah_overview::{MemberOverview, WalPosition, members};
use serde_json::{Map, Value, json};

use crate::{
    cli::{Format, ListArgs, TopologyArgs},
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

/// `topology`
pub(crate) async fn topology(context: &Context, args: &TopologyArgs) -> anyhow::Result<()> {
    let every = args.watch.or(args.watch_2.then_some(2.0));
    loop {
        let names = args.cluster_names.iter().map(Some);
        let names: Vec<Option<&String>> = if names.len() == 0 {
            vec![None]
        } else {
            names.collect()
        };
        for name in names {
            let cluster = context.cluster(name.map(String::as_str)).await?;
            let rows = tree(members(&cluster.view));
            print!("{}", shown(&cluster, &rows, Format::Pretty, false));
        }
        let Some(seconds) = every else { return Ok(()) };
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
}

/// Members below the one that they are told to stream from, else below the leader, with their depth before their names.
fn tree(members: Vec<MemberOverview>) -> Vec<MemberOverview> {
    let (leaders, replicas): (Vec<_>, Vec<_>) = members.into_iter().partition(|member| member.role.leads());
    let leader = leaders.first().map(|leader| leader.name.clone());
    let parents: Vec<Option<String>> = replicas
        .iter()
        .map(|replica| {
            let wanted = replica.tags.get("replicatefrom").and_then(Value::as_str);
            let is_replica =
                |name: &&str| *name != replica.name && replicas.iter().any(|other| other.name == *name);
            wanted
                .filter(is_replica)
                .map(str::to_owned)
                .or_else(|| leader.clone())
        })
        .collect();
    let mut rows = leaders;
    let mut left: Vec<(Option<String>, MemberOverview)> = parents.into_iter().zip(replicas).collect();
    hang(leader, usize::from(!rows.is_empty()), &mut left, &mut rows);
    // Members that name each other stand below no other: they come last.
    rows.extend(left.into_iter().map(|(_, member)| member));
    rows
}

fn hang(
    parent: Option<String>,
    depth: usize,
    left: &mut Vec<(Option<String>, MemberOverview)>,
    rows: &mut Vec<MemberOverview>,
) {
    let (children, others): (Vec<_>, Vec<_>) = std::mem::take(left)
        .into_iter()
        .partition(|(of, _)| *of == parent);
    *left = others;
    for (_, mut child) in children {
        let name = child.name.clone();
        if depth > 0 {
            child.name = format!("{}+ {name}", "  ".repeat(depth - 1));
        }
        rows.push(child);
        hang(Some(name), depth + 1, left, rows);
    }
}

/// The table of a cluster, for commands that show it first.
pub(crate) fn overview(cluster: &Cluster) -> String {
    table_of(cluster, Format::Pretty)
}

/// The same in any format.
pub(crate) fn table_of(cluster: &Cluster, format: Format) -> String {
    shown(cluster, &members(&cluster.view), format, false)
}

fn describe(cluster: &Cluster, args: &ListArgs) -> String {
    shown(cluster, &members(&cluster.view), args.format, args.extended)
}

fn shown(cluster: &Cluster, rows: &[MemberOverview], format: Format, extended: bool) -> String {
    let pretty = format == Format::Pretty;
    let (columns, cells) = table(cluster.scope.as_str(), rows, pretty, extended);
    let id = match cluster.view.initialize.as_deref() {
        None => "uninitialized",
        Some("") => "initializing",
        Some(id) => id,
    };
    let header = format!(" Cluster: {} ({id}) ", cluster.scope);
    let mut text = render(&columns, &cells, format, &header);
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
) -> (Vec<Column<'static>>, Vec<Vec<Value>>) {
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
    let optional: [(Column<'_>, CellOf); 4] = [
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

/// How the archive is, as the leader says it.
fn archive(cluster: &Cluster) -> String {
    let marks = cluster
        .view
        .members
        .values()
        .filter_map(|member| member.howdah.as_ref());
    let Some(archive) = marks.filter_map(|mark| mark.archive.as_ref()).next() else {
        return String::new();
    };
    let mut text = " Archive:".to_owned();
    match (&archive.last_backup, &archive.restorable_from) {
        (Some(last), Some(from)) => text += &format!(" newest backup {last}, restorable from {from} on"),
        (Some(last), None) => text += &format!(" newest backup {last}"),
        (None, _) => text += " no backup yet",
    }
    match (&archive.proved, &archive.not_proved) {
        (_, Some(reason)) => text += &format!(", restore NOT proved: {reason}"),
        (Some(at), None) => text += &format!(", restore proved {at}"),
        (None, None) => {}
    }
    text.push('\n');
    for trouble in &archive.troubles {
        text += &format!(" Archive trouble: {trouble}\n");
    }
    text
}

fn footer(cluster: &Cluster) -> String {
    let mut text = String::new();
    if cluster.is_paused() {
        text += " Maintenance mode: on\n";
    }
    text += &archive(cluster);
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
    use howdah_overview::{MemberRole, MemberState};
    use howdah_types::PgState;

    use super::*;

    fn member(name: &str, role: MemberRole, upstream: Option<&str>) -> MemberOverview {
        let mut tags = Map::new();
        if let Some(upstream) = upstream {
            tags.insert("replicatefrom".to_owned(), upstream.into());
        }
        MemberOverview {
            name: name.to_owned(),
            role,
            state: MemberState::Server(PgState::Stopped),
            api_url: String::new(),
            host: String::new(),
            port: None,
            timeline: None,
            received: None,
            replayed: None,
            pending_restart: None,
            scheduled_restart: None,
            tags,
        }
    }

    #[test]
    fn replicas_hang_below_whom_they_stream_from() {
        let replica = |name, upstream| member(name, MemberRole::Replica, upstream);
        let names = |members| -> Vec<String> { tree(members).into_iter().map(|row| row.name).collect() };
        let cascade = vec![
            replica("a", Some("c")),
            member("b", MemberRole::Leader, None),
            replica("c", None),
            replica("d", Some("gone")),
        ];
        assert_eq!(names(cascade), ["b", "+ c", "  + a", "+ d"]);
        let circle = vec![replica("a", Some("c")), replica("c", Some("a"))];
        assert_eq!(names(circle), ["a", "c"]);
        assert_eq!(names(vec![replica("a", None)]), ["a"]);
    }

    #[test]
    fn megabytes_round_half_to_even() {
        assert_eq!([0, 524_288, 524_289, 1_572_864].map(megabytes), [0, 0, 1, 2]);
    }
}
