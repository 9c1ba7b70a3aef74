//! For whom a request in absolute form is (RFC 9112 section 3.2.2, RFC 9110 section 7.4): this program answers for one
//! site, so one for another is misdirected, and what it has under the same path is not that site's.

use std::net::IpAddr;

use super::exchange::Exchange;
use crate::downstream::client::Client;
use crate::downstream::reply::Reply;
use crate::error::{Error, Kind, Side};
use crate::rt::Runtime;
use crate::sys::socket;

/// Answers a request for another host. `None`: it is for the origin, or for us.
pub(crate) async fn refuse<R: Runtime>(exchange: &Exchange<'_, R>, client: &Client<R>) -> Option<Reply> {
    let authority = exchange.request.authority()?;
    let local = socket::local_address(&client.socket).ok().map(|address| address.ip());
    let (config, machine) = (&exchange.context.shared.config, socket::host_name());
    if is_ours(authority, ["localhost", &config.origin.host, &config.host, &machine], local) {
        return None;
    }
    let error = Error::with(Side::Client, Kind::Misdirected, String::from_utf8_lossy(authority));
    exchange.log.debug(format_args!("request refused - {error}"));
    Some(exchange.send_error(client, &error).await)
}

/// Is this authority one of these names, the address of this connection, or a loopback address? Ports are not looked at:
/// before us there may be another program that listens on another one.
fn is_ours(authority: &[u8], names: [&str; 4], local: Option<IpAddr>) -> bool {
    let Some(host) = std::str::from_utf8(authority).ok().map(host) else { return false };
    if let Ok(address) = host.parse::<IpAddr>() {
        let address = address.to_canonical();
        let is = |known: IpAddr| known.to_canonical() == address;
        return address.is_loopback()
            || local.is_some_and(is)
            || names.iter().any(|known| known.parse().is_ok_and(is));
    }
    !host.is_empty() && names.iter().any(|known| host.eq_ignore_ascii_case(without_dot(known)))
}

/// The host of an authority, without port, brackets and the dot at its end.
fn host(authority: &str) -> &str {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    without_dot(host)
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_7_4_whose_authority_it_is() {
        let names = ["localhost", "pkgsrc.example.org.", "cache.example.org", "Box"];
        let local = Some("::ffff:192.0.2.7".parse().unwrap());
        let ours = |text: &str| is_ours(text.as_bytes(), names, local);
        for text in [
            "pkgsrc.example.org",
            "PKGSRC.example.org.:8080",
            "pkgsrc.example.org:81",
            "cache.EXAMPLE.org",
            "localhost",
            "LocalHost.:1",
            "box",
            "box.:9",
            "192.0.2.7",
            "192.0.2.7:8080",
            "[::ffff:192.0.2.7]:8080",
            "127.0.0.1",
            "127.1.2.3:5",
            "[::1]",
        ] {
            assert!(ours(text), "{text}");
        }
        for text in [
            "example.org",
            "pkgsrc.example.org.evil.test",
            "x.pkgsrc.example.org",
            "pkgsrc.example.org..",
            "192.0.2.8",
            "[2001:db8::1]",
            "localhost.evil.test",
            ".",
            "",
        ] {
            assert!(!ours(text), "{text}");
        }
        // An origin by its address, and a machine that has no name.
        let names = ["localhost", "2001:db8::1", "192.0.2.9", ""];
        for (text, due) in
            [("[2001:DB8:0::1]", true), ("192.0.2.9", true), ("[2001:db8::2]", false), (".", false)]
        {
            assert_eq!(is_ours(text.as_bytes(), names, None), due, "{text}");
        }
    }
}
