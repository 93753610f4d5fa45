//! stub
/// stub
#[derive(Debug, clap::Args)]
pub struct CtlArgs {}
/// stub
pub fn run(_: CtlArgs) -> anyhow::Result<u8> { Ok(0) }
