//! What a store's answers say to a person.

use object_store::Error as StoreError;

/// What a store has answered, without the request and without the tags around it.
pub(crate) fn in_words(text: &str) -> String {
    let between = |open: &str, close: &str| {
        let begin = text.find(open)? + open.len();
        let rest = text.get(begin..)?;
        rest.get(..rest.find(close)?)
    };
    if let Some(code) = between("<Code>", "</Code>") {
        return match between("<Message>", "</Message>") {
            Some(message) if !message.is_empty() => format!("{code}: {message}"),
            _ => code.to_owned(),
        };
    }
    // "Error performing GET <url> in <time>, after <n> retries, max_retries: <n>, retry_timeout: <t> - <reason>"
    let reason = text
        .find("Error performing ")
        .and_then(|at| text.get(at..))
        .and_then(|rest| Some(rest.split_once(" - ")?.1))
        .unwrap_or(text);
    let reason = reason.strip_prefix("HTTP error: ").unwrap_or(reason);
    if reason.contains("UnknownIssuer") {
        return format!("{reason}: WALG_S3_CA_CERT_FILE names the authority to trust");
    }
    reason.to_owned()
}

/// An error and what it was caused by, which most stores tell only there.
pub(crate) fn causes(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stores_answer_in_words() {
        let xml = "Generic S3 error: Error performing GET http://h/b/k in 1ms - Server returned non-2xx status code: 403 \
            Forbidden: <?xml version=\"1.0\"?> <Error><Code>SignatureDoesNotMatch</Code><Message>It does not match</Message></Error>";
        assert_eq!(in_words(xml), "SignatureDoesNotMatch: It does not match");
        let refused = "Generic S3 error: Error performing GET http://h/b/k in 24.2s, after 32 retries, max_retries: 50, \
            retry_timeout: 24s - HTTP error: h:1: Connection refused (os error 111)";
        assert_eq!(in_words(refused), "h:1: Connection refused (os error 111)");
        assert_eq!(in_words("anything else"), "anything else");
    }
}
