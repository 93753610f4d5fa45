use serde_json::Value;

use crate::{
    cli::HistoryArgs,
    context::Context,
    table::{column, render},
};

pub(crate) async fn history(context: &Context, args: &HistoryArgs) -> anyhow::Result<()> {
    let cluster = context.cluster(args.cluster_name.as_deref()).await?;
    let columns = [
        column("TL", true),
        column("LSN", true),
        column("Reason", false),
        column("Timestamp", false),
        column("New Leader", false),
    ];
    let optional = |text: &Option<String>| text.clone().map_or(Value::Null, Value::from);
    let rows: Vec<Vec<Value>> = cluster
        .view
        .history
        .iter()
        .flatten()
        .map(|row| {
            vec![
                row.timeline.0.into(),
                row.lsn.0.into(),
                row.reason.clone().into(),
                optional(&row.timestamp),
                optional(&row.new_leader),
            ]
        })
        .collect();
    print!("{}", render(&columns, &rows, args.format, ""));
    Ok(())
}
