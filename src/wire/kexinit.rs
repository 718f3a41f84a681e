//! What a client offers before anything is agreed: its version line and its KEXINIT.
//!
//! Only looked at, to choose what to offer in turn; the SSH library reads the same bytes again and
//! judges them. So nothing in here is an error: what cannot be understood decides nothing.
//!
//! Source: RFC 4253, sections 4.2 (version line), 6 (packets), 7.1 (KEXINIT).

/// What the first bytes of a client tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Not enough bytes yet.
    Unfinished,
    /// It takes one of the ciphers asked for, in both directions.
    Has,
    /// It does not, or these bytes are something else.
    HasNot,
}

/// More bytes than a version line, the lines before it and a KEXINIT take; OpenSSH's is 1.5 KB.
pub const OFFER_BYTES_MAX: usize = 16 * 1024;

/// `SSH_MSG_KEXINIT`
const KEXINIT: u8 = 20;
const COOKIE_BYTES: usize = 16;
/// Lists before the ciphers: key exchange, host keys.
const LISTS_BEFORE_CIPHERS: usize = 2;

/// Whether the client offers one of `ciphers` for each direction. `bytes` is what it has sent so
/// far, from the first byte on.
#[must_use]
pub fn offers_any(bytes: &[u8], ciphers: &[&str]) -> Offer {
    if bytes.len() > OFFER_BYTES_MAX {
        return Offer::HasNot;
    }
    let Some(packet) = after_version(bytes) else {
        return Offer::Unfinished;
    };
    let Some((length, rest)) = number(packet) else {
        return Offer::Unfinished;
    };
    if length > OFFER_BYTES_MAX {
        return Offer::HasNot;
    }
    let Some(body) = rest.get(..length) else {
        return Offer::Unfinished;
    };
    let lists = body
        .split_first()
        .and_then(|(padding, rest)| rest.get(..rest.len().checked_sub(usize::from(*padding))?))
        .and_then(|payload| payload.strip_prefix(&[KEXINIT]))
        .and_then(|payload| payload.get(COOKIE_BYTES..));
    let has = lists.and_then(|lists| {
        let mut rest = lists;
        for _ in 0..LISTS_BEFORE_CIPHERS {
            (_, rest) = list(rest)?;
        }
        let (to_server, rest) = list(rest)?;
        let (to_client, _) = list(rest)?;
        let has_any = |list: &[u8]| {
            list.split(|byte| *byte == b',')
                .any(|name| ciphers.iter().any(|cipher| cipher.as_bytes() == name))
        };
        Some(has_any(to_server) && has_any(to_client))
    });
    if has == Some(true) {
        Offer::Has
    } else {
        Offer::HasNot
    }
}

/// What follows the version line; other lines may stand before it.
fn after_version(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = bytes.split_at(end + 1);
        if line.starts_with(b"SSH-") {
            return Some(rest);
        }
        bytes = rest;
    }
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_be_bytes(*number)).ok()?, rest))
}

fn list(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(bytes)?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GCM: [&str; 2] = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"];
    const STOCK: &str = "chacha20-poly1305@openssh.com,aes128-ctr,aes256-gcm@openssh.com";

    fn hello(before: &str, to_server: &str, to_client: &str) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; COOKIE_BYTES]);
        for list in ["curve25519-sha256", "ssh-ed25519", to_server, to_client, ""] {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.as_bytes());
        }
        let padding = 5;
        let mut bytes = format!("{before}SSH-2.0-OpenSSH_9.2\r\n").into_bytes();
        let length = u32::try_from(1 + payload.len() + usize::from(padding)).unwrap();
        bytes.extend(length.to_be_bytes());
        bytes.push(padding);
        bytes.extend(payload);
        bytes.extend(vec![0; usize::from(padding)]);
        bytes
    }

    #[test]
    fn a_cipher_counts_when_it_is_offered_in_both_directions() {
        for (to_server, to_client, want) in [
            (STOCK, STOCK, Offer::Has),
            ("aes128-gcm@openssh.com", STOCK, Offer::Has),
            (STOCK, "aes128-ctr", Offer::HasNot),
            ("aes128-ctr", STOCK, Offer::HasNot),
            ("xaes128-gcm@openssh.com", STOCK, Offer::HasNot),
            ("", "", Offer::HasNot),
        ] {
            let bytes = hello("", to_server, to_client);
            assert_eq!(offers_any(&bytes, &GCM), want, "{to_server} {to_client}");
        }
        let told = hello("hello\r\nthere\n", STOCK, STOCK);
        assert_eq!(offers_any(&told, &GCM), Offer::Has);
    }

    #[test]
    fn nothing_is_decided_before_the_last_byte_of_the_packet() {
        let bytes = hello("", STOCK, STOCK);
        for end in 0..bytes.len() {
            assert_eq!(offers_any(&bytes[..end], &GCM), Offer::Unfinished, "{end}");
        }
        let more = [bytes.as_slice(), b"and what follows"].concat();
        assert_eq!(offers_any(&more, &GCM), Offer::Has);
    }

    #[test]
    fn what_is_no_kexinit_decides_nothing() {
        let mut other = hello("", STOCK, STOCK);
        let at = other.iter().position(|byte| *byte == KEXINIT).unwrap();
        other[at] = 2;
        assert_eq!(offers_any(&other, &GCM), Offer::HasNot);
        assert_eq!(
            offers_any(b"SSH-2.0-x\r\n\xff\xff\xff\xff", &GCM),
            Offer::HasNot
        );
        assert_eq!(offers_any(b"SSH-2.0-x\r\n\0\0\0\0", &GCM), Offer::HasNot);
        assert_eq!(
            offers_any(&vec![b'x'; OFFER_BYTES_MAX + 1], &GCM),
            Offer::HasNot
        );
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(at in 0_usize..200, with: Vec<u8>) {
            let mut bytes = hello("", STOCK, STOCK);
            let at = at.min(bytes.len());
            bytes.splice(at.., with);
            prop_assert!(at == bytes.len() || offers_any(&bytes[..at], &GCM) == Offer::Unfinished);
            prop_assert!(offers_any(&bytes, &[]) != Offer::Has);
        }
    }
}
