use std::io::{BufRead, Write};

/// Asks, and returns the answer without blanks around it. The end of the input is an abort.
pub(crate) fn ask(question: &str) -> anyhow::Result<String> {
    print!("{question}: ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        anyhow::bail!("Aborted!");
    }
    Ok(line.trim().to_owned())
}

/// Asks; an empty answer is `default`.
pub(crate) fn ask_or(question: &str, default: &str) -> anyhow::Result<String> {
    let answer = ask(&format!("{question} [{default}]"))?;
    Ok(if answer.is_empty() {
        default.to_owned()
    } else {
        answer
    })
}

/// Asks for a yes; anything else aborts with `refusal`.
pub(crate) fn confirm(question: &str, refusal: &str) -> anyhow::Result<()> {
    let answer = ask(&format!("{question} [y/N]"))?.to_lowercase();
    anyhow::ensure!(matches!(answer.as_str(), "y" | "yes"), "{refusal}");
    Ok(())
}
