use howdah_operator::kube_text;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use serde_json::json;

/// How long a certificate is valid, and when another one is made.
const VALID: i64 = 365;
const RENEWED: i64 = 240;

/// A certificate that signs itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) certificate: String,
    pub(super) key: String,
    /// Whom to trust: it, and the one before it, which another replica may present for a minute.
    pub(super) bundle: String,
    hosts: String,
    renewed: Option<Timestamp>,
}

/// The certificate in the Secret; one is made where there is none, or it is for other names, or old.
///
/// Replicas agree by the Secret: it is made once, and changed only in the version that was read.
pub(super) async fn keep(
    client: &Client,
    namespace: &str,
    name: &str,
    hosts: &[String],
) -> anyhow::Result<Certificate> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let failed = |what: &str, error: &kube::Error| {
        anyhow::anyhow!("{what} Secret {namespace}/{name}: {}", kube_text(error))
    };
    let now = Timestamp::now();
    let found = api
        .get_opt(name)
        .await
        .map_err(|error| failed("reading", &error))?;
    let Some(found) = found else {
        let made = make(hosts, now, None)?;
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            string_data: Some(made.data()),
            ..Secret::default()
        };
        return match api.create(&PostParams::default(), &secret).await {
            Ok(_) => Ok(made),
            // Another replica was first.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let found = api.get(name).await.map_err(|error| failed("reading", &error))?;
                read(&found).ok_or_else(|| anyhow::anyhow!("Secret {namespace}/{name} has no certificate"))
            }
            Err(error) => Err(failed("making", &error)),
        };
    };
    let is_ours = found.data.as_ref().is_some_and(|data| data.contains_key("hosts"));
    anyhow::ensure!(
        is_ours,
        "Secret {namespace}/{name} is another client's: rename it, or name the webhook otherwise (--webhook-configuration)"
    );
    let known = read(&found);
    if let Some(known) = known.as_ref().filter(|known| known.is_good(hosts, now)) {
        return Ok(known.clone());
    }
    let made = make(hosts, now, known.as_ref())?;
    let change = json!({
        "metadata": {"resourceVersion": found.metadata.resource_version}, "stringData": made.data(),
    });
    let params = PatchParams::default();
    api.patch(name, &params, &Patch::Merge(change))
        .await
        .map_err(|error| failed("changing", &error))?;
    Ok(made)
}

impl Certificate {
    fn data(&self) -> std::collections::BTreeMap<String, String> {
        let renewed = self.renewed.map(|time| time.to_string()).unwrap_or_default();
        [
            ("tls.crt", self.certificate.clone()),
            ("tls.key", self.key.clone()),
            ("ca.crt", self.bundle.clone()),
            ("hosts", self.hosts.clone()),
            ("renewed", renewed),
        ]
        .map(|(name, text)| (name.to_owned(), text))
        .into()
    }

    /// A clock that was far ahead when it was made leaves one that is renewed far too late: it counts as old, too.
    fn is_good(&self, hosts: &[String], now: Timestamp) -> bool {
        let latest = now.checked_add(SignedDuration::from_hours(24 * RENEWED + 24));
        let in_time = |renewed: Timestamp| now < renewed && latest.is_ok_and(|latest| renewed <= latest);
        self.hosts == hosts.join(",") && self.renewed.is_some_and(in_time)
    }
}

fn make(hosts: &[String], now: Timestamp, before: Option<&Certificate>) -> anyhow::Result<Certificate> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(hosts.to_vec())?;
    let day = |days: i64| -> anyhow::Result<_> {
        let date = now
            .checked_add(SignedDuration::from_hours(24 * days))?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date();
        let number = |number: i8| u8::try_from(number).unwrap_or(1);
        Ok(rcgen::date_time_ymd(
            i32::from(date.year()),
            number(date.month()),
            number(date.day()),
        ))
    };
    // A clock that is a day behind trusts it as well.
    params.not_before = day(-1)?;
    params.not_after = day(VALID)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?.pem();
    let before = before
        .map(|before| before.certificate.as_str())
        .unwrap_or_default();
    Ok(Certificate {
        bundle: format!("{certificate}{before}"),
        certificate,
        key: key.serialize_pem(),
        hosts: hosts.join(","),
        renewed: Some(now.checked_add(SignedDuration::from_hours(24 * RENEWED))?),
    })
}

fn read(secret: &Secret) -> Option<Certificate> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.0.clone())
            .ok()
            .filter(|text| !text.is_empty())
    };
    Some(Certificate {
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
        bundle: text("ca.crt")?,
        hosts: text("hosts").unwrap_or_default(),
        renewed: text("renewed").and_then(|text| text.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_renewed_in_time_and_the_one_before_is_trusted_for_a_while() {
        let hosts = ["a.b.svc".to_owned()];
        let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let later = |days: i64| begin.checked_add(SignedDuration::from_hours(24 * days)).unwrap();
        let first = make(&hosts, begin, None).unwrap();
        assert!(first.is_good(&hosts, later(239)) && !first.is_good(&hosts, later(241)));
        assert!(!first.is_good(&["c.d.svc".to_owned()], begin), "other names");
        assert!(
            !first.is_good(&hosts, later(-10)),
            "made by a clock that was ahead"
        );
        let second = make(&hosts, later(241), Some(&first)).unwrap();
        assert_eq!(
            second.bundle,
            format!("{}{}", second.certificate, first.certificate)
        );
        let data = second
            .data()
            .into_iter()
            .map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes())));
        let secret = Secret {
            data: Some(data.collect()),
            ..Secret::default()
        };
        assert_eq!(read(&secret), Some(second));
    }
}
