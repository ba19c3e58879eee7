//! Where spans go.

use url::Url;

use super::{name, reader::Reader};
use crate::observe::spans::Collector;

pub(super) fn collector(reader: &mut Reader) -> Option<Collector> {
    let url = reader.parse("tracing.otlp", None, |text| match text {
        "off" => Ok(None),
        text => url(text).map(Some),
    });
    let service = reader.parse("tracing.service", "doorward".into(), name);
    let sample = reader.parse("tracing.sample", 1.0, ratio);
    url.map(|url| Collector {
        url,
        service,
        sample,
    })
}

/// What is not shown may be a password.
fn url(text: &str) -> Result<String, String> {
    let example = "write one such as http://collector:4317";
    let url = Url::parse(text).map_err(|_| format!("is not a URL; {example}"))?;
    let is_alone = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    match (url.scheme(), url.host_str(), is_alone) {
        ("http", Some(_), true) => Ok(text.to_owned()),
        ("https", _, _) => Err(
            "is https, which is not spoken to collectors; name one on this machine or in a network that encrypts"
                .into(),
        ),
        (_, _, _) => Err(format!(
            "is not the http URL of a host alone, to which OTLP goes over gRPC; {example}"
        )),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| format!("{text:?} is not a number from 0 to 1"))
}
