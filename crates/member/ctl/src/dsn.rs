use crate::{
    cli::DsnArgs,
    context::Context,
    one::{address, one},
};

/// Prints where a member's PostgreSQL is reached.
pub(crate) async fn dsn(context: &Context, args: &DsnArgs) -> anyhow::Result<()> {
    let cluster = context.cluster(args.cluster_name.as_deref()).await?;
    let (name, member) = one(&cluster, &args.which)?;
    let (host, port) = address(name, member)?;
    println!("host={host} port={port}");
    Ok(())
}
