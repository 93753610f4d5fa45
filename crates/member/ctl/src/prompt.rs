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

/// Asks for a password, which a terminal does not show.
pub(crate) fn secret(question: &str) -> anyhow::Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let Ok(shown) = tcgetattr(&stdin) else {
        return ask(question);
    };
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let answer = ask(question);
    tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
    println!();
    answer
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

/// `now`, or a moment with an offset. A time without one is of the local time zone.
pub(crate) fn moment(text: &str) -> anyhow::Result<Option<String>> {
    if text.is_empty() || text == "now" {
        return Ok(None);
    }
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(Some(moment.to_string()));
    }
    let local = text.parse::<jiff::civil::DateTime>().map_err(|_| {
        anyhow::anyhow!("Unable to parse scheduled timestamp ({text}). It should be in an unambiguous format, e.g. ISO 8601")
    })?;
    Ok(Some(
        local
            .to_zoned(jiff::tz::TimeZone::system())?
            .timestamp()
            .to_string(),
    ))
}
