//! `from="..."` of a key line: an OpenSSH pattern list over source addresses.
//!
//! Follows PATTERNS in `ssh_config(5)` and `addr_match_list` of OpenSSH: patterns are separated by
//! commas; a matching `!` pattern refuses whatever else matches; a list that matches nothing
//! refuses. Networks, addresses and wildcards over the printed address are taken. Host names are
//! not: the gateway asks no name server whom to trust.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// The source addresses a key may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sources {
    /// The line has no `from=`.
    Anywhere,
    /// One of these patterns, and none that starts with `!`.
    Listed(Vec<Pattern>),
}

/// One pattern of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    sense: Sense,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    Allow,
    Refuse,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Network(IpNet),
    /// `*` any characters, `?` exactly one, over the address as printed (RFC 5952).
    Wildcard(String),
}

// === impl Sources ===

impl Sources {
    /// Reads the text between the quotes of `from="..."`.
    ///
    /// # Errors
    /// The first pattern that is none, and what to write in its place.
    pub fn parse(text: &str) -> Result<Self, String> {
        let patterns = text
            .split(',')
            .map(Pattern::parse)
            .collect::<Result<Vec<_>, _>>()?;
        if patterns.iter().all(|p| p.sense == Sense::Refuse) {
            return Err("from= names only what is refused and so lets nobody in; \
                 add what is allowed, or * for the rest"
                .to_owned());
        }
        Ok(Self::Listed(patterns))
    }

    /// May this address use the key? An IPv4 address inside IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn allow(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        match self {
            Self::Anywhere => true,
            Self::Listed(patterns) => {
                let printed = source.to_string();
                let matches = |sense: Sense| {
                    patterns
                        .iter()
                        .any(|p| p.sense == sense && p.shape.matches(source, &printed))
                };
                !matches(Sense::Refuse) && matches(Sense::Allow)
            }
        }
    }
}

/// The list as OpenSSH would take it; `*` for [`Sources::Anywhere`].
impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => f.write_str("*"),
            Self::Listed(patterns) => {
                for (at, pattern) in patterns.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    let not = match pattern.sense {
                        Sense::Allow => "",
                        Sense::Refuse => "!",
                    };
                    write!(f, "{comma}{not}{}", pattern.shape)?;
                }
                Ok(())
            }
        }
    }
}

// === impl Pattern ===

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let (sense, body) = match text.strip_prefix('!') {
            Some(rest) => (Sense::Refuse, rest),
            None => (Sense::Allow, text),
        };
        Ok(Self {
            sense,
            shape: Shape::parse(body)?,
        })
    }
}

// === impl Shape ===

impl Shape {
    fn parse(body: &str) -> Result<Self, String> {
        if body.is_empty() {
            return Err("from= has an empty pattern; remove the extra comma or !".to_owned());
        }
        if let Ok(address) = body.parse::<IpAddr>() {
            return Self::network(body, IpNet::from(address));
        }
        if body.contains('/') {
            let network = body.parse::<IpNet>().map_err(|_| {
                format!("from= {body:?} is not a network; write one like 198.51.100.0/24")
            })?;
            return Self::network(body, network);
        }
        let has_wildcard = body.contains(['*', '?']);
        let is_address_text = if body.contains(':') {
            body.chars()
                .all(|c| c.is_ascii_hexdigit() || ":.*?".contains(c))
        } else {
            body.chars()
                .all(|c| c.is_ascii_digit() || ".*?".contains(c))
        };
        if has_wildcard && is_address_text {
            return Ok(Self::Wildcard(body.to_ascii_lowercase()));
        }
        Err(format!(
            "from= {body:?} is not an address; host names are not looked up, \
             write the address or network, as in 198.51.100.0/24"
        ))
    }

    /// OpenSSH refuses a mask that cuts through the address, and so do we: it is a typing mistake
    /// about who may come in.
    fn network(body: &str, network: IpNet) -> Result<Self, String> {
        if network.addr() != network.network() {
            return Err(format!(
                "from= {body:?} has bits set beyond its mask; write {}",
                network.trunc()
            ));
        }
        if let IpNet::V6(v6) = network
            && v6.addr().to_ipv4_mapped().is_some()
        {
            return Err(format!(
                "from= {body:?} is an IPv4 network inside IPv6; write the IPv4 network"
            ));
        }
        Ok(Self::Network(network))
    }

    fn matches(&self, source: IpAddr, printed: &str) -> bool {
        match self {
            Self::Network(network) => network.contains(&source),
            Self::Wildcard(pattern) => wildcard_matches(pattern.as_bytes(), printed.as_bytes()),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Self::Network(network) => network.fmt(f),
            Self::Wildcard(pattern) => f.write_str(pattern),
        }
    }
}

/// Greedy match with one point of return: linear in `pattern` times `text`, no recursion.
fn wildcard_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(want) if *want == b'?' || want == byte => {
                p += 1;
                t += 1;
            }
            Some(_) | None => match retry {
                Some((star, taken)) => {
                    retry = Some((star, taken + 1));
                    p = star + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, source: &str, expect: bool) {
        let sources = Sources::parse(list).unwrap();
        assert_eq!(
            sources.allow(source.parse().unwrap()),
            expect,
            "from={list:?} and {source}"
        );
    }

    #[track_caller]
    fn refuse(list: &str, hint: &str) {
        let why = Sources::parse(list).unwrap_err();
        assert!(why.contains(hint), "{list:?} said: {why}");
    }

    #[test]
    fn networks_addresses_and_wildcards_decide() {
        check("198.51.100.0/24", "198.51.100.7", true);
        check("198.51.100.0/24", "198.51.101.7", false);
        check("198.51.100.7", "198.51.100.7", true);
        check("198.51.100.7", "198.51.100.70", false);
        check("198.51.100.*", "198.51.100.7", true);
        check("198.51.100.?", "198.51.100.7", true);
        check("198.51.100.?", "198.51.100.70", false);
        check("*.100.?", "198.51.100.7", true);
        check("1*0*7", "198.51.100.7", true);
        check("1*0*8", "198.51.100.7", false);
        check("*", "2001:db8::1", true);
        check("2001:db8:77::/48", "2001:db8:77:1::9", true);
        check("2001:db8:77::/48", "2001:db8:78::9", false);
        check("2001:DB8:*", "2001:db8::1", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("::/0", "198.51.100.7", false);
        check("10.0.0.0/8,198.51.100.0/24", "198.51.100.7", true);
    }

    #[test]
    fn an_ipv4_address_inside_ipv6_is_the_ipv4_address() {
        check("198.51.100.0/24", "::ffff:198.51.100.7", true);
        check("!198.51.100.7,*", "::ffff:198.51.100.7", false);
        check("2001:db8::/32", "::ffff:198.51.100.7", false);
    }

    #[test]
    fn a_matching_exclusion_wins_wherever_it_stands() {
        check("198.51.100.0/24,!198.51.100.7", "198.51.100.7", false);
        check("!198.51.100.7,198.51.100.0/24", "198.51.100.7", false);
        check("!198.51.100.7,198.51.100.0/24", "198.51.100.8", true);
        check("*,!198.51.*", "198.51.100.8", false);
        check("*,!2001:db8::/32", "2001:db8::1", false);
    }

    #[test]
    fn a_list_prints_as_it_can_be_written() {
        for list in [
            "198.51.100.0/24",
            "!198.51.100.7,198.51.*",
            "::1,2001:db8::/32",
            "*",
        ] {
            assert_eq!(Sources::parse(list).unwrap().to_string(), list);
        }
    }

    #[test]
    fn without_a_list_every_address_is_allowed() {
        assert!(Sources::Anywhere.allow("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_remedy() {
        refuse("batch.acme.example", "host names are not looked up");
        refuse("*.acme.example", "host names are not looked up");
        refuse("localhost", "host names are not looked up");
        refuse("abc.de", "host names are not looked up");
        refuse("fe80::1%eth0", "host names are not looked up");
        refuse("198.51.100.7, 198.51.100.8", "host names are not looked up");
        refuse("198.51.100.7/24", "write 198.51.100.0/24");
        refuse("198.51.100.0/33", "is not a network");
        refuse("198.51.100.*/24", "is not a network");
        refuse("2001:db8::1/32", "write 2001:db8::/32");
        refuse("::ffff:198.51.100.0/120", "write the IPv4 network");
        refuse("::ffff:198.51.100.7", "write the IPv4 network");
        refuse("", "empty pattern");
        refuse("198.51.100.7,", "empty pattern");
        refuse("!", "empty pattern");
        refuse("!198.51.100.7", "lets nobody in");
    }
}
