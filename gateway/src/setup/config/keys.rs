//! What a key may hold, and the check of one written value against it.

use config::ValueKind;
use toml::de::DeValue;

use super::period::Period;

/// One key of a section.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name in the section.
    pub(crate) name: &'static str,
    /// What it may hold.
    pub(crate) kind: Kind,
    /// What holds when it is not written.
    pub(crate) unwritten: Unwritten,
    /// For people.
    pub(crate) doc: &'static str,
}

/// What holds when a key is not written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unwritten {
    /// This TOML value.
    Is(&'static str),
    /// Nothing; this TOML value is an example.
    Absent(&'static str),
    /// It must be written; this TOML value is an example.
    Refused(&'static str),
}

/// What a key may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Any text but an empty one.
    Text,
    /// Letters, digits and hyphens, as device ids are.
    Name,
    /// A whole number between two bounds, both included.
    Whole(i64, i64),
    /// `true` or `false`.
    Switch,
    /// A length of time between two bounds, in days, both included.
    Period(u32, u32),
    /// One of few words.
    OneOf(&'static [&'static str]),
    /// An IP address with a port.
    Address,
    /// The address of a server that speaks plain HTTP.
    Url,
    /// A filter of log events.
    Filter,
    /// A path, relative to the file that names it.
    Path,
    /// A path, relative to `seeds_dir`.
    SeedPath,
    /// Paths, relative to `seeds_dir`.
    SeedPaths,
    /// A host's name or address, without a port.
    Host,
    /// Several of them.
    Hosts,
    /// A password or token: never in a file that is shown around, nor on a command line.
    Secret,
}

/// A value as it was written, whatever the layer.
#[derive(Debug)]
pub(crate) enum RawValue {
    Text(String),
    Whole(i64),
    Switch(bool),
    List(Vec<RawValue>),
    /// A kind of value that no key takes.
    Other(&'static str),
}

/// What is wrong with a value.
pub(crate) struct Wrong {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl RawValue {
    /// From a file.
    pub(crate) fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.clone().into_owned()),
            DeValue::Integer(digits) => {
                let value = i64::from_str_radix(digits.as_str(), digits.radix());
                value.map_or(Self::Other("a number beyond 64 bits"), Self::Whole)
            }
            DeValue::Boolean(switch) => Self::Switch(*switch),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::of(item.get_ref())).collect()),
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// From a variable or flag, which hold only text: read as the key wants it, where that is possible.
    pub(crate) fn from_text(kind: Kind, text: &str) -> Self {
        let as_text = || Self::Text(text.into());
        match kind {
            Kind::Whole(..) => text.replace('_', "").parse().map_or_else(|_| as_text(), Self::Whole),
            Kind::Switch => text.parse().map_or_else(|_| as_text(), Self::Switch),
            Kind::SeedPaths | Kind::Hosts if text.is_empty() => Self::List(Vec::new()),
            Kind::SeedPaths | Kind::Hosts => {
                Self::List(text.split(',').map(|item| Self::Text(item.trim().into())).collect())
            }
            _ => as_text(),
        }
    }

    const fn named(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Whole(_) => "a whole number",
            Self::Switch(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(name) => name,
        }
    }
}

impl Kind {
    /// The checked value, as the next layer takes it.
    pub(crate) fn check(self, raw: RawValue) -> Result<ValueKind, Wrong> {
        let wrong = |what: String| Err(Wrong { what, remedy: format!("write {}", self.wanted()) });
        match (self, raw) {
            (Self::Secret, _) => Err(Wrong {
                what: "a secret does not belong here".into(),
                remedy: format!("write {}", self.wanted()),
            }),
            (Self::Whole(least, most), RawValue::Whole(value)) if !(least..=most).contains(&value) => {
                wrong(format!("{value} is out of range"))
            }
            (Self::Whole(..), RawValue::Whole(value)) => Ok(value.into()),
            (Self::Switch, RawValue::Switch(value)) => Ok(value.into()),
            (Self::SeedPaths | Self::Hosts, RawValue::List(items)) => items
                .into_iter()
                .map(|item| self.item().check(item).map(|kind| config::Value::new(None, kind)))
                .collect::<Result<Vec<_>, _>>()
                .map(Into::into)
                .or_else(|inner| wrong(format!("an item of the list {}", inner.what))),
            (Self::Whole(..) | Self::Switch | Self::SeedPaths | Self::Hosts, other) => {
                wrong(format!("is {}", other.named()))
            }
            (_, RawValue::Text(text)) => match self.text_fault(&text) {
                Some(what) => wrong(what),
                None => Ok(text.into()),
            },
            (_, other) => wrong(format!("is {}", other.named())),
        }
    }

    /// What the items of a list are.
    const fn item(self) -> Self {
        match self {
            Self::SeedPaths => Self::SeedPath,
            Self::Hosts => Self::Host,
            single => single,
        }
    }

    /// What is wrong with a text.
    fn text_fault(self, text: &str) -> Option<String> {
        if text.trim().is_empty() {
            return Some("is empty".into());
        }
        match self {
            Self::Name => hunhe_proto::id::Id::new(text).err().map(|_| "is not a plain name".into()),
            Self::Period(least, most) => match text.parse::<Period>() {
                Err(_) => Some("is not a length of time".into()),
                Ok(period) if period < Period::days(least) || period > Period::days(most) => {
                    Some(format!("{period} is out of range"))
                }
                Ok(_) => None,
            },
            Self::OneOf(words) => (!words.contains(&text)).then(|| "is none of the words known here".into()),
            Self::Address => {
                text.parse::<std::net::SocketAddr>().err().map(|_| "is not an IP address with a port".into())
            }
            Self::Url => url_fault(text),
            Self::Host => (!is_host(text)).then(|| "is not a host's name or address".into()),
            Self::Filter => {
                let filter = tracing_subscriber::EnvFilter::builder().parse(text);
                filter.err().map(|_| "is not a filter of log events".into())
            }
            _ => None,
        }
    }

    /// What would be right, in words.
    pub(crate) fn wanted(self) -> String {
        match self {
            Self::Text => "a text in quotes that is not empty".into(),
            Self::Name => "1 to 32 lower-case letters, digits and hyphens in quotes".into(),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Switch => "true or false".into(),
            Self::Period(least, most) => format!(
                "a length of time from {} to {} in quotes, as \"45d\" (units s, m, h, d, w, y)",
                Period::days(least),
                Period::days(most)
            ),
            Self::OneOf(words) => format!("one of \"{}\"", words.join("\", \"")),
            Self::Address => "an IP address with a port, as \"127.0.0.1:8080\"".into(),
            Self::Url => "an address such as \"http://127.0.0.1:8086\", without a user, query or fragment \
                          (let a local proxy end TLS)"
                .into(),
            Self::Filter => "a level (\"error\", \"warn\", \"info\", \"debug\", \"trace\") or directives \
                             such as \"info,hunhe_gateway=debug\""
                .into(),
            Self::Path | Self::SeedPath => "a path in quotes".into(),
            Self::SeedPaths => "a list of paths, as [\"fleets/city.toml\"]".into(),
            Self::Host | Self::Hosts => {
                "a list of names or IP addresses without ports, as [\"hunhe.example.org\"]".into()
            }
            Self::Secret => {
                "it into a file of its own and name that with the key ending in `_file`, or set the \
                 environment variable"
                    .into()
            }
        }
    }
}

/// A name of letters, digits, hyphens and dots, or an IP address.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.parse::<std::net::IpAddr>().is_ok() || text.split('.').all(label)
}

fn url_fault(text: &str) -> Option<String> {
    let Ok(url) = reqwest::Url::parse(text) else {
        return Some("is not an address".into());
    };
    if url.scheme() != "http" {
        return Some(format!("speaks {}, not http", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("carries a user or password".into());
    }
    (url.query().is_some() || url.fragment().is_some()).then(|| "carries a query or fragment".into())
}
