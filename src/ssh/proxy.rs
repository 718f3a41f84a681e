//! The PROXY protocol, versions 1 and 2, from listed addresses only: who is behind a load balancer.
//!
//! Source: haproxy's `proxy-protocol.txt`. The header comes before the first byte of SSH. A peer
//! that is listed must send one; from anybody else it is garbage before the version string. What
//! the header says of the destination, and its TLVs, are not used.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::terms::limits;

/// Why a header cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadHeader {
    /// The stream ended or failed.
    #[error("the PROXY header did not arrive: {0}")]
    Lost(#[from] io::Error),
    /// It is none.
    #[error("the connection does not begin with a PROXY header, though its address is listed")]
    Missing,
    /// It says that it is longer than it may be.
    #[error(
        "bad PROXY header: longer than {} bytes",
        limits::PROXY_HEADER_BYTES_MAX
    )]
    TooLong,
    /// It breaks the rules of its version.
    #[error("bad PROXY header: {0}")]
    Malformed(&'static str),
}

/// `PROXY TCP4 ... \r\n` is at most this long (section 2.1).
const V1_BYTES_MAX: usize = 107;
const V1_START: &[u8; 6] = b"PROXY ";
/// Section 2.2.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Takes the header off the stream, byte for byte, and says who is behind it; `None`: the proxy
/// speaks for itself (health checks: v1 `UNKNOWN`, v2 `LOCAL`).
///
/// # Errors
/// [`BadHeader`]; the connection is of no use then.
pub(super) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<IpAddr>, BadHeader> {
    let mut start = [0; 6];
    stream.read_exact(&mut start).await?;
    if start == *V1_START {
        return read_v1(stream).await;
    }
    if !V2_SIGNATURE.starts_with(&start) {
        return Err(BadHeader::Missing);
    }
    let mut rest = [0; 10];
    stream.read_exact(&mut rest).await?;
    let [s1, s2, s3, s4, s5, s6, version, family, high, low] = rest;
    if !V2_SIGNATURE.ends_with(&[s1, s2, s3, s4, s5, s6]) {
        return Err(BadHeader::Missing);
    }
    let bytes = usize::from(u16::from_be_bytes([high, low]));
    if bytes > limits::PROXY_HEADER_BYTES_MAX {
        return Err(BadHeader::TooLong);
    }
    let mut body = vec![0; bytes];
    stream.read_exact(&mut body).await?;
    v2_source(version, family, &body)
}

async fn read_v1(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, BadHeader> {
    let mut line = Vec::new();
    while line.len() + V1_START.len() < V1_BYTES_MAX {
        line.push(stream.read_u8().await?);
        if let Some(text) = line.strip_suffix(b"\r\n") {
            let text = std::str::from_utf8(text)
                .map_err(|_| BadHeader::Malformed("version 1 is not ASCII"))?;
            return v1_source(text);
        }
    }
    Err(BadHeader::Malformed("version 1 is longer than 107 bytes"))
}

/// What is between `PROXY ` and the line end.
fn v1_source(text: &str) -> Result<Option<IpAddr>, BadHeader> {
    let mut words = text.split(' ');
    let (family, source) = (words.next().unwrap_or_default(), words.next());
    let malformed = BadHeader::Malformed("version 1 needs TCP4 or TCP6, two addresses, two ports");
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let (Some(source), Some(_), Some(from), Some(to), None) = (
        source,
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ) else {
        return Err(malformed);
    };
    if from.parse::<u16>().is_err() || to.parse::<u16>().is_err() {
        return Err(malformed);
    }
    match family {
        "TCP4" => source.parse::<Ipv4Addr>().map(IpAddr::V4).map(Some),
        "TCP6" => source.parse::<Ipv6Addr>().map(IpAddr::V6).map(Some),
        _ => return Err(malformed),
    }
    .map_err(|_| malformed)
}

fn v2_source(version: u8, family: u8, body: &[u8]) -> Result<Option<IpAddr>, BadHeader> {
    const SHORT: BadHeader = BadHeader::Malformed("version 2 is shorter than its addresses");
    match version {
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(BadHeader::Malformed("neither version 2.0 LOCAL nor PROXY")),
    }
    match family {
        // TCP over IPv4: source, destination, two ports.
        0x11 => {
            let (source, rest) = body.split_first_chunk::<4>().ok_or(SHORT)?;
            rest.first_chunk::<8>().ok_or(SHORT)?;
            Ok(Some(IpAddr::V4(Ipv4Addr::from(*source))))
        }
        // The same over IPv6.
        0x21 => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(SHORT)?;
            rest.first_chunk::<20>().ok_or(SHORT)?;
            Ok(Some(IpAddr::V6(Ipv6Addr::from(*source))))
        }
        _ => Err(BadHeader::Malformed(
            "version 2 is not TCP over IPv4 or IPv6",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<(Option<IpAddr>, usize), String> {
        let mut rest = bytes;
        let source = read_header(&mut rest).await.map_err(|e| e.to_string())?;
        Ok((source, rest.len()))
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family][..], &length, body].concat()
    }

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[tokio::test]
    async fn the_examples_of_the_text_are_read_and_nothing_behind_them_is_taken() {
        let v1 = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nSSH-2.0-x\r\n";
        assert_eq!(read(v1).await, Ok((ip("192.168.0.1"), 11)));
        let v1 = b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 65535\r\nSSH";
        assert_eq!(read(v1).await, Ok((ip("2001:db8::1"), 3)));
        assert_eq!(read(b"PROXY UNKNOWN\r\nS").await, Ok((None, 1)));
        let ports = [0, 1, 0, 2];
        let four = [&[192, 0, 2, 1, 192, 0, 2, 2][..], &ports].concat();
        let bytes = [v2(0x21, 0x11, &four), b"SSH".to_vec()].concat();
        assert_eq!(read(&bytes).await, Ok((ip("192.0.2.1"), 3)));
        let tlvs = [&four[..], &[3, 0, 1, 9]].concat();
        assert_eq!(read(&v2(0x21, 0x11, &tlvs)).await, Ok((ip("192.0.2.1"), 0)));
        let address = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        let six = [&address[..], &address, &ports].concat();
        assert_eq!(
            read(&v2(0x21, 0x21, &six)).await,
            Ok((ip("2001:db8::7"), 0))
        );
        assert_eq!(read(&v2(0x20, 0x00, &[])).await, Ok((None, 0)));
    }

    #[tokio::test]
    async fn what_breaks_the_rules_is_refused() {
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        let bad: [&[u8]; 10] = [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 x\r\n",
            b"PROXY TCP4 2001:db8::1 192.168.0.11 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 70000 2\r\n",
            b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY \xff\r\n",
            b"\r\n\r\n\0\rXXXXXX\x21\x11\0\0",
            b"PROXY TCP4",
            &long,
        ];
        for bytes in bad {
            assert!(read(bytes).await.is_err(), "{bytes:?}");
        }
        for (command, family, body) in [
            (0x31, 0x11, &[0; 12][..]),
            (0x22, 0x11, &[0; 12]),
            (0x21, 0x12, &[0; 12]),
            (0x21, 0x11, &[0; 11]),
            (0x21, 0x21, &[0; 35]),
            (0x21, 0x11, &[0; 5000]),
        ] {
            assert!(read(&v2(command, family, body)).await.is_err());
        }
    }
}
