//! Which hosts requests may be for. A page elsewhere can have its own name point to this machine (DNS rebinding) and is
//! then of one origin with the gateway, for a browser; the name that it asks for still gives it away.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, Uri, header, uri::Authority};

/// The hosts that are answered: loopback, the address listened on, and what the operator names. Any port: a proxy or a
/// tunnel may have another.
#[derive(Debug, Clone)]
pub struct Hosts {
    listen: IpAddr,
    named: Vec<String>,
}

impl Hosts {
    /// Loopback and `listen`, and the names and addresses in `named`.
    #[must_use]
    pub fn new(listen: SocketAddr, named: &[String]) -> Self {
        let named = named.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { listen: listen.ip().to_canonical(), named }
    }

    /// Whether a request names an allowed host, and nothing but allowed hosts. One without any is refused: only programs
    /// older than HTTP/1.1 send none.
    pub(super) fn allow(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        host.to_str().is_ok_and(|host| self.knows(host))
            && uri.authority().is_none_or(|authority| self.knows(authority.as_str()))
    }

    fn knows(&self, authority: &str) -> bool {
        if authority.contains('@') {
            return false;
        }
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address = match bare {
            Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => host.parse().ok().filter(IpAddr::is_ipv4),
        };
        if let Some(address) = address.map(|address| address.to_canonical())
            && (address.is_loopback() || address == self.listen)
        {
            return true;
        }
        let host = bare.unwrap_or(host).to_ascii_lowercase();
        host == "localhost" || self.named.contains(&host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_the_listening_address_and_named_hosts_are_known_with_any_port_and_nothing_else() {
        let hosts = Hosts::new(
            "192.0.2.7:8080".parse().unwrap(),
            &["Hunhe.example.org".into(), "2001:db8::1".into()],
        );
        for known in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:80",
            "192.0.2.7:8080",
            "hunhe.example.ORG:443",
            "[2001:db8::1]:80",
        ] {
            assert!(hosts.knows(known), "{known}");
        }
        for unknown in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhost.",
            "127.0.0.1.evil.example",
            "hunhe.example.org.evil.example",
            "x.hunhe.example.org",
            "evil.example@localhost",
            "localhost@evil.example",
            "192.0.2.8",
            "[::2]",
            "::1",
            "localhost:80:80",
            "localhost/evil",
            "local host",
            "2130706433",
        ] {
            assert!(!hosts.knows(unknown), "{unknown}");
        }
    }

    #[test]
    fn every_host_in_a_request_must_be_known_and_one_must_be_there() {
        let hosts = Hosts::new("127.0.0.1:8080".parse().unwrap(), &[]);
        let ask = |uri: &str, named: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in named {
                headers.append(header::HOST, axum::http::HeaderValue::from_static(host));
            }
            hosts.allow(&uri.parse().unwrap(), &headers)
        };
        assert!(ask("/", &["localhost"]));
        assert!(ask("http://127.0.0.1:8080/", &["localhost"]));
        assert!(!ask("/", &[]), "none");
        assert!(!ask("/", &["localhost", "evil.example"]), "two");
        assert!(!ask("/", &["localhost", "localhost"]), "two");
        assert!(!ask("http://evil.example/", &["localhost"]), "the address names another");
        assert!(!ask("http://localhost/", &["evil.example"]), "the header names another");
    }
}
