//! The form of `pg_hba.conf`: a line that PostgreSQL cannot read keeps it from starting.

use std::net::IpAddr;

/// Connection types, from PostgreSQL 16 on with the three ways to include a file.
const TYPES: &[&str] = &[
    "local",
    "host",
    "hostssl",
    "hostnossl",
    "hostgssenc",
    "hostnogssenc",
];
const INCLUDES: &[&str] = &["include", "include_if_exists", "include_dir"];

/// Authentication methods up to PostgreSQL 18. That this build has one (ldap, pam, gss) is found by a start alone.
const METHODS: &[&str] = &[
    "trust",
    "reject",
    "scram-sha-256",
    "md5",
    "password",
    "gss",
    "sspi",
    "ident",
    "peer",
    "ldap",
    "radius",
    "cert",
    "pam",
    "bsd",
    "oauth",
];

/// What is wrong with lines of `pg_hba.conf`, by number from 1. Comments and empty lines are fine.
#[must_use]
pub fn hba_errors(lines: &[String]) -> Vec<(usize, String)> {
    if !lines.is_empty()
        && lines
            .iter()
            .all(|line| fields(line).is_none_or(|fields| fields.is_empty()))
    {
        return vec![(
            1,
            "no line has an entry: PostgreSQL does not start without one".to_owned(),
        )];
    }
    lines
        .iter()
        .enumerate()
        .filter_map(|(i, line)| Some((i + 1, error_in(line)?)))
        .collect()
}

/// The first line, by number from 1, that includes a file. Servers before PostgreSQL 16 do not start with one.
#[must_use]
pub fn hba_include(lines: &[String]) -> Option<usize> {
    let includes = |line: &String| {
        let fields = fields(line);
        fields
            .as_ref()
            .and_then(|fields| fields.first())
            .is_some_and(|kind| INCLUDES.contains(&kind.as_str()))
    };
    lines.iter().position(includes).map(|at| at + 1)
}

fn error_in(line: &str) -> Option<String> {
    let fields = fields(line)?;
    let mut fields = fields.iter().map(String::as_str);
    let kind = fields.next()?;
    if INCLUDES.contains(&kind) {
        return None;
    }
    if !TYPES.contains(&kind) {
        return Some(format!(
            "'{kind}' is no connection type (local, host, hostssl, …)"
        ));
    }
    for what in ["database", "user"] {
        if fields.next().is_none() {
            return Some(format!("the {what} is missing"));
        }
    }
    if kind != "local" {
        let Some(address) = fields.next() else {
            return Some("the address is missing".to_owned());
        };
        match address_form(address) {
            Ok(Form::Whole) => {}
            Ok(Form::NeedsMask(ip)) => match fields.next().map(str::parse::<IpAddr>) {
                Some(Ok(mask)) if mask.is_ipv4() == ip.is_ipv4() => {}
                _ => return Some(format!("the address {address} needs a mask, as in {address}/32")),
            },
            Err(reason) => return Some(reason),
        }
    }
    match fields.next() {
        None => Some("the authentication method is missing".to_owned()),
        Some(method) if METHODS.contains(&method.to_ascii_lowercase().as_str()) => {
            let method = method.to_ascii_lowercase();
            does_not_fit(kind, &method)
                .or_else(|| fields.find_map(|option| option_error(kind, &method, option)))
        }
        Some(method) => Some(format!("'{method}' is no authentication method")),
    }
}

/// Methods that a type of connection does not have.
fn does_not_fit(kind: &str, method: &str) -> Option<String> {
    match (kind, method) {
        ("local", "gss") => Some("gss is not for local connections".to_owned()),
        ("local", "peer") | ("hostssl", "cert") => None,
        (_, "peer") => Some(format!(
            "peer is for local connections only; '{kind}' needs a password or a certificate"
        )),
        (_, "cert") => Some(format!("cert needs hostssl, and the line is for '{kind}'")),
        _ => None,
    }
}

/// Options of the methods that have some (PostgreSQL 14 to 18); `clientcert` and `map` are told apart below.
const OPTIONS: &[(&str, &[&str])] = &[
    ("pam", &["pamservice", "pam_use_hostname"]),
    (
        "ldap",
        &[
            "ldapurl",
            "ldaptls",
            "ldapscheme",
            "ldapserver",
            "ldapport",
            "ldapbinddn",
            "ldapbindpasswd",
            "ldapsearchattribute",
            "ldapsearchfilter",
            "ldapbasedn",
            "ldapprefix",
            "ldapsuffix",
        ],
    ),
    (
        "radius",
        &[
            "radiusservers",
            "radiusports",
            "radiussecrets",
            "radiusidentifiers",
        ],
    ),
    ("gss", &["krb_realm", "include_realm"]),
    (
        "sspi",
        &["krb_realm", "include_realm", "compat_realm", "upn_username"],
    ),
    (
        "oauth",
        &["issuer", "scope", "validator", "delegate_ident_mapping"],
    ),
];

/// Methods that look a name of the system up.
const MAPPED: &[&str] = &["ident", "peer", "gss", "sspi", "cert", "oauth"];

fn option_error(kind: &str, method: &str, option: &str) -> Option<String> {
    let Some((name, value)) = option.split_once('=') else {
        return Some(format!("'{option}' is no option (name=value)"));
    };
    match name {
        "map" if MAPPED.contains(&method) => None,
        "map" => Some(format!("the option map is not for {method}")),
        "clientcert" | "clientname" if kind != "hostssl" => Some(format!(
            "the option {name} needs hostssl, and the line is for '{kind}'"
        )),
        "clientcert" if !matches!(value, "verify-ca" | "verify-full") => {
            Some(format!("clientcert={value}: verify-ca or verify-full"))
        }
        "clientcert" if method == "cert" && value == "verify-ca" => {
            Some("clientcert=verify-ca is too little for cert".to_owned())
        }
        "clientname" if !matches!(value, "CN" | "DN") => Some(format!("clientname={value}: CN or DN")),
        "clientcert" | "clientname" => None,
        _ => {
            let known = OPTIONS
                .iter()
                .any(|(of, names)| *of == method && names.contains(&name));
            (!known).then(|| format!("'{name}' is no option of {method}"))
        }
    }
}

enum Form {
    Whole,
    NeedsMask(IpAddr),
}

fn address_form(address: &str) -> Result<Form, String> {
    if matches!(address, "all" | "samehost" | "samenet") {
        return Ok(Form::Whole);
    }
    if let Some((ip, bits)) = address.split_once('/') {
        let ip: IpAddr = ip.parse().map_err(|_| format!("'{address}' is no network"))?;
        let largest = if ip.is_ipv4() { 32 } else { 128 };
        return match bits.parse::<u8>() {
            Ok(bits) if bits <= largest => Ok(Form::Whole),
            _ => Err(format!("'{address}': the mask has 0 to {largest} bits")),
        };
    }
    Ok(address.parse().map_or(Form::Whole, Form::NeedsMask))
}

/// The fields of a line: separated by blanks, quoted ones as they are. `None` for a line without any. PostgreSQL
/// separates the members of a list by commas, with blanks after them allowed.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let (mut quoted, mut after_comma) = (false, false);
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                field.push(c);
                after_comma = false;
            }
            '#' if !quoted => break,
            c if c.is_whitespace() && !quoted => {
                if !field.is_empty() && !after_comma {
                    fields.push(std::mem::take(&mut field));
                }
            }
            c => {
                after_comma = c == ',' && !quoted;
                field.push(c);
            }
        }
    }
    if !field.is_empty() {
        fields.push(field);
    }
    (!fields.is_empty()).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> Option<String> {
        hba_errors(&[line.to_owned(), "local all all trust".to_owned()])
            .pop()
            .map(|(_, error)| error)
    }

    #[test]
    fn what_people_write() {
        for line in [
            "",
            "  # a comment",
            "local all all trust",
            "local   all             all                                   trust # why",
            "host all all 127.0.0.1/32 md5",
            "host all all 10.0.0.0 255.0.0.0 scram-sha-256",
            "hostssl all +zalandos all pam",
            "host replication standby all md5",
            "hostssl \"my db\" \"a b\" ::1/128 cert clientcert=verify-full map=m",
            "host a, b, c u1,u2 .example.com gss include_realm=0",
            "local all all ident map=x",
            "local all all peer",
            "hostssl all all all md5 clientname=CN",
            "host all all samenet ldap ldapserver=h ldapprefix=\"cn=\"",
            "include_dir hba.d",
            "hostnossl all all all reject",
        ] {
            assert_eq!(error(line), None, "{line}");
        }
    }

    #[test]
    fn what_keeps_postgresql_from_starting() {
        for (line, part) in [
            ("host all all 127.0.0.1/33 md5", "0 to 32 bits"),
            ("host all all ::1/129 md5", "0 to 128 bits"),
            ("host all all 127.0.0.1 md5", "needs a mask"),
            ("hots all all all md5", "no connection type"),
            ("host all all all md55", "no authentication method"),
            ("host all all all", "method is missing"),
            ("host all", "user is missing"),
            ("local all all", "method is missing"),
            ("host all all all peer", "local connections only"),
            ("host all all all cert", "needs hostssl"),
            ("local all all gss", "not for local"),
            ("local all all cert", "needs hostssl"),
            ("hostssl all all all md5 map=m", "not for md5"),
            ("host all all all md5 clientcert=verify-ca", "needs hostssl"),
            ("hostssl all all all md5 clientcert=1", "verify-ca or verify-full"),
            (
                "hostssl all all all scram-sha-256 pamservice=x",
                "no option of scram-sha-256",
            ),
            ("host all all 10.0.0.0/8 md5 nonsense", "no option"),
            ("1", "no connection type"),
            ("{\"a\":1}", "no connection type"),
        ] {
            let found = error(line).unwrap_or_default();
            assert!(found.contains(part), "{line}: {found}");
        }
    }

    #[test]
    fn a_file_without_entries_is_refused() {
        let only = |line: &str| hba_errors(&[line.to_owned()]).len();
        assert_eq!(
            [only("# comment"), only("  "), only("local all all trust")],
            [1, 1, 0]
        );
        assert!(hba_errors(&[]).is_empty(), "no lines: the file stays as it is");
    }
}
