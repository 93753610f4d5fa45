use crate::Environment;

/// The first of the image's lines, by which the agent, backups and users in the pod come in through the socket.
const LOCAL: &str = "local   all             all                                   trust";

/// A user's own lines, with the image's line for the socket before them if they have none: the agent connects through it.
pub(crate) fn with_local(lines: &[String]) -> Option<Vec<String>> {
    let opens = |line: &String| {
        let first = line.split_whitespace().next().unwrap_or_default();
        first == "local" || first.starts_with("include")
    };
    if lines.is_empty() || lines.iter().any(opens) {
        return None;
    }
    Some([&[LOCAL.to_owned()], lines].concat())
}

/// The image's lines of `pg_hba.conf`: everything local, everybody else by TLS and password. The lines for people by PAM
/// are left out where there is no such PAM service, which is outside of the image.
pub(crate) fn lines(env: &Environment) -> Vec<String> {
    let standby = env.or("PGUSER_STANDBY", "standby");
    let mut lines = vec![
        LOCAL.to_owned(),
        format!("local   replication     {standby}                    trust"),
        "hostssl all             all                127.0.0.1/32       md5".to_owned(),
        "hostssl all             all                ::1/128            md5".to_owned(),
        format!("hostssl replication     {standby} all                md5"),
    ];
    if env.get("ALLOW_NOSSL").is_some() {
        lines.push(format!(
            "host    replication     {standby} all                md5"
        ));
        lines.push("host    all             all                all                md5".into());
    } else {
        lines.push("hostnossl all           all                all                reject".into());
    }
    lines.push("hostssl all             all                all                md5".into());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_stays_open_for_the_agent() {
        let own = |lines: &[&str]| with_local(&lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>());
        let with = own(&["hostssl all all all md5"]).unwrap();
        assert_eq!(with, [LOCAL, "hostssl all all all md5"]);
        assert_eq!(own(&["# mine", "local all postgres peer"]), None);
        assert_eq!(own(&[]), None);
    }
}
