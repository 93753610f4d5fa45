use std::io::Write;

use howdah_manifest::lint::{Finding, Severity, count_clusters, lint as findings_of};
use howdah_sandbox::SandboxDir;

use crate::{cli::LintArgs, output::document, server::Server, source::sources};

pub(crate) async fn lint(args: &LintArgs) -> anyhow::Result<u8> {
    let (mut errors, mut warnings, mut clusters) = (0, 0, 0);
    for source in sources(&args.files).await? {
        let findings = findings_of(&source.text);
        for finding in &findings {
            match finding.severity {
                Severity::Error => errors += 1,
                Severity::Warning => warnings += 1,
            }
        }
        clusters += count_clusters(&source.text);
        print!("{}", shown(&source.name, &findings));
    }
    let plural = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let found = match (errors, warnings) {
        (0, 0) => "nothing found".to_owned(),
        (0, _) => plural(warnings, "warning"),
        (_, 0) => plural(errors, "error"),
        _ => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    };
    // Beside the findings, which editors read.
    eprintln!("{}: {found}", plural(clusters, "cluster"));
    Ok(if errors > 0 { 2 } else { 0 })
}

/// Findings as lines that editors understand.
pub(crate) fn shown(name: &str, findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| format!("{name}:{finding}\n"))
        .collect()
}

pub(crate) fn crd() -> anyhow::Result<u8> {
    let text = definitions()?.join("---\n");
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(0)
}

/// The definitions of clusters and of `PostgresTeam`.
fn definitions() -> anyhow::Result<[String; 2]> {
    Ok([
        document(&howdah_manifest::crd(), "yaml")?,
        document(&howdah_manifest::team_crd(), "yaml")?,
    ])
}

pub(crate) fn kubeconfig() -> anyhow::Result<u8> {
    let dir = SandboxDir::of_user();
    let path = dir.kubeconfig();
    if !path.exists() {
        match Server::find(&dir) {
            Some(_) => anyhow::bail!(
                "{} was removed while the sandbox runs: 'howdah down' and 'howdah up --detach' write it again",
                path.display()
            ),
            None => anyhow::bail!(
                "there is no kubeconfig yet: 'howdah up' writes {}",
                path.display()
            ),
        }
    }
    println!("{}", path.display());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// With HOWDAH_WRITE=1 the chart's files are written.
    #[test]
    fn the_chart_has_the_definitions_that_the_operator_installs() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../charts/howdah/crds");
        let names = ["postgresqls.yaml", "postgresteams.yaml"];
        for (name, text) in names.iter().zip(definitions().unwrap()) {
            let path = folder.join(name);
            if std::env::var_os("HOWDAH_WRITE").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let have = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(have, text, "{name}: run this test with HOWDAH_WRITE=1");
        }
    }
}
